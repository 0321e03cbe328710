"""The table of the ways to learn: a row per task and kind of model. Free of torch until a recipe is loaded."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tunesmith_api.enums import ModelKind, Task
from tunesmith_api.finetunejob import FineTuneJobSpec
from tunesmith_api.support import NO_ENCODER_SERVER
from tunesmith_api.tasks import model_kind
from tunesmith_trainer.classification_rows import LabeledRow, TextEncoder
from tunesmith_trainer.encode import EncodedRow, make_encoder
from tunesmith_trainer.encode_asked import make_asked_encoder
from tunesmith_trainer.encode_seq2seq import Seq2SeqEncoder, Seq2SeqRow
from tunesmith_trainer.errors import BadConfigError
from tunesmith_trainer.extraction_rows import QuestionEncoder, WindowRow
from tunesmith_trainer.instructions import ASKED_TASKS, Facts, Instruction, make_instruction, make_source_instruction
from tunesmith_trainer.prepared import Prepared
from tunesmith_trainer.recipe import Recipe, RowEncoder
from tunesmith_trainer.rows import Check, accept
from tunesmith_trainer.stages import Run
from tunesmith_trainer.tagging_rows import TaggedRow, WordEncoder, tags_of
from tunesmith_trainer.tokenizer import load_encoder_tokenizer, load_target_tokenizer, load_tokenizer
from tunesmith_trainer.unwritten import TemplateCheck
from tunesmith_trainer.workspace import read_json


@dataclass(frozen=True)
class Setting:
    """What an encoder needs to know.

    Attributes:
        spec: the job's.
        model_path: folder of the base model.
        limit: longest row in tokens.
        labels: names of the classes, where the task has them.
        multiple: whether a text may have any number of classes.
    """

    spec: FineTuneJobSpec
    model_path: Path
    limit: int
    labels: tuple[str, ...] = ()
    multiple: bool = False


@dataclass(frozen=True)
class RecipeEntry:
    """One row of the table.

    Attributes:
        row: the dataclass of a tokenised row; its fields are the columns on the disk.
        encoder: makes the half that prepare needs.
        module: module whose `make_recipe(run, prepared)` gives the other half; it imports torch.
        served: whether the server can serve the model folder.
        instruction: what the model is asked, where its rows do not say it themselves.
        check: makes what refuses rows that the model in a folder cannot learn.
    """

    row: type[Any]
    encoder: Callable[[Setting], RowEncoder]
    module: str
    served: bool = True
    instruction: Callable[[Setting], Instruction | None] = lambda _setting: None
    check: Callable[[Task, Path], Check] = lambda _task, _path: accept


def _completion_encoder(setting: Setting) -> RowEncoder:
    return make_encoder(load_tokenizer(setting.model_path), setting.spec.task, setting.limit)


def _text_encoder(setting: Setting) -> RowEncoder:
    return TextEncoder(load_encoder_tokenizer(setting.model_path), setting.limit, setting.labels)


def _word_encoder(setting: Setting) -> RowEncoder:
    return WordEncoder(load_encoder_tokenizer(setting.model_path), setting.limit, tags_of(setting.labels))


def _question_encoder(setting: Setting) -> RowEncoder:
    return QuestionEncoder(load_encoder_tokenizer(setting.model_path), setting.limit)


def _instruction(setting: Setting) -> Instruction:
    columns = setting.spec.dataset.columns
    facts = Facts(setting.labels, setting.multiple, columns.source or "", columns.target or "")
    chats = bool(load_tokenizer(setting.model_path).chat_template)
    return make_instruction(setting.spec.task, facts, chats=chats)


def _asked_encoder(setting: Setting) -> RowEncoder:
    return make_asked_encoder(load_tokenizer(setting.model_path), _instruction(setting), setting.limit)


def _template_check(task: Task, model_path: Path) -> Check:
    return TemplateCheck(load_tokenizer(model_path), task)


_COMPLETION = RecipeEntry(EncodedRow, _completion_encoder, "tunesmith_trainer.completion", check=_template_check)

_ASKED = RecipeEntry(EncodedRow, _asked_encoder, "tunesmith_trainer.completion", instruction=_instruction)


def _source_instruction(setting: Setting) -> Instruction:
    columns = setting.spec.dataset.columns
    facts = Facts(setting.labels, setting.multiple, columns.source or "", columns.target or "")
    model_type = str((read_json(setting.model_path / "config.json") or {}).get("model_type"))
    return make_source_instruction(setting.spec.task, facts, model_type)


def _seq2seq_encoder(setting: Setting) -> RowEncoder:
    tokenizers = load_tokenizer(setting.model_path), load_target_tokenizer(setting.model_path)
    return Seq2SeqEncoder(*tokenizers, _source_instruction(setting), setting.limit)


_SEQ2SEQ = RecipeEntry(
    Seq2SeqRow, _seq2seq_encoder, "tunesmith_trainer.seq2seq", served=False, instruction=_source_instruction
)

RECIPES: dict[tuple[Task, ModelKind], RecipeEntry] = {
    (Task.CHAT, ModelKind.CAUSAL): _COMPLETION,
    (Task.TEXT_GENERATION, ModelKind.CAUSAL): _COMPLETION,
    (Task.TEXT_CLASSIFICATION, ModelKind.ENCODER): RecipeEntry(
        LabeledRow, _text_encoder, "tunesmith_trainer.classification", served=False
    ),
    (Task.TOKEN_CLASSIFICATION, ModelKind.ENCODER): RecipeEntry(
        TaggedRow, _word_encoder, "tunesmith_trainer.tagging", served=False
    ),
    (Task.QUESTION_ANSWERING, ModelKind.ENCODER): RecipeEntry(
        WindowRow, _question_encoder, "tunesmith_trainer.extraction", served=False
    ),
    **{(task, ModelKind.CAUSAL): _ASKED for task in ASKED_TASKS},
    (Task.TRANSLATION, ModelKind.SEQ2SEQ): _SEQ2SEQ,
}


def find_entry(task: Task, model_path: Path) -> RecipeEntry:
    """The way in which the model in a folder learns a task.

    Raises:
        BadConfigError: there is none.
    """
    kind = model_kind(read_json(model_path / "config.json") or {})
    found = RECIPES.get((task, kind))
    if found is None:
        tasks = ", ".join(known for known, its_kind in RECIPES if its_kind is kind) or "none yet"
        raise BadConfigError(f"spec.task: this {kind} model cannot learn {task}; tasks of such models: {tasks}")
    return found


def refuse_unserved(spec: FineTuneJobSpec, model_path: Path) -> None:
    """Refuse to serve what the server cannot.

    Raises:
        BadConfigError: naming the field.
    """
    if spec.serve is not None and not find_entry(spec.task, model_path).served:
        raise BadConfigError(f"spec.serve: {NO_ENCODER_SERVER}")


def load_recipe(run: Run, prepared: Prepared) -> Recipe:
    """The recipe of a job on its prepared rows."""
    entry = find_entry(run.config.spec.task, prepared.model_path)
    recipe: Recipe = import_module(entry.module).make_recipe(run, prepared)
    return recipe
