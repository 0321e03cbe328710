"""What Auto chooses from: techniques with settings that are known to work, and how well they did in a benchmark. Data.

Quality is the accuracy on GSM8K in PEFT's own comparison (`method_comparison/MetaMathQA`, Llama-3.2-3B, 5000 steps of
batch 4): the one like-for-like table of accuracy, memory and time. Where the table has no row of the same rank or
storage the nearest row stands for it, which `source` says.
"""

from dataclasses import dataclass
from typing import Any

from tunesmith_api.architecture import Architecture
from tunesmith_api.enums import Goal
from tunesmith_api.finetunejob import LoraSpec, TechniqueSpec
from tunesmith_api.shapes import widest_rank


@dataclass(frozen=True)
class Candidate:
    """One technique with its settings.

    Attributes:
        name: what status.plan.technique says.
        fields: the job's `technique`.
        quality: accuracy in the benchmark, in per cent.
        source: the benchmark's row.
        balanced: place in the order that goal Balanced tries.
        only: the one goal that it is offered for; every goal when None.
    """

    name: str
    fields: dict[str, Any]
    quality: float
    source: str
    balanced: int
    only: Goal | None = None

    def technique(self, model: Architecture | None) -> TechniqueSpec:
        """The technique's spec; its rank is at most the width of the model's narrowest layer."""
        asked = TechniqueSpec.model_validate(self.fields)
        if asked.lora is None or model is None or asked.lora.rank <= widest_rank(model):
            return asked
        rank = widest_rank(model)
        lora = asked.lora.model_copy(update={"rank": rank, "alpha": asked.lora.alpha * rank / asked.lora.rank})
        return asked.model_copy(update={"lora": lora})


def _lora(kind: str, rank: int, **more: Any) -> dict[str, Any]:
    return {"type": kind, "lora": LoraSpec(rank=rank, alpha=2 * rank, **more).wire()}


_NF4 = "LoRA r32; NF4 matches it (Dettmers et al. 2023)"

CANDIDATES: tuple[Candidate, ...] = (
    Candidate("LoRA", _lora("LoRA", 16), 47.8, "LoRA r32", 1),
    Candidate("LoRA-r8", _lora("LoRA", 8), 47.8, "LoRA r32", 2),
    Candidate("LoRA-r2", _lora("LoRA", 2), 47.8, "LoRA r32", 5, only=Goal.FEWEST_PARAMETERS),
    Candidate(
        "rsLoRA-r64",
        {"type": "LoRA", "lora": {"rank": 64, "alpha": 64, "rankStabilized": True}},
        51.3,
        "rsLoRA r64",
        0,
    ),
    Candidate("DoRA", _lora("DoRA", 16), 46.9, "DoRA r32", 6),
    Candidate("IA3", {"type": "PEFT", "peft": {"method": "IA3"}}, 45.5, "IA3, tuned", 7),
    Candidate("Full", {"type": "Full"}, 47.2, "full fine-tune", 8),
    Candidate("QLoRA", _lora("QLoRA", 16), 47.8, _NF4, 3),
    Candidate("QLoRA-r8", _lora("QLoRA", 8), 47.8, _NF4, 4),
)


def candidate_named(name: str) -> Candidate | None:
    """The candidate of a name that a plan recorded."""
    return next((one for one in CANDIDATES if one.name == name), None)
