"""The scenario matrix: what people fine-tune for, the six approaches to it, and what is claimed of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from tunesmith_api.enums import Metric, Task


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
class Proof:
    """A job that proves a row which is a task.

    Attributes:
        example: its folder below `examples/`.
        task: what it learns.
        metric: what every claimed approach must better there.
        notation: whether what it writes is a creative notation.
    """

    example: str
    task: Task
    metric: Metric
    notation: bool = False


@dataclass(frozen=True)
class Scenario:
    """A row of the matrix.

    Attributes:
        title: the row's name.
        claims: approaches that are said to serve it.
        proofs: the jobs that prove a row which is a task.
        goal: what is measured instead, for a row which is a goal.
        example: for a goal, the job below `examples/` that asks for it.
    """

    title: str
    claims: frozenset[Approach]
    proofs: tuple[Proof, ...] = ()
    goal: Measure | None = None
    example: str = ""


_EVERY = frozenset(Approach)

SCENARIOS: tuple[Scenario, ...] = (
    Scenario("Domain adaptation", _EVERY, (Proof("domain-adaptation", Task.TEXT_GENERATION, Metric.PERPLEXITY),)),
    Scenario(
        "Classification, named entities, translation",
        _EVERY,
        (
            Proof("text-classification", Task.TEXT_CLASSIFICATION, Metric.ACCURACY),
            Proof("named-entities", Task.TOKEN_CLASSIFICATION, Metric.ENTITY_F1),
            Proof("translation", Task.TRANSLATION, Metric.BLEU),
        ),
    ),
    Scenario("Question answering", _EVERY, (Proof("question-answering", Task.QUESTION_ANSWERING, Metric.EXACT_MATCH),)),
    Scenario("Chatbots", _EVERY, (Proof("home-assistant", Task.CHAT, Metric.EXACT_MATCH),)),
    Scenario(
        "Creative generation",
        _EVERY,
        (Proof("creative-notation", Task.TEXT_GENERATION, Metric.PARSE_RATE, notation=True),),
    ),
    Scenario(
        "Lower compute and money cost",
        frozenset({Approach.LORA, Approach.QLORA, Approach.DEEPSPEED, Approach.ZERO}),
        goal=Measure.COST,
        example="home-assistant/lowest-cost.yaml",
    ),
    Scenario(
        "Less memory",
        frozenset({Approach.QLORA, Approach.DEEPSPEED, Approach.ZERO, Approach.DORA}),
        goal=Measure.MEMORY,
        example="home-assistant/lowest-memory.yaml",
    ),
    Scenario(
        "Fewer trained parameters",
        frozenset({Approach.QLORA, Approach.PEFT, Approach.DORA}),
        goal=Measure.PARAMETERS,
        example="home-assistant/fewest-parameters.yaml",
    ),
    Scenario(
        "Pooled memory of all GPUs",
        frozenset({Approach.DEEPSPEED, Approach.ZERO, Approach.DORA}),
        goal=Measure.POOLED_MEMORY,
        example="home-assistant/pooled-memory.yaml",
    ),
)

#: Ratio to full fine-tuning below which a measurement says yes: a tenth is more than the noise of a shared machine.
YES_BELOW: Mapping[Measure, float] = MappingProxyType(
    {Measure.COST: 0.9, Measure.MEMORY: 0.9, Measure.PARAMETERS: 0.5, Measure.POOLED_MEMORY: 0.9}
)

_LORA = {"lora": {"rank": 16, "alpha": 32}}
_LOKR = {"method": "LoKr", "config": {"r": 16, "alpha": 32}}

#: What each approach changes in a job's spec. PEFT stands for the methods beside LoRA by LoKr, which trains the fewest
#: weights that still learn every task. DeepSpeed is ZeRO's stage 1 (optimizer states shared), ZeRO its stage 3
#: (weights and gradients too); both tune every weight, which is what they are made for.
CHANGES: Mapping[Approach, Mapping[str, Any]] = MappingProxyType(
    {
        Approach.LORA: {"technique": {"type": "LoRA", **_LORA}},
        Approach.QLORA: {"technique": {"type": "QLoRA", **_LORA}},
        Approach.PEFT: {"technique": {"type": "PEFT", "peft": _LOKR}, "training": {"learningRate": 0.01}},
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
