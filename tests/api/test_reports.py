"""Tests of the termination message."""

import pytest

from tunesmith_api.enums import DataFormat
from tunesmith_api.exits import FailureCategory
from tunesmith_api.finetunejob import DatasetStatus
from tunesmith_api.jobconfig import Stage
from tunesmith_api.reports import TERMINATION_LIMIT_BYTES, Failure, Termination, decode_termination


def dataset(warnings: list[str]) -> DatasetStatus:
    """A data set's status with some warnings."""
    return DatasetStatus(
        examples=9,
        evaluation_examples=1,
        tokens=100,
        longest_tokens=20,
        format=DataFormat.MESSAGES,
        digest="0" * 64,
        warnings=warnings,
    )


def test_a_termination_message_reads_back() -> None:
    """What a stage encodes is what the operator decodes."""
    message = Termination(stage=Stage.PREPARE, exit_code=0, dataset=dataset(["one row was cut"]))

    assert decode_termination(message.encode()) == message


def test_a_long_message_is_shortened_to_what_the_kubelet_keeps() -> None:
    """Warnings go first and the failure's text is cut; the numbers stay."""
    failure = Failure(category=FailureCategory.BAD_DATA, message="x" * 2048, resolution="y")
    message = Termination(stage=Stage.PREPARE, exit_code=65, dataset=dataset(["w" * 2000] * 8), failure=failure)

    text = message.encode()

    assert len(text.encode()) <= TERMINATION_LIMIT_BYTES
    short = decode_termination(text)
    assert short is not None
    assert short.dataset is not None
    assert short.dataset.tokens == 100
    assert short.dataset.warnings == []


@pytest.mark.parametrize("text", [None, "", "Killed", "{}", '{"stage": "lunch", "exitCode": 0}'])
def test_a_foreign_message_is_none(text: str | None) -> None:
    """A message that no stage of ours wrote, as after SIGKILL, is told apart."""
    assert decode_termination(text) is None
