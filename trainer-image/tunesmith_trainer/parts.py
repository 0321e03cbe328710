"""One tokenised part of the data, training or evaluation: written row by row, and reused while its inputs are alike."""

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from tunesmith_api.enums import DataFormat
from tunesmith_api.reports import SAMPLE_COUNT, Sample
from tunesmith_trainer.encode import EncodedRow
from tunesmith_trainer.encoded import RowWriter
from tunesmith_trainer.errors import BadDataError
from tunesmith_trainer.examples import Example
from tunesmith_trainer.fingerprints import FingerprintWriter, repeats
from tunesmith_trainer.instructions import Instruction
from tunesmith_trainer.recipe import RowEncoder
from tunesmith_trainer.samples import sample_of
from tunesmith_trainer.tally import Tally
from tunesmith_trainer.workspace import read_json, write_json

#: What dropped and cut rows lack, by whether a row needs its end.
_DROPPED = {True: "their prompts fill all", False: "what is asked leaves no room in"}
_CUT = {True: "their answers lack the end", False: "what comes after is not read"}

#: Examples are tokenised when there are so many, or when their contents have so many bytes: more are no faster.
_BATCH_ROWS, _BATCH_BYTES = 64, 1 << 16


class PartReport(BaseModel):
    """What a part holds; lies beside its rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    """Digest of all that the rows were made of."""
    format: DataFormat
    """Layout of the rows that were read."""
    examples: int
    """Rows that are learnt or measured."""
    tokens: int
    """Tokens of them."""
    longest_tokens: int
    """Tokens of the longest."""
    digest: str
    """SHA-256 over the converted rows."""
    labels: list[str] = Field(default_factory=list)
    """Names of the classes."""
    multiple_labels: bool = False
    """Whether a text may have any number of classes."""
    warnings: list[str] = Field(default_factory=list)
    """What a person may want to know."""
    files: list[str] = Field(default_factory=list)
    """Files that the rows came from, in the order of their numbers among the fingerprints."""
    samples: list[Sample] = Field(default_factory=list)
    """The first rows as people read them."""


@dataclass(frozen=True)
class PartFiles:
    """Where a part lies: its rows, and its report and fingerprints beside them."""

    rows: Path

    @property
    def report(self) -> Path:
        """The PartReport."""
        return self.rows.with_suffix(".json")

    @property
    def fingerprints(self) -> Path:
        """What each example is known by, and its row."""
        return self.rows.with_suffix(".fingerprints")

    def complete(self, key: str) -> PartReport | None:
        """The report of what an earlier run wrote with the same key; None when it must be made."""
        found = read_json(self.report)
        if found is None or found.get("key") != key or not self.rows.is_file() or not self.fingerprints.is_file():
            return None
        return PartReport.model_validate(found)


@dataclass(frozen=True)
class Making:
    """How a part is made.

    Attributes:
        field: the spec's field, for messages.
        encoder: tokenises its examples.
        row: dataclass of the tokenised rows.
        limit: longest row in tokens.
        with_files: whether messages name rows with their files.
        instruction: what a served model must be asked, for the samples.
    """

    field: str
    encoder: RowEncoder
    row: type[Any]
    limit: int
    with_files: bool = False
    instruction: Instruction | None = None


class PartWriter:
    """Tokenises examples into a part's files."""

    def __init__(self, files: PartFiles, making: Making) -> None:
        files.report.unlink(missing_ok=True)
        self._files = files
        self._making = making
        self._stack = ExitStack()
        self._rows = self._stack.enter_context(RowWriter(files.rows, making.row))
        self._fingerprints = self._stack.enter_context(FingerprintWriter(files.fingerprints))
        self._stack.push(self._encode_waiting)
        self._digest = hashlib.sha256()
        self._examples = self._tokens = self._longest = self._whole = 0
        self._dropped, self._cut, self._unlearnt = Tally(), Tally(), Tally()
        self._samples: list[Sample] = []
        self._waiting: list[Example] = []
        self._waiting_bytes = 0

    def add(self, example: Example) -> None:
        """Append an example; it is tokenised with others."""
        content = repr(example).encode("utf-8", "surrogatepass")
        self._digest.update(content)
        self._fingerprints.add(content, example.origin)
        sample = sample_of(example, self._making.instruction) if len(self._samples) < SAMPLE_COUNT else None
        if sample is not None:
            self._samples.append(sample)
        self._waiting.append(example)
        self._waiting_bytes += len(content)
        if len(self._waiting) >= _BATCH_ROWS or self._waiting_bytes >= _BATCH_BYTES:
            self._encode()

    def _encode(self) -> None:
        examples, self._waiting, self._waiting_bytes = self._waiting, [], 0
        for example, encoded in zip(examples, self._making.encoder.encode(examples), strict=True):
            self._count(example, encoded)
            for row in encoded:
                self._rows.add(row)
                self._tokens += len(row.input_ids)
                self._longest = max(self._longest, len(row.input_ids))

    def _encode_waiting(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._waiting:
            self._encode()

    def _count(self, example: Example, encoded: Any) -> None:
        if not encoded:
            self._dropped.add(example.origin)
            return
        self._examples += 1
        if any(row.truncated for row in encoded):
            self._cut.add(example.origin)
        if any(isinstance(row, EncodedRow) and row.unlearnt for row in encoded):
            self._unlearnt.add(example.origin)
        if not (self._making.encoder.needs_end and any(row.truncated for row in encoded)):
            self._whole += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def report(self, key: str, format_: DataFormat, **more: Any) -> PartReport:
        """The report of a part that is written; it is kept, so that the part need not be made again.

        Raises:
            BadDataError: no row is whole.
        """
        if not self._whole:
            raise BadDataError(
                f"{self._making.field}: every row is longer than {self._making.limit} tokens;"
                " raise spec.training.maxSequenceLength or shorten them"
            )
        found = PartReport(
            key=key,
            format=format_,
            examples=self._examples,
            tokens=self._tokens,
            longest_tokens=self._longest,
            digest=self._digest.hexdigest(),
            warnings=[*more.pop("warnings", ()), *self._warnings()],
            samples=self._samples,
            files=list(self._fingerprints.files),
            **more,
        )
        write_json(self._files.report, found.model_dump(mode="json"))
        return found

    def _warnings(self) -> list[str]:
        field, limit, with_files = self._making.field, self._making.limit, self._making.with_files
        needs_end = self._making.encoder.needs_end
        found = []
        if self._dropped.count:
            rows = self._dropped.rows(with_files=with_files)
            found.append(f"{field}: {self._dropped.count} rows dropped, {_DROPPED[needs_end]} {limit} tokens: {rows}")
        if self._cut.count:
            rows = self._cut.rows(with_files=with_files)
            found.append(f"{field}: {self._cut.count} rows cut to {limit} tokens, {_CUT[needs_end]}: {rows}")
        if self._unlearnt.count:
            rows = self._unlearnt.rows(with_files=with_files)
            reason = "the chat template of spec.model writes them otherwise once others follow"
            found.append(
                f"{field}: {self._unlearnt.count} rows have answers that are not learnt, since {reason};"
                f" give each a row that ends with it: {rows}"
            )
        again = repeats(self._files.fingerprints, list(self._fingerprints.files))
        if again.count:
            rows = again.rows(with_files=with_files)
            found.append(f"{field}: {again.count} rows repeat earlier ones; drop them unless they weigh more: {rows}")
        return found
