"""Every row of the technique table has the same properties, as in PEFT's own tests."""

from functools import cache
from pathlib import Path

import peft
import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit
from technique_runs import STEPS, base_of, logits_of, spec_of, start, train, trainer_of
from tiny_models import FAMILIES, make_tiny

from tunesmith_api.families import HEADS
from tunesmith_api.finetunejob import GenerationSpec, TechniqueSpec
from tunesmith_api.tasks import model_kind
from tunesmith_api.techniques import TECHNIQUES, quantization_of, technique_of, trained_parameters
from tunesmith_trainer.adalora import kept_ranks
from tunesmith_trainer.adapters import Adaptation, adapt, shapes_of
from tunesmith_trainer.completion import CompletionRecipe
from tunesmith_trainer.encode import IGNORED, EncodedRow
from tunesmith_trainer.errors import BadConfigError
from tunesmith_trainer.evaluate import Evaluator
from tunesmith_trainer.loss import collate, completion_loss
from tunesmith_trainer.model import load_base
from tunesmith_trainer.optimizers import optimizer_for
from tunesmith_trainer.tokenizer import load_tokenizer
from tunesmith_trainer.torch_model import TorchModel
from tunesmith_trainer.tuned import count_parameters, load_trained, load_tuned, merged, save_tuned

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

MODEL = Path(__file__).parents[2] / "examples" / "models" / "tiny-phi3"
#: QLoRA whose constants stay fp32, which no example of the table asks for.
ONCE = "QLoRA, quantised once"
SPECS = {name: spec_of(name) for name in TECHNIQUES} | {
    ONCE: TechniqueSpec.model_validate({"type": "QLoRA", "quantization": {"doubleQuantization": False}})
}


def _peft(method, **config):
    return {"type": "PEFT", "peft": {"method": method, "config": config}}


#: Options that no example of the table asks for, alone and together.
MORE = {
    "LoRA, Gaussian": {"type": "LoRA", "lora": {"init": "Gaussian"}},
    "LoRA, named modules": {"type": "LoRA", "lora": {"targetModules": ["o_proj", "down_proj"]}},
    "DoRA, PiSSA": {"type": "DoRA", "lora": {"init": "PiSSA"}},
    "DoRA, rsLoRA": {"type": "DoRA", "lora": {"rank": 64, "alpha": 64, "rankStabilized": True}},
    "DoRA, LoRA+": {"type": "DoRA", "lora": {"learningRateRatio": 16}},
    "QLoRA, LoRA+": {"type": "QLoRA", "lora": {"learningRateRatio": 16}},
    "QLoRA, Gaussian": {"type": "QLoRA", "lora": {"init": "Gaussian"}},
    "LoKr, both": _peft("LoKr", decompose_both=True, r=2, decompose_factor=8),
    "OFT, bounded": _peft("OFT", coft=True, use_cayley_neumann=False),
    "OFT, shared": _peft("OFT", block_share=True),
    "HRA, orthogonal": _peft("HRA", apply_GS=True),
    "Prefix tuning, network": _peft("PrefixTuning", prefix_projection=True, encoder_hidden_size=48),
    "Prompt tuning, random": _peft("PromptTuning", prompt_tuning_init="RANDOM"),
    "P-tuning, narrow": _peft("PTuning", encoder_hidden_size=48),
}
SPECS |= {name: TechniqueSpec.model_validate(asked) for name, asked in MORE.items()}


def make_rows():
    """Eight rows of like length, whose later half is learnt."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for place in range(8):
        ids = torch.randint(5, 300, (16 + place % 2,), generator=generator).tolist()
        rows.append(EncodedRow(ids, [IGNORED] * 8 + ids[8:], 8, ""))
    return rows


ROWS = make_rows()


@cache
def recipe():
    """The recipe of a chat on the example's Phi-3."""
    return CompletionRecipe(
        "test", MODEL, Evaluator(ROWS, load_tokenizer(MODEL), GenerationSpec(), frozenset({0}), 512)
    )


@pytest.fixture(scope="module", params=list(SPECS))
def trained(request, tmp_path_factory):
    """Each row of the table, trained."""
    return train(SPECS[request.param], recipe(), tmp_path_factory.mktemp("run"))


def test_the_loss_falls(trained):
    """Eight steps on eight rows lower the loss on them."""
    assert recipe().mean_loss(trained.model) < trained.first_loss


def test_only_declared_weights_change(trained):
    """What asks for no gradient is the same to the last bit, and most of what asks for one has moved."""
    assert trained.moved <= trained.declared
    assert len(trained.moved) > len(trained.declared) / 2


def test_the_trained_parameters_are_the_documented_ones(trained):
    """The table's formula gives the number that asks for gradients."""
    counted, _ = count_parameters(trained.model)
    assert counted == trained_parameters(trained.asked, shapes_of(base_of(recipe(), trained.asked)))


def test_saved_and_loaded_it_says_the_same(trained, tmp_path):
    """The result, loaded on a fresh base, has the same logits."""
    save_tuned(trained.model, tmp_path)
    loaded = load_tuned(base_of(recipe(), trained.asked), tmp_path)
    torch.testing.assert_close(logits_of(recipe(), loaded), logits_of(recipe(), trained.model), rtol=0, atol=2e-5)


def test_merged_it_says_the_same(trained, tmp_path):
    """Merged into the full-precision base, it is a plain model with the same logits as unmerged on that base."""
    save_tuned(trained.model, tmp_path)
    loaded = load_tuned(load_base(MODEL), tmp_path)
    unmerged = logits_of(recipe(), loaded)
    if not technique_of(trained.asked).merges:
        with pytest.raises(AttributeError):
            merged(loaded)
        return
    plain = merged(loaded)
    assert not isinstance(plain, peft.PeftModel)
    torch.testing.assert_close(logits_of(recipe(), plain), unmerged, rtol=0, atol=1e-4)


def test_a_resumed_run_is_exact(trained, tmp_path):
    """From the checkpoint in the middle, the last weights are the same to the last bit."""
    model = start(recipe(), trained.asked)
    trainer_of(model, trained.asked, recipe(), tmp_path).train(
        resume_from_checkpoint=str(trained.folder / "checkpoint-4")
    )
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            assert torch.equal(weight, trained.end[name]), name


def test_the_last_checkpoint_is_the_result(trained):
    """A run that was killed after its last step needs no more training."""
    loaded = load_trained(start(recipe(), trained.asked), trained.folder / f"checkpoint-{STEPS}").eval()
    torch.testing.assert_close(logits_of(recipe(), loaded), logits_of(recipe(), trained.model), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("trained", "twice"), [("QLoRA", True), (ONCE, False)], indirect=["trained"])
def test_constants_are_quantised_again_unless_the_job_says_no(trained, twice):
    """Every 4-bit layer has the constants of its blocks in 8 bits, or as they are."""
    layers = [part for part in trained.model.modules() if isinstance(part, Linear4bit)]
    assert layers
    assert {part.weight.quant_state.nested for part in layers} == {twice}


PROMPTS = [name for name, row in TECHNIQUES.items() if not row.merges]


@pytest.mark.parametrize("trained", PROMPTS, indirect=True)
def test_virtual_tokens_count_in_decoding(trained):
    """Prompts of different lengths, decoded together, give the tokens that the logits of each alone give."""
    model = TorchModel(trained.model)
    prompts = [row.input_ids[:length] for row, length in zip(ROWS, (6, 9, 6), strict=False)]
    for prompt, answer in zip(prompts, model.generate(prompts, 4, frozenset({0})), strict=True):
        expected: list[int] = []
        for _ in answer:
            expected.append(int(model.logits(prompt + expected)[-1].argmax()))
        assert answer == expected


def test_a_prompt_starts_as_words():
    """Each virtual token's embedding is a row of the vocabulary's."""
    model = start(recipe(), spec_of("Prompt tuning"))
    words = model.get_base_model().get_input_embeddings().weight
    for row in model.prompt_encoder["default"].embedding.weight:
        assert (words == row).all(dim=1).any()


def test_a_prefix_starts_as_words(monkeypatch):
    """It is the keys and values of words that the base model itself makes, whichever words are drawn."""
    words = torch.arange(40, 60).unsqueeze(0)
    monkeypatch.setattr("tunesmith_trainer.adapters.torch.randint", lambda *_, **__: words)
    model = start(recipe(), spec_of("Prefix tuning"))
    with torch.no_grad():
        cache = model.get_base_model()(input_ids=words, use_cache=True).past_key_values
    prefix = model.get_prompt(batch_size=1)
    assert len(prefix.layers) == len(cache.layers)
    for started, made in zip(prefix.layers, cache.layers, strict=True):
        torch.testing.assert_close(started.keys, made.keys, rtol=0, atol=1e-6)
        torch.testing.assert_close(started.values, made.values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("trained", ["AdaLoRA"], indirect=True)
def test_the_rank_of_adalora_shrinks(trained, tmp_path):
    """Of twelve singular values per layer eight are left on average, and the saved adapter holds only those."""
    assert kept_ranks(trained.model) == (16 * 8, 16 * 12)
    save_tuned(trained.model, tmp_path)
    assert kept_ranks(load_tuned(load_base(MODEL), tmp_path)) == (16 * 8, 16 * 8)


def test_lora_plus_has_two_learning_rates():
    """Matrix B learns sixteen times as fast as matrix A."""
    asked = spec_of("LoRA+")
    model = start(recipe(), asked)
    trainer = trainer_of(model, asked, recipe(), MODEL.parent)
    optimizer = optimizer_for(model, trainer.args, asked)
    rates = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            assert rates[id(weight)] == trainer.args.learning_rate * (16 if "lora_B" in name else 1), name


def test_a_quantised_layer_has_gradients_after_an_evaluation():
    """An evaluation before the first step does not cut off the layers below the last one."""
    model = start(recipe(), spec_of("QLoRA"))
    recipe().mean_loss(model)
    completion_loss(model.train(), collate(ROWS)).backward()
    silent = [name for name, weight in model.named_parameters() if "lora_B" in name and not weight.grad.abs().sum()]
    assert silent == []


def test_a_run_too_short_for_adalora_is_refused():
    """The message names the steps."""
    with pytest.raises(BadConfigError, match="none of the 1 steps"):
        adapt(load_base(MODEL), Adaptation(spec_of("AdaLoRA"), total_steps=1))


@pytest.mark.parametrize("options", [{}, {"encoder_hidden_size": 48}])
def test_a_network_that_makes_a_prefix_is_as_wide_as_the_keys(options):
    """With grouped heads keys are narrower than the model, and the network follows them unless the job says."""
    config = {"prefix_projection": True, **options}
    asked = TechniqueSpec.model_validate({"type": "PEFT", "peft": {"method": "PrefixTuning", "config": config}})
    base, task = make_tiny("llama")
    shapes = shapes_of(base)
    assert shapes.key_value_width < shapes.hidden_size
    counted, _ = count_parameters(adapt(base, Adaptation(asked, task=task)))
    assert counted == trained_parameters(asked, shapes)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_is_adapted_where_it_should_be(family):
    """On every family each technique that fits trains the documented weights, and a new head in full."""
    base, task = make_tiny(family)
    kind = model_kind(base.config.to_dict())
    shapes = shapes_of(base)
    heads = sum(weight.numel() for name, part in base.named_children() if name in HEADS for weight in part.parameters())
    for name, row in TECHNIQUES.items():
        asked = spec_of(name)
        if kind not in row.kinds or quantization_of(asked) is not None or "init" in row.example.get("lora", {}):
            continue
        base, _ = make_tiny(family)
        counted, _ = count_parameters(adapt(base, Adaptation(asked, task=task, total_steps=STEPS)))
        own = 0 if name.startswith("Full") else heads
        assert counted == trained_parameters(asked, shapes) + own, name
