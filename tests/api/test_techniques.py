"""The technique table, and what it refuses."""

from typing import Any

import pytest

from tunesmith_api.catalog import load_catalog
from tunesmith_api.enums import LoraInit, ModelKind, PeftMethod, TechniqueType
from tunesmith_api.finetunejob import FineTuneJobSpec, TechniqueSpec
from tunesmith_api.misfits import refusals
from tunesmith_api.parameters import factors
from tunesmith_api.planner import shapes_of
from tunesmith_api.resolve import resolve
from tunesmith_api.shapes import architecture_of
from tunesmith_api.techniques import TECHNIQUES, options_of, rows, technique_of, trained_parameters

PHI3_MINI = shapes_of(load_catalog()["phi-3-mini-4k-instruct"].architecture)
TINY = shapes_of(load_catalog()["tiny-phi3"].architecture)


def job(technique: dict[str, Any], **fields: Any) -> FineTuneJobSpec:
    """A minimal job with a technique."""
    base = {"model": {"preset": "tiny-phi3"}, "dataset": {"train": {"uri": "configmap://data/train.jsonl"}}}
    return FineTuneJobSpec.model_validate({**base, "technique": technique, **fields})


def peft(method: str, **config: Any) -> dict[str, Any]:
    """A technique of the PEFT family."""
    return {"type": "PEFT", "peft": {"method": method, "config": config}}


def test_every_example_asks_for_its_row() -> None:
    """Each row's example is valid and leads back to the row."""
    assert [technique_of(asked).name for _, asked in rows()] == list(TECHNIQUES)


def test_nothing_of_the_contract_is_without_a_row() -> None:
    """Every type and every method has a row; what of the inits has none is refused."""
    asked = [spec for _, spec in rows()]
    assert {spec.type for spec in asked} == set(TechniqueType) - {TechniqueType.AUTO}
    assert {spec.peft.method for spec in asked if spec.peft} == set(PeftMethod)
    for init in LoraInit:
        spec = job({"type": "LoRA", "lora": {"init": init}})
        assert bool(refusals(spec)) == (init is LoraInit.LOFTQ)


@pytest.mark.parametrize("name", TECHNIQUES)
def test_every_example_resolves_with_its_own_learning_rate(name: str) -> None:
    """A row's example can run, as an adapter where it does not merge, and gets the row's rate."""
    row = TECHNIQUES[name]
    spec = job(dict(row.example), export={"format": "ONNX" if row.merges else "Adapter"})
    resolved = resolve(spec).spec
    assert resolved.training.learning_rate == row.learning_rate
    assert resolve(resolved).spec == resolved


def test_a_learning_rate_that_was_written_is_kept() -> None:
    """The table's rate is a default only."""
    assert resolve(job({"type": "LoRA"}, training={"learningRate": 0.5})).spec.training.learning_rate == 0.5


@pytest.mark.parametrize("name", TECHNIQUES)
def test_defaults_lie_within_their_own_bounds(name: str) -> None:
    """A job that repeats every default is accepted."""
    row = TECHNIQUES[name]
    if not row.options:
        return
    said = {name: option.default for name, option in row.options.items() if option.default is not None}
    spec = job(peft(row.example["peft"]["method"], **said), export={"format": "Adapter"})
    assert refusals(spec) == []
    assert options_of(spec.technique) == said


@pytest.mark.parametrize(
    ("technique", "count"),
    [
        ({"type": "LoRA", "lora": {"rank": 16}}, 25_165_824),
        ({"type": "DoRA", "lora": {"rank": 16}}, 26_181_632),
        (peft("IA3"), 753_664),
        (peft("VeRA"), 1_048_576),
        (peft("LayerNorm"), 199_680),
        (peft("PromptTuning"), 61_440),
        (peft("PrefixTuning"), 3_932_160),
        ({"type": "Full"}, 3_821_079_552),
    ],
)
def test_counts_on_phi_3_mini(technique: dict[str, Any], count: int) -> None:
    """Trained weights of Phi-3 mini, worked out by hand from its configuration."""
    assert trained_parameters(TechniqueSpec.model_validate(technique), PHI3_MINI) == count


@pytest.mark.parametrize(
    ("dimension", "factor", "product"), [(128, -1, (8, 16)), (127, -1, (1, 127)), (512, 8, (8, 64)), (256, 5, (4, 64))]
)
def test_a_width_is_split_as_lokr_does(dimension: int, factor: int, product: tuple[int, int]) -> None:
    """The asked factor when it divides, else the nearest to square below it."""
    assert factors(dimension, factor) == product


ADAPTER = {"export": {"format": "Adapter"}}
REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (peft("AdaLoRA", target_rank=4), {}, "config.target_rank: AdaLoRA has no such option; did you mean target_r"),
    (peft("IA3", r=4), {}, "config.r: IA3 has no such option; it has none"),
    (peft("OFT", coft=1), {}, "config.coft: 1.0 is not true or false"),
    (peft("LoHa", r=2.5), {}, "config.r: 2.5 is not a whole number"),
    (peft("LoHa", r=0), {}, "config.r: 0 is too low; use at least 1"),
    (peft("VeRA", vera_dropout=1), {}, "config.vera_dropout: 1 is too high; use at most 0.99"),
    (peft("PromptTuning", prompt_tuning_init="TEXT"), ADAPTER, "use one of SAMPLE_VOCAB, RANDOM"),
    (peft("AdaLoRA", target_r=12), {}, "config.target_r: 12 is not below init_r 12"),
    (peft("AdaLoRA"), {"training": {"earlyStopping": {}}}, "spec.training.earlyStopping: AdaLoRA shrinks its ranks"),
    (
        {"type": "LoRA"},
        {"training": {"earlyStopping": {}}, "distribution": {"strategy": "DDP", "workers": 2}},
        "spec.training.earlyStopping: was not tried with strategy DDP",
    ),
    (
        {"type": "LoRA"},
        {"training": {"earlyStopping": {}}, "distribution": {"workers": 2}},
        "spec.training.earlyStopping: was not tried with strategy Auto and several processes",
    ),
    (peft("AdaLoRA", tinit=5, tfinal=5), {"training": {"maxSteps": 10}}, "none of the 10 steps"),
    (peft("AdaLoRA", tinit=5), {"training": {"maxSteps": 7}}, "tinit 5 and tfinal 2 leave none of the 7 steps"),
    (peft("AdaLoRA", tfinal=9), {"training": {"maxSteps": 10}}, "tinit 1 and tfinal 9 leave none of the 10 steps"),
    (peft("HRA", r=3), {}, "config.r: 3 is odd"),
    (peft("PrefixTuning"), {}, "spec.export.format: Prefix tuning does not merge"),
    (peft("PromptTuning"), {}, "set export.format to Adapter"),
    (peft("PTuning", num_virtual_tokens=64), {**ADAPTER, "training": {"maxSequenceLength": 64}}, "not below"),
    ({"type": "Full"}, ADAPTER, "Adapter needs an adapter and type Full"),
    ({"type": "LoRA"}, {**ADAPTER, "serve": {}}, "spec.serve: an endpoint serves ONNX models"),
    ({"type": "LoRA", "lora": {"init": "LoftQ"}}, {}, "spec.technique.lora.init: LoftQ runs on CUDA only"),
    ({"type": "QLoRA", "lora": {"init": "PiSSA"}}, {}, "spec.technique.lora.init: PiSSA splits full-precision"),
    ({"type": "QLoRA", "quantization": {"type": "HQQ"}}, {}, "spec.technique.quantization.type: HQQ runs on CUDA"),
    (peft("AdaLoRA"), {"distribution": {"strategy": "DeepSpeed", "workers": 2}}, "use DDP or None"),
    (
        peft("PrefixTuning"),
        {**ADAPTER, "training": {"gradientCheckpointing": True}},
        "spec.training.gradientCheckpointing: Prefix tuning hands its tokens over as a cache",
    ),
]


@pytest.mark.parametrize(("technique", "fields", "words"), REFUSED)
def test_what_cannot_work_is_refused_with_the_reason(
    technique: dict[str, Any], fields: dict[str, Any], words: str
) -> None:
    """One sentence that names the field, the value and the way out."""
    (found,) = refusals(job(technique, **fields))
    assert found.startswith("spec.")
    assert words in found


#: Run on two processes under ZeRO stage 3, whose weights were the same as those of one.
TRIED_IN_PARTS = {"LoRA", "rsLoRA", "LoRA+", "DoRA", "Full", "Full, last layers"}


@pytest.mark.parametrize("name", TECHNIQUES)
def test_stage_3_is_for_what_was_tried(name: str) -> None:
    """A technique of the table is refused there unless it is one of the few that were run."""
    row, distribution = TECHNIQUES[name], {"strategy": "DeepSpeed", "zeroStage": 3}
    export = {"format": "ONNX" if row.merges else "Adapter"}
    assert bool(refusals(job(dict(row.example), distribution=distribution, export=export))) != (name in TRIED_IN_PARTS)


def test_a_schedule_that_leaves_a_step_is_taken() -> None:
    """One step between the first and the last ones is enough to shrink in."""
    assert refusals(job(peft("AdaLoRA", tinit=4), training={"maxSteps": 7})) == []


@pytest.mark.parametrize(
    ("technique", "words"),
    [
        ({"type": "QLoRA", "lora": {"rank": 256}}, "spec.technique.lora.rank: 256 is above the width 128"),
        (peft("LoKr", r=256), "config.r: 256 is above the width 128"),
        (peft("OFT", oft_block_size=48), "config.oft_block_size: 48 does not divide the width 128"),
        ({"type": "Full", "full": {"lastLayers": 5}}, "spec.technique.full.lastLayers: 5 is above the model's 4"),
    ],
)
def test_what_a_model_cannot_take_is_refused(technique: dict[str, Any], words: str) -> None:
    """Ranks, blocks and layers are held against the model's own."""
    (found,) = refusals(job(technique), ModelKind.CAUSAL, TINY)
    assert words in found


def test_only_the_named_modules_are_counted() -> None:
    """LoRA on the output projection of each of Phi-3 mini's layers; DoRA adds a magnitude per output."""
    asked = {"rank": 16, "targetModules": ["o_proj"]}
    for kind, each in (("LoRA", 0), ("DoRA", 3072)):
        technique = TechniqueSpec.model_validate({"type": kind, "lora": asked})
        assert trained_parameters(technique, PHI3_MINI) == 32 * (16 * (3072 + 3072) + each)


def test_only_the_named_modules_bound_the_rank() -> None:
    """Grouped keys are narrow, which does not matter to who adapts something else."""
    numbers = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "max_position_embeddings": 128}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    shapes = shapes_of(architecture_of({"model_type": "llama", "vocab_size": 320, **numbers, **heads}))
    (found,) = refusals(job({"type": "LoRA", "lora": {"rank": 48}}), ModelKind.CAUSAL, shapes)
    assert "lora.rank: 48 is above the width 32" in found
    narrow = job({"type": "LoRA", "lora": {"rank": 48, "targetModules": ["o_proj", "down_proj"]}})
    assert refusals(narrow, ModelKind.CAUSAL, shapes) == []


def test_virtual_tokens_need_a_causal_model() -> None:
    """The reason names the model's kind."""
    (found,) = refusals(job(peft("PromptTuning"), **ADAPTER), ModelKind.ENCODER)
    assert "Prompt tuning needs a causal model and this one is encoder" in found
