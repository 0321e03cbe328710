"""Background processes: started once, told apart from later ones with their pid, stopped for good."""

import dataclasses
import os
import sys
import time

import pytest

from cluster import daemon
from cluster.errors import ClusterError

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
DIE = [sys.executable, "-c", "print('no luck')"]


@pytest.fixture
def sleeper(tmp_path):
    """A started process and the folder that it is recorded in."""
    started = daemon.start(tmp_path, "sleeper", SLEEP, {})
    yield tmp_path, started
    daemon.stop(tmp_path, started)


def test_a_running_process_is_not_started_again(sleeper):
    """`ensure` starts only what does not run."""
    root, started = sleeper
    assert daemon.ensure(root, "sleeper", SLEEP) is False
    assert daemon.find(root, "sleeper") == started


def test_stop_ends_and_forgets_the_process(sleeper):
    """After `stop` the process is gone and its record too."""
    root, started = sleeper
    daemon.stop(root, started)
    assert not started.alive
    assert daemon.find(root, "sleeper") is None


def test_a_later_process_with_the_same_pid_is_not_ours(tmp_path):
    """A record whose start time differs is dead, and stopping it harms nobody."""
    started = daemon.start(tmp_path, "sleeper", SLEEP, {})
    reused = dataclasses.replace(started, started=started.started - 1)
    daemon.stop(tmp_path, reused)
    assert not reused.alive
    assert started.alive
    daemon.stop(tmp_path, started)


def test_what_died_is_forgotten_and_what_runs_is_not(sleeper):
    """After a restart of the machine, waiting for a new process does not trip over the records of the old ones."""
    root, started = sleeper
    unlucky = daemon.start(root, "unlucky", DIE, {})
    while unlucky.alive:
        time.sleep(0.01)
    assert daemon.forget_dead(root) == ["unlucky"]
    assert list(daemon.recorded(root)) == [started]
    answers = iter([False, True])
    daemon.wait_until("the second answer", lambda: next(answers), root)


def test_waiting_ends_early_with_the_log_of_what_died(tmp_path):
    """A process that dies while it is waited for is named, with the end of its output."""
    daemon.start(tmp_path, "unlucky", DIE, {})
    with pytest.raises(ClusterError, match=r"unlucky stopped while waiting for luck\.\n(.|\n)*no luck"):
        daemon.wait_until("luck", lambda: False, tmp_path, seconds=60)


def test_waiting_in_vain_names_what_was_waited_for(tmp_path):
    """The limit gives an error that says what did not come."""
    with pytest.raises(ClusterError, match="Waited 0 s for nothing"):
        daemon.wait_until("nothing", lambda: False, tmp_path, seconds=0)


def test_this_process_has_a_start_time():
    """The start time comes from /proc and is absent for a pid that nobody has."""
    assert daemon._start_time(os.getpid())
    assert daemon._start_time(2**22 + 1) is None
