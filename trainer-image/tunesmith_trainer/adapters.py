"""Putting a technique on a model: what it adapts there, and with which settings."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import peft
import torch
from torch import nn

from tunesmith_api.enums import LoraInit, PeftMethod, TechniqueType
from tunesmith_api.families import HEADS, family_of, is_feedforward
from tunesmith_api.finetunejob import LoraSpec, TechniqueSpec
from tunesmith_api.parameters import Linear, Shapes
from tunesmith_api.techniques import options_of, rank_schedule
from tunesmith_trainer.errors import BadConfigError

#: PEFT's names of the initialisations.
_INITS: dict[LoraInit, bool | str] = {
    LoraInit.DEFAULT: True,
    LoraInit.GAUSSIAN: "gaussian",
    LoraInit.PISSA: "pissa",
    LoraInit.OLORA: "olora",
}
_CONFIGS: dict[PeftMethod, Callable[..., Any]] = {
    PeftMethod.IA3: peft.IA3Config,
    PeftMethod.ADALORA: peft.AdaLoraConfig,
    PeftMethod.VERA: peft.VeraConfig,
    PeftMethod.OFT: peft.OFTConfig,
    PeftMethod.BOFT: peft.BOFTConfig,
    PeftMethod.LOHA: peft.LoHaConfig,
    PeftMethod.LOKR: peft.LoKrConfig,
    PeftMethod.FOURIER_FT: peft.FourierFTConfig,
    PeftMethod.HRA: peft.HRAConfig,
    PeftMethod.LAYER_NORM: peft.LNTuningConfig,
    PeftMethod.PREFIX_TUNING: peft.PrefixTuningConfig,
    PeftMethod.PROMPT_TUNING: peft.PromptTuningConfig,
    PeftMethod.P_TUNING: peft.PromptEncoderConfig,
}
#: What PEFT would choose otherwise: a random spectrum, at our scale, destroys a narrow model before the first step.
_FIXED: dict[PeftMethod, dict[str, Any]] = {PeftMethod.FOURIER_FT: {"init_weights": True}}
#: BOFT looks for a compiler to build a CUDA kernel that none of our settings uses; norms of a model's own class have no
#: input and output widths, which nothing asks for; AdaLoRA has a rank pattern of its own kind, and its weights leave
#: out what follows from its configuration; behind virtual tokens positions are counted anew.
_EXPECTED = (
    "Failed to load the CUDA extension",
    "Setting boft_n_butterfly_factor to 1",
    "The following rank_pattern keys did not match",
    "Position ids are not supported",
    "Unsupported layer type .*Norm",
    r"Found missing adapter keys while loading the checkpoint: \[('[^']*ranknum[^']*'(, )?)+\]",
)
_PROMPTS = frozenset({PeftMethod.PREFIX_TUNING, PeftMethod.PROMPT_TUNING, PeftMethod.P_TUNING})


@dataclass(frozen=True)
class Adaptation:
    """How a model is adapted.

    Attributes:
        asked: the job's technique.
        targets: last parts of the names of the linear layers to adapt; every one of the model's layers when empty.
        task: PEFT's name of the task, such as CAUSAL_LM; empty where PEFT's model of the task must stay out.
        total_steps: optimizer steps of the run, which a schedule of ranks needs.
    """

    asked: TechniqueSpec
    targets: Sequence[str] = ()
    task: str = "CAUSAL_LM"
    total_steps: int = 1


def adapt(model: Any, adaptation: Adaptation) -> Any:
    """The model with a technique on it: only what the technique trains asks for gradients.

    Raises:
        BadConfigError: the run is too short for the technique's schedule, or the model has too few layers.
    """
    asked = adaptation.asked
    if asked.type is TechniqueType.FULL:
        return _unfreeze(model, asked.full.last_layers if asked.full else None)
    with expected_warnings():
        tuned = peft.get_peft_model(model, _config(model, adaptation))
    if asked.peft is not None and asked.peft.method is PeftMethod.PREFIX_TUNING:
        _start_from_words(tuned)
    return tuned


@contextmanager
def expected_warnings() -> Iterator[None]:
    """Keep quiet what PEFT says although all is well."""
    with warnings.catch_warnings():
        for message in _EXPECTED:
            warnings.filterwarnings("ignore", message=message)
        yield


def note_new_layers(model: Any, missing: Iterable[str]) -> None:
    """Remember which layers beside the head a checkpoint has no weights for, as a masked language model's pooler.

    They are as new as the head, so every technique trains and saves them in full.

    Args:
        model: the model as loaded.
        missing: names of the weights that the checkpoint lacks.
    """
    layers = {name.rpartition(".")[0] for name in missing}
    model.new_layers = sorted(name for name in layers if not HEADS & set(name.split(".")))


#: Heads that PEFT itself adds to `modules_to_save` for the tasks that it knows.
_PEFTS_OWN_HEADS = frozenset({"classifier", "score", "qa_outputs"})


def _config(model: Any, adaptation: Adaptation) -> Any:
    asked = adaptation.asked
    own = _PEFTS_OWN_HEADS if adaptation.task else frozenset()
    heads = [name for name, _ in model.named_children() if name in HEADS and name not in own]
    new = [*heads, *getattr(model, "new_layers", ())]
    common = {"task_type": adaptation.task or None, "modules_to_save": new or None}
    names = linear_names(model, adaptation.targets)
    if asked.peft is None:
        return peft.LoraConfig(target_modules=names, **_lora_options(asked), **common)
    options, method = options_of(asked), asked.peft.method
    if method is PeftMethod.ADALORA:
        options = _schedule(options, adaptation.total_steps)
    if method is PeftMethod.IA3:
        family = family_of(model.config.to_dict())
        options["feedforward_modules"] = [name for name in names if is_feedforward(family, name)]
    if method not in _PROMPTS:
        options["target_modules"] = norm_names(model) if method is PeftMethod.LAYER_NORM else names
    return _CONFIGS[method](**options, **_FIXED.get(method, {}), **common)


def _lora_options(asked: TechniqueSpec) -> dict[str, Any]:
    lora = asked.lora or LoraSpec()
    return {
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "use_rslora": lora.rank_stabilized,
        "use_dora": lora.weight_decomposed or asked.type is TechniqueType.DORA,
        "init_lora_weights": _INITS[lora.init],
    }


def _schedule(options: dict[str, Any], steps: int) -> dict[str, Any]:
    """AdaLoRA's options with the steps at which the rank shrinks."""
    try:
        first, last = rank_schedule(options, steps)
    except ValueError as error:
        raise BadConfigError(f"spec.technique.peft.config.tinit: {error}") from error
    return {**options, "tinit": first, "tfinal": last, "total_step": steps}


def _start_from_words(model: Any) -> None:
    """Start a prefix as keys and values of random words: PEFT's benchmark rose from 18.6 to 41.6 with real ones."""
    config = model.active_peft_config
    if config.prefix_projection:
        return
    base = model.get_base_model()
    device = base.get_input_embeddings().weight.device
    words = torch.randint(0, base.config.vocab_size, (1, config.num_virtual_tokens), device=device)
    with torch.no_grad():
        cache = base(input_ids=words, use_cache=True).past_key_values
    peft.initialize_kv_prefix_from_past_key_values(
        model, past_key_values=cache, num_virtual_tokens=config.num_virtual_tokens
    )


def _unfreeze(model: Any, last: int | None) -> Any:
    """Train every weight, or those from the last layers on; a tied head trains the embeddings too."""
    model.requires_grad_(last is None)
    if last is None:
        return model
    family = family_of(model.config.to_dict())
    stack = list(_stack(model, family.layers))
    if last > len(stack):
        raise BadConfigError(
            f"spec.technique.full.lastLayers: {last} is above the model's {len(stack)} layers; use at most {len(stack)}"
        )
    for part in (*stack[-last:], *tail_of(model)):
        part.requires_grad_()
    return model


def _stack(model: Any, path: str) -> Any:
    return next(part for name, part in model.named_modules() if f".{name}".endswith(f".{path}"))


def tail_of(model: Any) -> list[Any]:
    """What follows the last layer: final norm, pooler, language or task head, whichever the model has."""
    tail = family_of(model.config.to_dict()).tail
    wanted = tuple(f".{name}" for name in (*tail, *HEADS))
    return [part for name, part in model.named_modules() if f".{name}".endswith(wanted) and list(part.parameters())]


def linear_names(model: Any, targets: Sequence[str] = ()) -> list[str]:
    """Full names of the linear layers inside the model's repeated layers: heads and poolers are never adapted."""
    return [
        name
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear) and in_layers(name) and (not targets or name.rpartition(".")[2] in targets)
    ]


def in_layers(name: str) -> bool:
    """Whether a module lies in a stack of layers, by the number in its name."""
    return any(part.isdigit() for part in name.split("."))


def norm_names(model: Any) -> list[str]:
    """Full names of the norms that have weights."""
    return [
        name
        for name, part in model.named_modules()
        if "Norm" in type(part).__name__ and list(part.parameters(recurse=False))
    ]


def shapes_of(model: Any, targets: Sequence[str] = ()) -> Shapes:
    """The shapes that the technique table's formulas need, from a loaded model."""
    config, family = model.config, family_of(model.config.to_dict())
    layers = list(_stack(model, family.layers))
    parts = dict(model.named_modules())
    names = linear_names(model, targets)
    heads = getattr(config, "num_attention_heads", 1)
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    return Shapes(
        linears=tuple(
            Linear(
                parts[name].in_features,
                parts[name].out_features,
                is_feedforward(family, name),
                frozenset({name.rpartition(".")[2]}),
            )
            for name in names
        ),
        layers=len(layers),
        hidden_size=config.hidden_size,
        key_value_width=head * (getattr(config, "num_key_value_heads", None) or heads),
        norm_weights=sum(_weights(parts[name]) for name in norm_names(model)),
        total=_weights(model),
        layer_weights=_weights(layers[-1]),
        tail_weights=sum(map(_weights, tail_of(model))),
    )


def _weights(part: Any) -> int:
    return sum(weight.numel() for weight in part.parameters())


def has_virtual_tokens(model: Any) -> bool:
    """Whether a technique puts something before each row: embeddings, or keys and values."""
    config = getattr(getattr(model, "module", model), "active_peft_config", None)
    return bool(config is not None and config.is_prompt_learning)


def virtual_tokens(model: Any) -> int:
    """Embeddings that a technique puts before each row, by which its logits are longer than the row."""
    config = getattr(getattr(model, "module", model), "active_peft_config", None)
    prompts = {peft.PeftType.PROMPT_TUNING, peft.PeftType.P_TUNING}
    return int(config.num_virtual_tokens) if config is not None and config.peft_type in prompts else 0
