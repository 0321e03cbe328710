"""The processes of one training as one: who writes, what all agree on, and what the loss of one means for the others.

Waiting for another process that works (an evaluation, a plot) goes through the store and has no time limit; collectives
have one, since in them everybody is in the same place of the program.
"""

import ctypes
import json
import logging
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from tunesmith_trainer import log
from tunesmith_trainer.distributed import RANK_VARIABLE
from tunesmith_trainer.errors import PreemptedError, StageError, WorkerLostError, error_of
from tunesmith_trainer.preemption import Preemption

#: Environment variable: seconds that a collective waits for the others before they count as lost.
TIMEOUT_VARIABLE = "TUNESMITH_COLLECTIVE_TIMEOUT_SECONDS"
_TIMEOUT_SECONDS = 300
#: Seconds between two looks at the store: short at first.
_FIRST_LOOK, _LAST_LOOK = 0.002, 0.5
#: Seconds that rank 0 keeps the store open at the end for processes that still read.
_FAREWELL_SECONDS, _BRIEF_FAREWELL_SECONDS = 30.0, 5.0
#: How gloo, NCCL and the store say that another process is gone.
_LOST = re.compile(
    r"Connection (closed|reset) by peer|Broken pipe|Timed out waiting|Application timeout caused pair closure"
    r"|gloo/transport|ncclRemoteError|ncclSystemError|NCCL communicator was aborted"
)


# torch's documented stores, which its type stubs do not name.
_TCPStore: Any = vars(distributed)["TCPStore"]
_PrefixStore: Any = vars(distributed)["PrefixStore"]


@dataclass
class Gang:
    """This process among those of its training.

    Attributes:
        rank: its number; rank 0 writes every file that is not of one process alone.
        world: how many there are.
        store: what they tell each other outside of collectives; None when there is only one.
    """

    rank: int = 0
    world: int = 1
    store: Any = None
    _calls: int = field(default=0, repr=False)

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def lead_only(self, work: Callable[[], Any]) -> Any:
        """What `work` gives, done by rank 0 while the others wait; JSON values only.

        Raises:
            StageError: what it raised on rank 0, raised by all.
        """
        if self.store is None:
            return work()
        key = self._next_key()
        if not self.leads:
            return _opened(json.loads(self._read(key)))
        try:
            result = work()
        except StageError as error:
            self.store.set(key, json.dumps({"code": int(error.exit_code), "message": str(error)}))
            raise
        self.store.set(key, json.dumps({"result": result}))
        return result

    def total(self, values: list[float]) -> list[float]:
        """The sums over all processes of some numbers; a collective."""
        if self.world == 1:
            return values
        sums = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(sums)
        return [float(value) for value in sums]

    def meet(self) -> None:
        """Wait until every process is here, however long they work before."""
        if self.store is None:
            return
        key = self._next_key()
        self.store.set(f"{key}/{self.rank}", "")
        for rank in range(self.world):
            self._read(f"{key}/{rank}")

    def _next_key(self) -> str:
        self._calls += 1
        return f"call/{self._calls}"

    def _read(self, key: str) -> str:
        look = _FIRST_LOOK
        while not self.store.check([key]):
            time.sleep(look)
            look = min(look * 2, _LAST_LOOK)
        text: str = self.store.get(key).decode()
        return text


def _opened(message: dict[str, Any]) -> Any:
    if "code" in message:
        raise error_of(message["code"], message["message"]) or WorkerLostError(message["message"])
    return message["result"]


@contextmanager
def joined(preemption: Preemption, environ: Mapping[str, str] = os.environ) -> Iterator[Gang]:
    """The gang that the environment describes, while inside; a gang of one without the variables of torchrun.

    Raises:
        WorkerLostError: another process is gone.
        PreemptedError: another process is gone since SIGTERM ended it, as it did this one.
    """
    if RANK_VARIABLE not in environ:
        yield Gang()
        return
    _die_with_parent()
    try:
        gang = _join(environ)
        try:
            yield gang
            _part(gang, _FAREWELL_SECONDS)
        except StageError:
            with suppress(distributed.DistError):
                _part(gang, _BRIEF_FAREWELL_SECONDS)  # most errors are raised by all, some not
            raise
        finally:
            distributed.destroy_process_group()
    except RuntimeError as error:
        if not is_loss(error):
            raise
        log.warn("a process of the training is gone", seen=str(error)[:500])
        if preemption.requested:
            raise PreemptedError("SIGTERM was received; the other processes have ended") from error
        raise WorkerLostError(f"another training process is gone: {_first_line(error)}") from error


def is_loss(error: BaseException) -> bool:
    """Whether an error says that another process is gone."""
    return isinstance(error, distributed.DistError) or bool(_LOST.search(_first_line(error)))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _join(environ: Mapping[str, str]) -> Gang:
    rank, world = int(environ[RANK_VARIABLE]), int(environ["WORLD_SIZE"])
    limit = timedelta(seconds=int(environ.get(TIMEOUT_VARIABLE, _TIMEOUT_SECONDS)))
    if torch.cuda.is_available():
        torch.cuda.set_device(int(environ["LOCAL_RANK"]))
    store = _meet_at(environ["MASTER_ADDR"], int(environ["MASTER_PORT"]), rank, world, limit)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(
        backend, store=_PrefixStore("group", store), rank=rank, world_size=world, timeout=limit
    )
    log.info("joined", rank=rank, world=world)
    if rank != 0:
        log.LOGGER.setLevel(logging.WARNING)  # what rank 0 says holds for all
    return Gang(rank, world, _PrefixStore("gang", store) if world > 1 else None)


def _meet_at(host: str, port: int, rank: int, world: int, limit: timedelta) -> Any:
    """The store of rank 0, once every process is there.

    A process that comes again while the store of the lost training is still up is told so by its own earlier mark: it
    waits for the next store. So pods may be replaced one by one and in any order.
    """
    while True:
        store = _open_store(host, port, rank, world, limit)
        try:
            if store.add(f"here/{rank}", 1) == 1 and _all_here(store, world):
                return store
        except distributed.DistError:
            if rank == 0:
                raise
        del store
        time.sleep(_LAST_LOOK)


def _open_store(host: str, port: int, rank: int, world: int, limit: timedelta) -> Any:
    if rank != 0:
        _await_port(host, port)
    host = host if rank != 0 else "localhost"  # its own name may not resolve yet
    return _TCPStore(host, port, world, is_master=rank == 0, timeout=limit, wait_for_workers=False, use_libuv=True)


def _await_port(host: str, port: int) -> None:
    """Wait until rank 0 listens; its name may not resolve before its pod has started. SIGTERM ends the wait."""
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError:
            time.sleep(_LAST_LOOK)
        else:
            return


def _all_here(store: Any, world: int) -> bool:
    keys = [f"here/{rank}" for rank in range(world)]
    while not store.check(keys):
        time.sleep(_LAST_LOOK / 10)
    return True


def _part(gang: Gang, seconds: float) -> None:
    """Rank 0 keeps the store open until the others have read all they wait for."""
    if gang.store is None:
        return
    gang.store.set(f"parted/{gang.rank}", "")
    keys = [f"parted/{rank}" for rank in range(gang.world)]
    deadline = time.monotonic() + seconds
    while gang.leads and not gang.store.check(keys) and time.monotonic() < deadline:
        time.sleep(_FIRST_LOOK * 10)


def _die_with_parent() -> None:
    """Let the kernel send SIGTERM when the launcher is gone (`man 2 prctl`, PR_SET_PDEATHSIG)."""
    if hasattr(ctypes.CDLL(None), "prctl"):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
