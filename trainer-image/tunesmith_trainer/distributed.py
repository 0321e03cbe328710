"""Which training processes a job has, and what each of them is told: the variables that torchrun sets. No torch."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from tunesmith_api.enums import Strategy
from tunesmith_api.finetunejob import DistributionSpec
from tunesmith_api.jobconfig import RENDEZVOUS_PORT, RENDEZVOUS_VARIABLE, WORKER_INDEX_VARIABLE
from tunesmith_trainer.errors import BadConfigError

#: Its presence tells a process that it is one of several; as under torchrun.
RANK_VARIABLE = "RANK"
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Layout:
    """The processes of one pod among all of them.

    Attributes:
        workers: pods.
        processes: training processes in each pod.
        worker: index of this pod.
        host: where rank 0 is reached.
        port: its port.
    """

    workers: int
    processes: int
    worker: int
    host: str
    port: int

    @property
    def world(self) -> int:
        """Processes in all."""
        return self.workers * self.processes

    def rank(self, local_rank: int) -> int:
        """The number of a process among all: those of pod 0 come first."""
        return self.worker * self.processes + local_rank

    def variables(self, local_rank: int) -> dict[str, str]:
        """What a process is told, by the names that torch.distributed, accelerate and DeepSpeed read."""
        return {
            RANK_VARIABLE: str(self.rank(local_rank)),
            "WORLD_SIZE": str(self.world),
            "LOCAL_RANK": str(local_rank),
            "LOCAL_WORLD_SIZE": str(self.processes),
            "MASTER_ADDR": self.host,
            "MASTER_PORT": str(self.port),
        }


def layout_of(spec: DistributionSpec, environ: Mapping[str, str] = os.environ) -> Layout | None:
    """How a job's processes are laid out; None for a training in one process without a strategy.

    Raises:
        BadConfigError: several pods, and the environment does not say which one this is or where they meet.
    """
    if spec.strategy in {Strategy.NONE, Strategy.AUTO}:
        return None
    if spec.workers == 1:
        return Layout(1, spec.processes_per_worker, 0, _LOOPBACK, free_port())
    host, port = _rendezvous(environ.get(RENDEZVOUS_VARIABLE, ""))
    return Layout(spec.workers, spec.processes_per_worker, _worker(spec.workers, environ), host, port)


def _worker(workers: int, environ: Mapping[str, str]) -> int:
    text = environ.get(WORKER_INDEX_VARIABLE, "")
    if not text.isdigit() or int(text) >= workers:
        raise BadConfigError(
            f"spec.distribution.workers: {workers} workers need {WORKER_INDEX_VARIABLE} from 0 to {workers - 1}"
            f" (is {text!r}); a local run has one worker: set processesPerWorker instead"
        )
    return int(text)


def _rendezvous(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":") if ":" in text else (text, "", str(RENDEZVOUS_PORT))
    if not host or not port.isdigit():
        raise BadConfigError(
            f"spec.distribution.workers: several workers need {RENDEZVOUS_VARIABLE}=host:port of worker 0 (is {text!r})"
        )
    return host.strip("[]"), int(port)


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
