"""Retries and the words of a large transfer, by a clock of the test's own."""

from collections.abc import Callable, Iterator

import pytest

from tunesmith_trainer.errors import InputNotFoundError, ServiceUnavailableError
from tunesmith_trainer.retry import ATTEMPTS_VARIABLE, FIRST_WAIT_VARIABLE, Retry, TransientError, retry_from
from tunesmith_trainer.transfer import Meter


def failing(outcomes: list[Exception | int]) -> Callable[[], int]:
    """Raises or returns one outcome after the other."""
    left: Iterator[Exception | int] = iter(outcomes)

    def attempt() -> int:
        found = next(left)
        if isinstance(found, Exception):
            raise found
        return found

    return attempt


@pytest.mark.parametrize(("jitter", "waits"), [(0.0, [0.5, 1, 2, 4, 5]), (1.0, [1, 2, 4, 8, 10])])
def test_waits_double_up_to_a_bound(jitter: float, waits: list[float]) -> None:
    """Half of each wait is fixed, the other half is by chance."""
    slept: list[float] = []
    retry = Retry(attempts=6, longest_seconds=10, sleep=slept.append, jitter=lambda: jitter)
    with pytest.raises(ServiceUnavailableError, match=r"^here: gone \(tried 6 times\)$"):
        retry.call("here", failing([TransientError("gone")] * 6))
    assert slept == waits


@pytest.mark.parametrize(
    ("asked", "wait"),
    [
        ("7", 7),
        ("0", 1),
        ("86400", 120),
        ("Thu, 01 Jan 1970 00:17:10 GMT", 30),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 1),
        ("soon", 1),
        ("Thu, 99 Jan 1970", 1),
        ("-5", 1),
        ("", 1),
    ],
)
def test_a_wait_that_the_host_asks_for_is_kept(asked: str, wait: float) -> None:
    """Seconds or a date, up to a bound; what is shorter than our own wait, or cannot be read, changes nothing."""
    slept: list[float] = []
    retry = Retry(sleep=slept.append, jitter=lambda: 1.0, clock=lambda: 1000.0)
    assert retry.call("here", failing([TransientError("answers 429", asked), 7])) == 7
    assert slept == [wait]


def test_what_will_not_pass_is_not_tried_again() -> None:
    """Only a TransientError is worth another attempt."""
    retry = Retry(sleep=lambda _: pytest.fail("waited"))
    with pytest.raises(InputNotFoundError):
        retry.call("here", failing([InputNotFoundError("no"), 1]))


def test_progress_starts_the_count_anew() -> None:
    """A transfer that brings something each time may be cut more often than one that stands still."""
    reached = iter([0, 10, 10, 20, 20, 30, 30, 30])
    retry = Retry(attempts=2, sleep=lambda _: None)
    cut = TransientError("cut")
    assert retry.call("here", failing([cut, cut, cut, 7]), progress=lambda: next(reached)) == 7


def test_what_was_reached_before_is_no_progress() -> None:
    """A transfer that begins anew, and comes as far as it had been, has not got on."""
    reached = iter([0, 10, 10, 0, 0, 10, 10])
    retry = Retry(attempts=3, sleep=lambda _: None)
    with pytest.raises(ServiceUnavailableError, match="tried 3 times"):
        retry.call("here", failing([TransientError("cut")] * 3), progress=lambda: next(reached))


def test_the_environment_says_how_often() -> None:
    """Two variables, and defaults without them."""
    found = retry_from({ATTEMPTS_VARIABLE: "2", FIRST_WAIT_VARIABLE: "0.25"})
    assert (found.attempts, found.first_seconds) == (2, 0.25)
    assert retry_from({}).attempts == Retry().attempts


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """The fields of the lines that were logged."""
    return [record.fields for record in caplog.records]  # type: ignore[attr-defined]


def test_a_large_file_tells_percent_and_rate(caplog: pytest.LogCaptureFixture) -> None:
    """A line for each tenth; 100 MiB per second by this clock."""
    caplog.set_level("INFO", "tunesmith")
    now = iter(step / 10 for step in range(1000))
    meter = Meter("s3://box/model.safetensors", 1000 << 20, clock=lambda: next(now))
    for _ in range(100):
        meter.add(10 << 20)
    assert [line["percent"] for line in lines(caplog)] == list(range(10, 101, 10))
    assert {line["file"] for line in lines(caplog)} == {"s3://box/model.safetensors"}
    assert all(float(str(line["mib_per_second"])) > 0 for line in lines(caplog))


def test_a_slow_file_tells_every_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    """Also where no tenth was reached."""
    caplog.set_level("INFO", "tunesmith")
    seconds = [0.0]
    meter = Meter("slow", 1000 << 20, done=100 << 20, clock=lambda: seconds[0])
    for _ in range(25):
        seconds[0] += 1
        meter.add(1 << 20)
    assert [(line["percent"], line["mib_per_second"]) for line in lines(caplog)] == [(11, 1.0), (12, 1.0)]


def test_a_small_file_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A configuration file is not worth a line."""
    caplog.set_level("INFO", "tunesmith")
    Meter("small", 1000, clock=lambda: 0).add(1000)
    assert lines(caplog) == []
