"""Where a job could train, as the planner sees it: this machine, and the ComputePools of a file."""

import importlib
import time
from pathlib import Path
from typing import Any

from tunesmith_api import ComputePool, InvalidResourceError, parse_resource
from tunesmith_api.compute import ComputeSpec
from tunesmith_api.computepool import ComputePoolStatus
from tunesmith_api.enums import PoolClass
from tunesmith_api.planner import DataSize, PoolOffer, asks_for
from tunesmith_api.quantity import parse_quantity
from tunesmith_cli.errors import CliError
from tunesmith_cli.machine import MACHINE, Machine
from tunesmith_cli.manifest import is_ours, read_documents

#: Side of the probe's matrices: large enough that the product and not its start is timed.
_PROBE_WIDTH = 1536
_PROBE_ROUNDS = 3
#: Characters of a token, about, in English text (OpenAI's documentation on tokens).
_TOKEN_CHARACTERS = 4


def machine_offer(machine: Machine) -> PoolOffer:
    """This machine as a pool of one node; its arithmetic is measured."""
    return PoolOffer(MACHINE, PoolClass.CPU, machine.memory_bytes, teraflops=probe_teraflops(), nodes=1)


def probe_teraflops() -> float | None:
    """The fastest of a few fp32 matrix products, in 10^12 operations per second; None without numpy."""
    try:
        numpy: Any = importlib.import_module("numpy")
    except ImportError:
        return None
    left = numpy.ones((_PROBE_WIDTH, _PROBE_WIDTH), dtype=numpy.float32)
    best = float("inf")
    for _ in range(_PROBE_ROUNDS):
        began = time.perf_counter()
        left @ left
        best = min(best, time.perf_counter() - began)
    return float(2 * _PROBE_WIDTH**3 / best / 1e12)


def file_offers(path: Path) -> list[PoolOffer]:
    """The ComputePools of a file; their nodes' memory is known from `status`, as `kubectl get -o yaml` prints it.

    Raises:
        CliError: the file has no ComputePool, or one that is not valid.
    """
    pools = []
    for document in [document for document in read_documents(path) if is_ours(document)]:
        items = document.get("items", [document]) if isinstance(document, dict) else [document]
        pools += [_pool(path, item) for item in items]
    found = [_offer(pool) for pool in pools if isinstance(pool, ComputePool)]
    if not found:
        raise CliError(f"{path}: has no ComputePool; write one, or save those of a cluster: kubectl get cpool -o yaml")
    return found


def asked_offers(path: Path, compute: ComputeSpec) -> list[PoolOffer]:
    """Of a file's ComputePools those that a job may go to.

    Raises:
        CliError: as `file_offers`, or the job asks for none of them.
    """
    offers = file_offers(path)
    found = [offer for offer in offers if asks_for(compute, offer.name, offer.device_class)]
    if not found:
        field, asked = ("class", compute.device_class) if compute.pool is None else ("pool", compute.pool)
        listed = ", ".join(f"{offer.name} ({offer.device_class})" for offer in offers)
        raise CliError(f"spec.compute.{field}: {asked}: {path} has only {listed}; ask for one of these, or for none")
    return found


def _pool(path: Path, item: object) -> object:
    try:
        return parse_resource(item)
    except InvalidResourceError as error:
        raise CliError("\n".join(f"{path}: {problem}" for problem in error.problems)) from error


def _offer(pool: ComputePool) -> PoolOffer:
    spec, status = pool.spec, pool.status or ComputePoolStatus()
    largest, memory = status.largest_node, spec.device.memory if spec.device else None
    return PoolOffer(
        name=pool.metadata.name,
        device_class=spec.device_class,
        host_bytes=int(parse_quantity(largest.memory)) if largest else None,
        device_bytes=int(parse_quantity(memory)) if memory else None,
        price_per_hour=spec.price_per_hour,
        teraflops=spec.teraflops,
        nodes=status.nodes,
        devices=largest.devices if largest and spec.device else None,
    )


def data_size(path: Path | None) -> DataSize:
    """Rows and tokens, about, of a local file of JSON lines; unknown for anything else."""
    if path is None or not path.is_file() or path.suffix != ".jsonl":
        return DataSize()
    text = path.read_text(encoding="utf-8", errors="replace")
    rows = sum(1 for line in text.splitlines() if line.strip())
    return DataSize(rows, len(text) // _TOKEN_CHARACTERS)
