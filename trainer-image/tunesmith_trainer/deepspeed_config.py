"""DeepSpeed's configuration from the job: every number is said, nothing is left to `auto`."""

from typing import Any

from tunesmith_api.enums import Offload, Precision
from tunesmith_api.finetunejob import DistributionSpec, TrainingSpec
from tunesmith_api.planner import ZERO_BUCKET_ELEMENTS, ZERO_LIVE_WEIGHTS

_ON_CPU = {"device": "cpu", "pin_memory": False}
#: What each offload adds to the ZeRO section.
_OFFLOADS: dict[Offload, dict[str, Any]] = {
    Offload.NONE: {},
    Offload.OPTIMIZER: {"offload_optimizer": _ON_CPU},
    Offload.ALL: {"offload_optimizer": _ON_CPU, "offload_param": _ON_CPU},
}
#: Bounds that the planner counts with.
_BUCKETS = {"reduce_bucket_size": ZERO_BUCKET_ELEMENTS, "allgather_bucket_size": ZERO_BUCKET_ELEMENTS}
_STAGE_3 = {
    "stage3_gather_16bit_weights_on_model_save": True,
    "stage3_max_live_parameters": ZERO_LIVE_WEIGHTS,
    "stage3_max_reuse_distance": ZERO_LIVE_WEIGHTS,
    "stage3_prefetch_bucket_size": ZERO_BUCKET_ELEMENTS,
}


def deepspeed_config(
    distribution: DistributionSpec, training: TrainingSpec, precision: Precision, world: int
) -> dict[str, Any] | None:
    """The configuration that DeepSpeed and transformers read; None without DeepSpeed.

    Weights and optimizer states stay fp32 as in every other training here; BF16 is autocast, by DeepSpeed itself. The
    optimizer is torch's AdamW, on the host too, so that no operator has to be compiled.
    """
    stage = distribution.stage
    if stage is None:
        return None
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": training.batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation_steps,
        "train_batch_size": training.batch_size * training.gradient_accumulation_steps * world,
        "gradient_clipping": training.max_gradient_norm,
        "zero_optimization": {
            "stage": stage,
            **_BUCKETS,
            **_OFFLOADS[distribution.offload],
            **(_STAGE_3 if stage == 3 else {}),
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31,
    }
    if precision is Precision.BF16:
        config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    return config
