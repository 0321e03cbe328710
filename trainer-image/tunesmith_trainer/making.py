"""Making the training and the evaluation part: each is made of its own inputs only, and kept while they are alike.

Two passes over the rows, neither of which holds them: the first converts and checks all, the second tokenises.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tunesmith_api.enums import ModelKind
from tunesmith_api.finetunejob import FineTuneJobSpec
from tunesmith_api.tasks import model_kind
from tunesmith_trainer import log
from tunesmith_trainer.config import refuse_unmeasured_gates
from tunesmith_trainer.examples import Example
from tunesmith_trainer.fingerprints import shared
from tunesmith_trainer.holdout import draw, held_out_count
from tunesmith_trainer.instructions import Instruction
from tunesmith_trainer.marian_tokenizer import FILES
from tunesmith_trainer.meter import Meter
from tunesmith_trainer.model_files import ModelFiles
from tunesmith_trainer.parts import Making, PartFiles, PartReport, PartWriter
from tunesmith_trainer.recipe import RowEncoder
from tunesmith_trainer.recipes import Setting, find_entry
from tunesmith_trainer.rows import DataSet, Refused, Request, open_data
from tunesmith_trainer.survey import Survey, labels_of, several_files, shown_labels, survey
from tunesmith_trainer.tables import data_files
from tunesmith_trainer.workspace import Workspace, file_digest, key_of

TRAIN, EVALUATION = "spec.dataset.train", "spec.dataset.evaluation"
_DEFAULT_FRACTION = 0.1
#: To be raised when the same inputs come out as other rows: the image has no package metadata to tell releases apart.
REVISION = 3
#: What the tokens of a row depend on, beside the row and the job.
_TOKENIZER_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    *FILES,
)


@dataclass(frozen=True)
class Job:
    """What the parts are made for.

    Attributes:
        spec: the job's.
        files: the base model's.
        limit: longest row in tokens.
    """

    spec: FineTuneJobSpec
    files: ModelFiles
    limit: int

    def encoder(self, labels: tuple[str, ...], *, multiple: bool) -> RowEncoder:
        """What tokenises the rows of this job."""
        return find_entry(self.spec.task, self.files.path).encoder(self._setting(labels, multiple=multiple))

    def instruction(self, labels: Sequence[str], *, multiple: bool) -> Instruction | None:
        """What the model of this job is asked, where its rows do not say it themselves."""
        return find_entry(self.spec.task, self.files.path).instruction(self._setting(labels, multiple=multiple))

    def _setting(self, labels: Sequence[str], *, multiple: bool) -> Setting:
        return Setting(self.spec, self.files.path, self.limit, tuple(labels), multiple)

    @property
    def kind(self) -> ModelKind:
        """How the base model reads and writes."""
        return model_kind(self.files.config)

    @property
    def row(self) -> type[Any]:
        """Dataclass of the tokenised rows."""
        return find_entry(self.spec.task, self.files.path).row

    def key(self, *parts: object) -> str:
        """Changes when anything changes that a part is made of: `parts` beside model, task and length."""
        return key_of(REVISION, self.spec.task, self.limit, tokenizer_digests(self.files), parts)


def tokenizer_digests(files: ModelFiles) -> list[tuple[str, str]]:
    """Names and digests of the model's files that decide how a row is tokenised."""
    found = ((name, files.path / name) for name in _TOKENIZER_FILES)
    return [(name, file_digest(path)) for name, path in found if path.is_file()]


@dataclass(frozen=True)
class _Checked:
    """Rows that were all looked at."""

    data: DataSet
    survey: Survey


@dataclass(frozen=True)
class Made:
    """Both parts, and the token that ends an answer."""

    train: PartReport
    evaluation: PartReport
    stop: str


def content_of(request: Request) -> object:
    """What a request reads: names and digests of the files, format and columns."""
    files = [(file.name, file_digest(file.path)) for file in data_files(request.path, request.split, request.task)]
    return [files, request.asked, request.columns.wire()]


def make_parts(workspace: Workspace, job: Job, requests: tuple[Request, Request | None]) -> Made:
    """Make both parts, or what of them is not there yet.

    Raises:
        BadDataError: rows that cannot be used.
        BadConfigError: the data and the job do not go together.
    """
    train, evaluation = requests
    return _held_out(workspace, job, train) if evaluation is None else _apart(workspace, job, train, evaluation)


def _held_out(workspace: Workspace, job: Job, request: Request) -> Made:
    """Both parts from the training rows."""
    spec = job.spec
    fraction = spec.dataset.evaluation.fraction or _DEFAULT_FRACTION
    key = job.key(content_of(request), fraction, spec.training.seed)
    targets = [PartFiles(workspace.training_rows), PartFiles(workspace.evaluation_rows)]
    known = [files.complete(key) for files in targets]
    if known[0] is not None and known[1] is not None:
        return _known(job, known[0], known[1])
    data = open_data(request)
    refuse_unmeasured_gates(spec, data.format, job.kind)
    found = survey(data)
    count = held_out_count(found.examples, fraction, TRAIN)
    chosen = draw(found.examples, count, spec.training.seed)
    encoder = job.encoder(found.labels, multiple=found.multiple)
    reports = _write(job, _Checked(data, found), encoder, targets, key, choose=lambda: int(next(chosen)))
    return Made(reports[0], reports[1], encoder.stop)


def _known(job: Job, train: PartReport, evaluation: PartReport) -> Made:
    refuse_unmeasured_gates(job.spec, train.format, job.kind)
    encoder = job.encoder(tuple(train.labels), multiple=train.multiple_labels)
    log.info("tokenised before", examples=train.examples, evaluation_examples=evaluation.examples)
    return Made(train, evaluation, encoder.stop)


def _apart(workspace: Workspace, job: Job, train: Request, evaluation: Request) -> Made:
    """Each part from its own rows; the evaluation rows have the classes of the training rows."""
    first = _alone(job, train, PartFiles(workspace.training_rows), None)
    second = _alone(job, evaluation, PartFiles(workspace.evaluation_rows), first)
    encoder = job.encoder(tuple(first.labels), multiple=first.multiple_labels)
    return Made(first, second, encoder.stop)


def _alone(job: Job, request: Request, files: PartFiles, train: PartReport | None) -> PartReport:
    given = None if train is None else Survey(train.examples, tuple(train.labels), train.multiple_labels)
    key = job.key(content_of(request), given and given.labels, given and given.multiple)
    data = open_data(request)
    refuse_unmeasured_gates(job.spec, data.format, job.kind)
    known = files.complete(key)
    if known is not None:
        log.info("tokenised before", field=request.field, examples=known.examples)
        return known
    found = survey(data, given)
    encoder = job.encoder(found.labels, multiple=found.multiple)
    return _write(job, _Checked(data, found), encoder, [files], key, choose=lambda: 0)[0]


def _write(
    job: Job,
    checked: _Checked,
    encoder: RowEncoder,
    targets: list[PartFiles],
    key: str,
    *,
    choose: Callable[[], int],
) -> list[PartReport]:
    """Tokenise every example into the part that `choose` gives it."""
    data, found = checked.data, checked.survey
    field = data.request.field
    instruction = job.instruction(found.labels, multiple=found.multiple)
    making = Making(field, encoder, job.row, job.limit, several_files(data), instruction)
    meter = Meter("tokenising rows", found.examples, field=field)
    learnt: set[str] = set()
    with ExitStack() as stack:
        writers = [stack.enter_context(PartWriter(files, making)) for files in targets]
        for example in _usable(data):
            place = choose()
            writers[place].add(example)
            if place == 0:
                learnt.update(labels_of(example))
            meter.add()
    meter.finish()
    labels = {"labels": list(found.labels), "multiple_labels": found.multiple}
    lost = [label for label in found.labels if label not in learnt] if len(targets) > 1 else []
    warnings = (*found.warnings, *([f"{field}: {_held_out_whole(lost)}"] if lost else []))
    return [
        writer.report(key, data.format, warnings=warnings if place == 0 else (), **labels)
        for place, writer in enumerate(writers)
    ]


def _held_out_whole(labels: Sequence[str]) -> str:
    return (
        f"every row with the labels {shown_labels(labels)} is held out, so that none of them can be learnt; add rows of"
        " them, or give spec.dataset.evaluation.uri"
    )


def _usable(data: DataSet) -> Iterator[Example]:
    for entry in data.examples():
        if not isinstance(entry, Refused):
            yield entry


def leaks(workspace: Workspace, made: Made) -> list[str]:
    """A warning when evaluation rows are among the training rows."""
    evaluation = PartFiles(workspace.evaluation_rows).fingerprints
    found = shared(evaluation, PartFiles(workspace.training_rows).fingerprints, made.evaluation.files)
    if not found.count:
        return []
    rows = found.rows(with_files=len(made.evaluation.files) > 1)
    return [f"{found.count} evaluation rows are among the training rows; their scores say little: {rows}"]
