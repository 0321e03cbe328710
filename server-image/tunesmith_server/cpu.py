"""How many threads this container may keep busy, from the cgroup's CPU quota.

Two spinning threads on a one-CPU quota were measured at a third of one thread's speed, so the quota and not the
host's core count decides.
"""

import math
import os
from pathlib import Path


def quota_v2(text: str) -> float | None:
    """CPUs allowed by a cgroup v2 `cpu.max` file ("max 100000" or "150000 100000"); None without a limit."""
    quota, _, period = text.strip().partition(" ")
    if quota == "max":
        return None
    return int(quota) / int(period or 100_000)


def quota_v1(quota: str, period: str) -> float | None:
    """CPUs allowed by a cgroup v1 `cpu.cfs_quota_us` and `cpu.cfs_period_us`; None without a limit (-1)."""
    microseconds = int(quota.strip())
    return None if microseconds <= 0 else microseconds / int(period.strip())


def cpu_limit(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """The quota of the cgroup mounted at `root`, v2 first, then v1; None when neither states one."""
    if (unified := root / "cpu.max").is_file():
        return quota_v2(unified.read_text())
    quota, period = root / "cpu" / "cpu.cfs_quota_us", root / "cpu" / "cpu.cfs_period_us"
    if quota.is_file() and period.is_file():
        return quota_v1(quota.read_text(), period.read_text())
    return None


def thread_count(limit: float | None, available: int) -> int:
    """Threads for a limit of so many CPUs on a machine with `available` usable ones: whole CPUs, at least one."""
    return max(1, available if limit is None else min(available, math.floor(limit)))


def threads() -> int:
    """`thread_count` for this process."""
    return thread_count(cpu_limit(), len(os.sched_getaffinity(0)))
