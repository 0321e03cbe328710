"""Tests of deriving threads from the cgroup."""

import pytest

from tunesmith_server.cpu import cpu_limit, thread_count


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "400000 100000"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.5),
        ({}, None),
    ],
)
def test_both_cgroup_versions_are_read(tmp_path, files, limit):
    """The quota is read from version 2's and version 1's files, and none means no limit."""
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert cpu_limit(tmp_path) == limit


@pytest.mark.parametrize(
    ("limit", "available", "threads"), [(None, 8, 8), (1.5, 8, 1), (0.1, 8, 1), (4, 8, 4), (16, 8, 8)]
)
def test_threads_are_whole_cpus(limit, available, threads):
    """As many threads as whole CPUs, never none, never more than the machine has."""
    assert thread_count(limit, available) == threads
