"""DeepSpeed around a training: started without compiled operators; weights of ZeRO stage 3 measured and gathered."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from tunesmith_trainer.gang import Gang
from tunesmith_trainer.tuned import TRAINED, load_trained


@dataclass(frozen=True)
class Weights:
    """Who holds the weights: every process all of them, or each a part (ZeRO stage 3).

    Attributes:
        gang: the processes.
        config: DeepSpeed's configuration, or None.
    """

    gang: Gang = field(default_factory=Gang)
    config: dict[str, Any] | None = None

    @property
    def parted(self) -> bool:
        """Whether each process holds a part only, so that all must take part in every forward pass."""
        return self.config is not None and self.config["zero_optimization"]["stage"] == 3

    def measure(self, work: Callable[[], Any]) -> Any:
        """The JSON value of an evaluation: by rank 0 alone, or by all in step where each holds a part."""
        return work() if self.parted else self.gang.lead_only(work)

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Models loaded while inside are parted as they are read."""
        if not self.parted:
            yield
            return
        from transformers.integrations import HfDeepSpeedConfig  # noqa: PLC0415 - imports deepspeed

        held = HfDeepSpeedConfig(self.config)  # transformers keeps a weak reference only
        yield
        del held

    @contextmanager
    def working(self, model: Any) -> Iterator[None]:
        """A parted model that is not in training computes while inside: its layers are gathered one by one."""
        if not self.parted:
            yield
            return
        assert self.config is not None
        deepspeed = import_module("deepspeed")
        left_out = {"gradient_clipping", "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer"}
        config = {name: value for name, value in self.config.items() if name not in left_out}
        engine, *_ = deepspeed.initialize(model=model, config=config, dist_init_required=False)
        try:
            yield
        finally:
            engine.destroy()

    def gathered(self, model: Any) -> dict[str, torch.Tensor] | None:
        """The whole weights on rank 0's host, without the frozen ones of an adapted model; None when nothing is parted.

        One weight is whole at a time, so that no device ever holds the model. Empty on other ranks.
        """
        if not self.parted:
            return None
        gather = import_module("deepspeed").zero.GatheredParameters
        adapted = hasattr(model, "peft_config")
        whole: dict[str, torch.Tensor] = {}
        for name, weight in model.named_parameters():
            if adapted and not weight.requires_grad:
                continue
            with gather([weight]):
                if self.gang.leads:
                    whole[name] = weight.detach().cpu().clone()
        return whole

    def restore(self, model: Any, folder: Path) -> None:
        """Put the trained weights of a checkpoint into a model that was adapted alike, one at a time where parted."""
        if not self.parted:
            load_trained(model, folder)
            return
        gather = import_module("deepspeed").zero.GatheredParameters
        with safe_open(folder / TRAINED, "pt") as file, torch.no_grad():
            weights = dict(model.named_parameters())
            for name in file.keys():  # noqa: SIM118 - no mapping
                with gather([weights[name]], modifier_rank=0):
                    weights[name].copy_(file.get_tensor(name))


def start_deepspeed() -> None:
    """Let DeepSpeed use the process group that is there.

    On a CPU it would compile an all-reduce through shared memory at this point, which takes a C++ compiler and 80 s;
    only its inference engine calls it. Its table of operators is therefore left empty.
    """
    deepspeed = import_module("deepspeed")
    import_module("deepspeed.utils").logger.setLevel(logging.WARNING)
    vars(import_module("deepspeed.ops"))["__compatible_ops__"] = {}
    deepspeed.init_distributed(dist_backend=torch.distributed.get_backend(), auto_mpi_discovery=False, verbose=False)
