"""Fields of a job that cannot go together, whatever the model: one table for the API server, the trainer and people.

The rows come from the technique table. Each is data: fields with the values that clash. From it follow the check in
Python, the CEL expression that the API server evaluates, and an example that breaks it. Pure.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, get_args

from pydantic.alias_generators import to_camel

from tunesmith_api.enums import (
    ExportFormat,
    ExportPrecision,
    LoraInit,
    PeftMethod,
    Quantization,
    Strategy,
    TechniqueType,
)
from tunesmith_api.finetunejob import FineTuneJobSpec
from tunesmith_api.model import Model, Rule
from tunesmith_api.techniques import PEFT_FAMILY


class _Present(StrEnum):
    PRESENT = "present"


#: Stands for any value of an optional field.
PRESENT: Final = _Present.PRESENT


@dataclass(frozen=True)
class Clash:
    """One row.

    Attributes:
        fields: the values that clash, by the fields' paths below spec in Python's names.
        message: the field, the value, why, and the way out.
    """

    fields: Mapping[str, Any]
    message: str

    def of(self, spec: FineTuneJobSpec) -> bool:
        """Whether a spec has all of the values."""
        return all(_has(spec, path, value) for path, value in self.fields.items())

    @property
    def cel(self) -> str:
        """The same for the API server, which has filled in defaults: optional fields are asked for first."""
        return " && ".join(term for path, value in self.fields.items() for term in _terms(path, value))

    def example(self) -> dict[str, Any]:
        """The values as a job's spec has them."""
        spec: dict[str, Any] = {}
        for path, value in self.fields.items():
            *parents, last = map(to_camel, path.split("."))
            node = spec
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = {} if value is PRESENT else value
        return spec


def _has(spec: FineTuneJobSpec, path: str, value: object) -> bool:
    found: Any = spec
    for part in path.split("."):
        found = getattr(found, part, None)
    return found is not None if value is PRESENT else bool(found == value)


def _terms(path: str, value: object) -> Iterator[str]:
    name, model = "self", FineTuneJobSpec
    for part in path.split("."):
        field = model.model_fields[part]
        name = f"{name}.{to_camel(part)}"
        if field.default is None:
            yield f"has({name})"
        model = next((kind for kind in (field.annotation, *get_args(field.annotation)) if _is_model(kind)), model)
    if value is not PRESENT:
        yield f"{name} == {json.dumps(value)}"


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Model)


_STAGE_3 = {"distribution.strategy": Strategy.DEEPSPEED, "distribution.zero_stage": 3}
#: LoRA, rsLoRA, LoRA+, DoRA and full tuning train the same under ZeRO stage 3 as in one process (run on two). PiSSA was
#: tried and went another way without a word, QLoRA is refused by transformers, the other methods were not tried.
_NOT_IN_PARTS = "does not train, or was not tried, in parts; use zeroStage 2,"
_SPLITS = tuple(init for init in LoraInit if init.splits_base)


def _peft(method: PeftMethod) -> dict[str, Any]:
    return {"technique.type": TechniqueType.PEFT, "technique.peft.method": method}


def _storing() -> Iterator[Clash]:
    field = "spec.technique.lora.init"
    why = "runs on CUDA only (PEFT has no other code for it), which is not built; use Default"
    yield Clash({"technique.lora.init": LoraInit.LOFTQ}, f"{field}: LoftQ {why}")
    for init in _SPLITS:
        why = "splits full-precision weights, which QLoRA has not; use Default or Gaussian"
        qlora = {"technique.type": TechniqueType.QLORA, "technique.lora.init": init}
        yield Clash(qlora, f"{field}: {init} {why}")
    hqq = {"technique.type": TechniqueType.QLORA, "technique.quantization.type": Quantization.HQQ}
    why = "runs on CUDA only and is not built; use NF4 or FP4, which run anywhere"
    yield Clash(hqq, f"spec.technique.quantization.type: HQQ {why}")


def _exported() -> Iterator[Clash]:
    for method, row in PEFT_FAMILY.items():
        for wanted in (ExportFormat.ONNX, ExportFormat.SAFETENSORS) if not row.merges else ():
            why = f"does not merge into the base weights, so no {wanted} model can hold it"
            way_out = "set export.format to Adapter, or use LoRA"
            merged = {**_peft(method), "export.format": wanted}
            yield Clash(merged, f"spec.export.format: {row.name} {why}; {way_out}")
    for wanted in (ExportFormat.ADAPTER, ExportFormat.SAFETENSORS):
        asked = {"export.format": wanted}
        for precision in ExportPrecision:
            if precision is not ExportPrecision.BALANCED:  # what stands there when nobody said one
                why = f"{precision} is of ONNX models and format is {wanted}; leave it out"
                yield Clash({**asked, "export.precision": precision}, f"spec.export.precision: {why}")
        why = f"an endpoint serves ONNX models and export.format is {wanted}; leave serve out or use ONNX"
        yield Clash({**asked, "serve": PRESENT}, f"spec.serve: {why}")
    why = "Adapter needs an adapter and type Full trains the model's own weights; use ONNX or Safetensors"
    full = {"export.format": ExportFormat.ADAPTER, "technique.type": TechniqueType.FULL}
    yield Clash(full, f"spec.export.format: {why}")


def _distributed() -> Iterator[Clash]:
    field = "spec.distribution.zeroStage"
    for method, row in PEFT_FAMILY.items():
        if not row.distributes:
            why = "reads whole weights and gradients, which DeepSpeed shards; use DDP or None"
            sharded = {"distribution.strategy": Strategy.DEEPSPEED, **_peft(method)}
            yield Clash(sharded, f"spec.distribution.strategy: {row.name} {why}")
    for kind in (TechniqueType.QLORA, TechniqueType.PEFT):
        asked = {**_STAGE_3, "technique.type": kind}
        yield Clash(asked, f"{field}: {kind} {_NOT_IN_PARTS} LoRA or Full")
    for init in _SPLITS:
        why = f"{init} {_NOT_IN_PARTS} or lora.init Default"
        yield Clash({**_STAGE_3, "technique.lora.init": init}, f"{field}: {why}")


def _stopped_early() -> Iterator[Clash]:
    field, early = "spec.training.earlyStopping", {"training.early_stopping": PRESENT}
    for strategy in (Strategy.DDP, Strategy.DEEPSPEED):
        why = f"was not tried with strategy {strategy} and several processes; leave it out, or use None"
        yield Clash({**early, "distribution.strategy": strategy}, f"{field}: {why}")
    why = "shrinks its ranks over all steps, so a training that stops early would leave them large"
    yield Clash({**early, **_peft(PeftMethod.ADALORA)}, f"{field}: AdaLoRA {why}; leave it out, or use LoRA")


def _worked_out_again() -> Iterator[Clash]:
    why = "hands its tokens over as a cache, which layers that are worked out again do not read"
    prefix = {"training.gradient_checkpointing": True, **_peft(PeftMethod.PREFIX_TUNING)}
    sentence = f"spec.training.gradientCheckpointing: Prefix tuning {why}; leave it out, or use LoRA"
    yield Clash(prefix, sentence)


#: Every row, the most basic first: of several that a spec has the API server tells the first.
CLASHES: tuple[Clash, ...] = (
    *_storing(),
    *_exported(),
    *_distributed(),
    *_stopped_early(),
    *_worked_out_again(),
)


def clash_rule() -> Rule:
    """All rows as one rule of a job's spec, which costs the API server less than a rule for each.

    Its message is the row's own, which starts with the field.
    """
    chosen = "".join(f"{clash.cel} ? {json.dumps(clash.message)} : " for clash in CLASHES[:-1])
    return Rule(
        cel=f"!({' || '.join(f'({clash.cel})' for clash in CLASHES)})",
        message="two fields of the spec do not go together",
        message_cel=f"{chosen}{json.dumps(CLASHES[-1].message)}",
    )
