"""What a job's spec means for the planner: its workload, its processes, and the memory of its stages. Pure."""

from tunesmith_api.architecture import Architecture
from tunesmith_api.enums import DataFormat, ExportFormat, ExportPrecision, Precision, Task
from tunesmith_api.finetunejob import FineTuneJobSpec
from tunesmith_api.planner.memory import (
    COMPLETION_SHARE,
    DEFAULT_SEQUENCE_LENGTH,
    FP32,
    FRAMEWORK_BYTES,
    MemoryEstimate,
    Sharding,
    Workload,
    estimate_export_memory,
    estimate_memory,
)
from tunesmith_api.techniques import virtual_tokens


def sequence_length(spec: FineTuneJobSpec, model: Architecture) -> int:
    """The longest row in tokens that the job trains on."""
    room = model.max_position_embeddings - virtual_tokens(spec.technique)
    return min(spec.training.max_sequence_length or DEFAULT_SEQUENCE_LENGTH, room)


def workload_of(spec: FineTuneJobSpec, model: Architecture, *, autocast: bool) -> Workload:
    """What one training process of the job does at a time; plain text is learnt whole, else only the answers."""
    whole = spec.dataset.format is DataFormat.TEXT or spec.task is Task.TRANSLATION
    generation = spec.evaluation.generation
    return Workload(
        batch_size=spec.training.batch_size,
        sequence_length=sequence_length(spec, model),
        labelled_share=1.0 if whole else COMPLETION_SHARE,
        accumulation=spec.training.gradient_accumulation_steps,
        autocast=autocast,
        checkpointing=spec.training.gradient_checkpointing,
        lossless_half=model.stored_in_bf16 and spec.training.precision is not Precision.FP16,
        answer_tokens=generation.max_new_tokens if generation.max_samples else 0,
    )


def sharding_of(spec: FineTuneJobSpec) -> Sharding:
    """The job's processes and how they share the model; ZeRO stage 2 where DeepSpeed is asked for without a stage."""
    asked = spec.distribution
    return Sharding(
        processes=asked.processes,
        per_worker=asked.processes_per_worker,
        zero_stage=asked.stage,
        offload=asked.offload,
    )


def estimate_job(spec: FineTuneJobSpec, model: Architecture, *, device: bool = False) -> MemoryEstimate:
    """Peak memory of one training process of a resolved job.

    With precision Auto the processor decides, which is not known here: the arithmetic that needs more is taken.
    """
    sharding = sharding_of(spec)
    choices = {Precision.AUTO: (False, True), Precision.FP32: (False,)}.get(spec.training.precision, (True,))
    found = [
        estimate_memory(model, spec.technique, workload_of(spec, model, autocast=autocast), sharding, device=device)
        for autocast in choices
    ]
    return max(found, key=lambda estimate: estimate.total)


def export_bytes(spec: FineTuneJobSpec, model: Architecture) -> int:
    """Peak memory of the export stage: none of the model for an adapter; merged weights twice, as they are written."""
    if spec.export.format is ExportFormat.ADAPTER:
        return FRAMEWORK_BYTES
    if spec.export.format is ExportFormat.SAFETENSORS:
        return FRAMEWORK_BYTES + 2 * FP32 * model.parameters
    return estimate_export_memory(model, quantized=spec.export.precision is not ExportPrecision.EXACT)
