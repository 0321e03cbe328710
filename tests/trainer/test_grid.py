"""Every technique on every kind of model that it fits has the properties that `test_techniques` proves on a Phi-3."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from technique_runs import Trained, base_of, logits_of, spec_of, start, train, trainer_of
from tiny_models import FAMILIES, WORDS, make_tiny

from tunesmith_api.enums import Task
from tunesmith_api.finetunejob import GenerationSpec
from tunesmith_api.tasks import ModelKind
from tunesmith_api.techniques import TECHNIQUES, technique_of
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
from tunesmith_trainer.tuned import load_tuned, merged, save_tuned

pytestmark = [
    pytest.mark.torch,
    pytest.mark.extended,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

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


CELLS = [
    pytest.param((family, name), id=f"{family}-{name}")
    for family in FAMILIES
    for name, row in TECHNIQUES.items()
    if kind_of(family) in row.kinds
]


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


def anew(recipe: Any) -> Any:
    """The recipe in another run, where a new head begins otherwise."""
    return replace(recipe, seed=2) if isinstance(recipe, EncoderRecipe) else recipe


@pytest.fixture(scope="module", params=CELLS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Each cell, trained."""
    family, name = request.param
    folder = tmp_path_factory.mktemp("cell")
    return train(spec_of(name), recipe_of(family, folder / "base"), folder / "run")


def test_the_loss_falls(trained: Trained) -> None:
    """Eight steps on eight rows lower the loss on them."""
    assert trained.recipe.mean_loss(trained.model) < trained.first_loss


def test_only_declared_weights_change(trained: Trained) -> None:
    """What asks for no gradient is the same to the last bit, and most of what asks for one has moved."""
    assert trained.moved <= trained.declared
    assert len(trained.moved) > len(trained.declared) / 2


def test_saved_and_loaded_it_says_the_same(trained: Trained, tmp_path: Path) -> None:
    """The result, loaded on a fresh base, has the same logits."""
    save_tuned(trained.model, tmp_path)
    loaded = load_tuned(base_of(anew(trained.recipe), trained.asked), tmp_path)
    expected = logits_of(trained.recipe, trained.model)
    torch.testing.assert_close(logits_of(trained.recipe, loaded), expected, rtol=0, atol=2e-5)


def test_merged_it_says_the_same(trained: Trained, tmp_path: Path) -> None:
    """Merged into the full-precision base, it is a plain model with the same logits as unmerged on that base."""
    save_tuned(trained.model, tmp_path)
    loaded = load_tuned(anew(trained.recipe).load_base(), tmp_path)
    unmerged = logits_of(trained.recipe, loaded)
    if not technique_of(trained.asked).merges:
        with pytest.raises(AttributeError):
            merged(loaded)
        return
    plain = merged(loaded)
    assert not isinstance(plain, peft.PeftModel)
    torch.testing.assert_close(logits_of(trained.recipe, plain), unmerged, rtol=0, atol=1e-4)


def test_a_resumed_run_is_exact(trained: Trained, tmp_path: Path) -> None:
    """From the checkpoint in the middle, the last weights are the same to the last bit."""
    model = start(trained.recipe, trained.asked)
    trainer = trainer_of(model, trained.asked, trained.recipe, tmp_path)
    trainer.train(resume_from_checkpoint=str(trained.folder / "checkpoint-4"))
    last = trained.model.get_parameter
    assert [name for name in trained.declared if not torch.equal(model.get_parameter(name), last(name))] == []
