"""The scenario matrix: what people fine-tune for, the six approaches to it, and what is claimed of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from tunesmith_api.enums import Metric


class Approach(StrEnum):
    """A column of the matrix."""

    LORA = "LoRA"
    QLORA = "QLoRA"
    PEFT = "PEFT"
    DEEPSPEED = "DeepSpeed"
    ZERO = "ZeRO"
    DORA = "DoRA"


class Measure(StrEnum):
    """What a row that is no task asks for; each is measured against full fine-tuning by one process."""

    COST = "cost"
    MEMORY = "memory"
    PARAMETERS = "parameters"
    POOLED_MEMORY = "pooled memory"


@dataclass(frozen=True)
class Scenario:
    """A row of the matrix.

    Attributes:
        title: the row's name.
        claims: approaches that are said to serve it.
        examples: folders below `examples/`, and the metric that every claimed approach must better there.
        goal: what is measured instead, for a row that is a goal.
    """

    title: str
    claims: frozenset[Approach]
    examples: Mapping[str, Metric] = field(default_factory=dict)
    goal: Measure | None = None


_EVERY = frozenset(Approach)

SCENARIOS: tuple[Scenario, ...] = (
    Scenario("Domain adaptation", _EVERY, {"domain-adaptation": Metric.PERPLEXITY}),
    Scenario(
        "Classification, named entities, translation",
        _EVERY,
        {"text-classification": Metric.ACCURACY, "named-entities": Metric.ENTITY_F1, "translation": Metric.BLEU},
    ),
    Scenario("Question answering", _EVERY, {"question-answering": Metric.EXACT_MATCH}),
    Scenario("Chatbots", _EVERY, {"home-assistant": Metric.EXACT_MATCH}),
    Scenario("Creative generation", _EVERY, {"creative-notation": Metric.PARSE_RATE}),
    Scenario(
        "Lower compute and money cost",
        frozenset({Approach.LORA, Approach.QLORA, Approach.DEEPSPEED, Approach.ZERO}),
        goal=Measure.COST,
    ),
    Scenario(
        "Less memory",
        frozenset({Approach.QLORA, Approach.DEEPSPEED, Approach.ZERO, Approach.DORA}),
        goal=Measure.MEMORY,
    ),
    Scenario(
        "Fewer trained parameters",
        frozenset({Approach.QLORA, Approach.PEFT, Approach.DORA}),
        goal=Measure.PARAMETERS,
    ),
    Scenario(
        "Pooled memory of all GPUs",
        frozenset({Approach.DEEPSPEED, Approach.ZERO, Approach.DORA}),
        goal=Measure.POOLED_MEMORY,
    ),
)

#: Ratio to full fine-tuning below which a measurement says yes: a tenth is more than the noise of a shared machine.
YES_BELOW: Mapping[Measure, float] = MappingProxyType(
    {Measure.COST: 0.9, Measure.MEMORY: 0.9, Measure.PARAMETERS: 0.5, Measure.POOLED_MEMORY: 0.9}
)

_LORA = {"lora": {"rank": 16, "alpha": 32}}

#: What each approach changes in a job's spec. DeepSpeed is ZeRO's stage 1 (optimizer states shared), ZeRO its stage 3
#: (weights and gradients too); both tune every weight, which is what they are made for.
CHANGES: Mapping[Approach, Mapping[str, Any]] = MappingProxyType(
    {
        Approach.LORA: {"technique": {"type": "LoRA", **_LORA}},
        Approach.QLORA: {"technique": {"type": "QLoRA", **_LORA}},
        Approach.PEFT: {"technique": {"type": "PEFT", "peft": {"method": "IA3"}}, "training": {"learningRate": 0.05}},
        Approach.DEEPSPEED: {
            "technique": {"type": "Full"},
            "training": {"learningRate": 0.001},
            "distribution": {"strategy": "DeepSpeed", "zeroStage": 1, "processesPerWorker": 2},
        },
        Approach.ZERO: {
            "technique": {"type": "Full"},
            "training": {"learningRate": 0.001},
            "distribution": {"strategy": "DeepSpeed", "zeroStage": 3, "processesPerWorker": 2},
        },
        Approach.DORA: {"technique": {"type": "DoRA", **_LORA}},
    }
)


def adapted(spec: Mapping[str, Any], approach: Approach) -> dict[str, Any]:
    """The spec of a job (as in YAML) by another approach; `technique` is replaced, other fields are merged."""
    changes = CHANGES[approach]
    merged = {**spec, "technique": changes["technique"]}
    for part in ("training", "distribution"):
        if part in changes:
            merged[part] = {**spec.get(part, {}), **changes[part]}
    return merged
