"""The recipes that jobs on the tiny models of each family have, with eight rows that can be learnt."""

from pathlib import Path
from typing import Any

import torch
from tiny_models import FAMILIES, WORDS, make_tiny

from tunesmith_api.enums import ModelKind, Task
from tunesmith_api.finetunejob import GenerationSpec
from tunesmith_trainer.classification import Classification
from tunesmith_trainer.classification_rows import LabeledRow
from tunesmith_trainer.completion import CompletionRecipe
from tunesmith_trainer.encode import IGNORED, EncodedRow
from tunesmith_trainer.encode_seq2seq import Seq2SeqRow
from tunesmith_trainer.encoder_model import reading_of
from tunesmith_trainer.encoder_recipe import EncoderRecipe
from tunesmith_trainer.evaluate import Evaluator
from tunesmith_trainer.extraction import Extraction
from tunesmith_trainer.extraction_rows import WindowRow
from tunesmith_trainer.instructions import Facts, make_source_instruction
from tunesmith_trainer.recipe import Recipe, TokenRow
from tunesmith_trainer.seq2seq import Seq2SeqRecipe
from tunesmith_trainer.tagging import Tagging
from tunesmith_trainer.tagging_rows import TaggedRow
from tunesmith_trainer.tokenizer import load_tokenizer

TOKENIZER = Path(__file__).parents[2] / "examples" / "models" / "tiny-phi3"
LABELS = ("a", "b", "c")
#: What each encoder learns, so that every kind of head is there; the other families write.
ENCODER_TASKS = {
    "bert": Classification(LABELS, multiple=False),
    "roberta": Tagging(LABELS),
    "distilbert": Classification(LABELS, multiple=True),
    "xlm-roberta": Extraction(unanswerable=False),
}


def kind_of(family: str) -> ModelKind:
    """The kind of a family's models."""
    if family in ENCODER_TASKS:
        return ModelKind.ENCODER
    return ModelKind.SEQ2SEQ if FAMILIES[family][1] == "SEQ_2_SEQ_LM" else ModelKind.CAUSAL


def row_of(family: str, place: int, ids: list[int]) -> TokenRow:
    """A row that the family's recipe reads, with something to learn."""
    topic = place % len(LABELS)
    match family:
        case "llama":
            return EncodedRow(ids, [IGNORED] * 8 + ids[8:], 8, "")
        case "t5" | "marian":
            return Seq2SeqRow(ids[:10], [*ids[10:], 1], "")
        case "roberta":
            return TaggedRow(ids, list(range(len(ids))), [token % len(LABELS) for token in ids])
        case "xlm-roberta":
            return WindowRow(ids, [0] * len(ids), [5 + topic, 7 + topic], [], [], opens=True, context="", references=[])
        case _:
            return LabeledRow(ids, [topic])


def rows_of(family: str) -> list[TokenRow]:
    """Eight rows of like length."""
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(5, WORDS, (16 + place % 2,), generator=generator).tolist() for place in range(8)]
    return [row_of(family, place, row) for place, row in enumerate(ids)]


def recipe_of(family: str, folder: Path) -> Recipe:
    """The recipe that a job on a model of the family has; an encoder's folder has no head."""
    model, _ = make_tiny(family)
    (model.base_model if family in ENCODER_TASKS else model).save_pretrained(folder)
    rows: Any = rows_of(family)
    if family in ENCODER_TASKS:
        return EncoderRecipe(folder, 1, rows, ENCODER_TASKS[family], reading_of(model.config.to_dict()))
    evaluator = Evaluator(rows, load_tokenizer(TOKENIZER), GenerationSpec(), frozenset({1}), 512)
    if family == "llama":
        return CompletionRecipe("test", folder, evaluator)
    return Seq2SeqRecipe(folder, evaluator, make_source_instruction(Task.TRANSLATION, Facts(), family), 0)
