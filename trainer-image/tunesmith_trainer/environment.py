"""The process's environment, settled before any heavy library is loaded: telemetry, threads, file modes."""

import ctypes
import gc
import math
import os
import resource
import sys
from collections.abc import MutableMapping
from pathlib import Path

_QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "OLIVE_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "MPLBACKEND": "Agg",
}
_CGROUP = Path("/sys/fs/cgroup/cpu.max")


def available_cpus(cgroup_limit: str, visible: int) -> int:
    """CPUs that this process may use: the cgroup's quota, rounded up, or what is visible when there is none.

    Args:
        cgroup_limit: the content of cgroup v2's `cpu.max`, such as `150000 100000` or `max 100000`.
        visible: CPUs of the affinity mask.
    """
    quota, _, period = cgroup_limit.strip().partition(" ")
    if not quota.isdigit() or not period.isdigit():
        return visible
    return max(1, min(visible, math.ceil(int(quota) / int(period))))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def settle_environment(environ: MutableMapping[str, str] = os.environ) -> None:
    """Turn every library's telemetry off, size OpenMP by the CPU limit, and make new files readable by other users.

    OpenMP waits passively: spinning made a small job 18 times slower where one of two cores was busy.
    """
    environ.update(_QUIET)
    cpus = available_cpus(_read(_CGROUP), len(os.sched_getaffinity(0)))
    environ.setdefault("OMP_NUM_THREADS", str(cpus))
    environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.umask(0o022)


def worker_threads(environ: MutableMapping[str, str] = os.environ) -> int:
    """Threads that a numeric library should use; what `settle_environment` decided, or the user."""
    value = environ.get("OMP_NUM_THREADS", "")
    return int(value) if value.isdigit() and int(value) > 0 else 1


def peak_resident_bytes() -> int:
    """The most memory that this process has held, in bytes.

    On Linux the kernel's high-water mark of the address space: `ru_maxrss` starts at what the parent held when it
    forked, so that a stage started by a large process would look large itself.
    """
    for line in _read(Path("/proc/self/status")).splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def return_memory() -> None:
    """Return the heap's free pages to the system, where glibc has kept them.

    Between phases that use blocks of different sizes: what one leaves free does not fit the next, whose blocks would
    come on top. A device's memory is not touched.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
