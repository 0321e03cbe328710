"""What of a technique cannot work, told before anything is spent: field, value and way out. Pure."""

from collections.abc import Callable, Iterator
from difflib import get_close_matches

from tunesmith_api.clashes import CLASHES
from tunesmith_api.enums import ModelKind, PeftMethod, Strategy, TechniqueType
from tunesmith_api.finetunejob import FineTuneJobSpec, TechniqueSpec
from tunesmith_api.parameters import Linear, Shapes
from tunesmith_api.techniques import Option, Technique, adapted, options_of, rank_schedule, technique_of

_CONFIG = "spec.technique.peft.config"
_LORA_TYPES = frozenset({TechniqueType.LORA, TechniqueType.QLORA, TechniqueType.DORA})


def refusals(spec: FineTuneJobSpec, kind: ModelKind | None = None, shapes: Shapes | None = None) -> list[str]:
    """What of a technique cannot work, a sentence each.

    Args:
        spec: the job's.
        kind: the base model's kind, where it is known.
        shapes: the base model's layers, where they are known.
    """
    row = technique_of(spec.technique)
    wrong = list(_wrong_options(spec, row))
    if wrong:
        return wrong
    found = [clash.message for clash in CLASHES if clash.of(spec)]
    found += [sentence for check in _CHECKS for sentence in check(spec, row)]
    if kind is not None and kind not in row.kinds:
        kinds = ", ".join(sorted(row.kinds))
        found.append(f"spec.technique: {row.name} needs a {kinds} model and this one is {kind}; use LoRA")
    return found + ([] if shapes is None else list(_too_wide(spec, shapes)))


def _wrong_options(spec: FineTuneJobSpec, row: Technique) -> Iterator[str]:
    said = spec.technique.peft.config if spec.technique.peft else {}
    for name, value in said.items():
        option = row.options.get(name)
        if option is None:
            yield f"{_CONFIG}.{name}: {row.name} has no such option; {_nearest(name, row)}"
        else:
            yield from _wrong_value(name, value, option)


def _nearest(name: str, row: Technique) -> str:
    if not row.options:
        return "it has none"
    near = get_close_matches(name, row.options, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    return f"{hint}options: {', '.join(row.options)}"


def _wrong_value(name: str, value: float | str | bool, option: Option) -> Iterator[str]:  # noqa: FBT001 - a value
    if not _fits(value, option.kind):
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
        yield f"{_CONFIG}.{name}: {value!r} is not {names[option.kind]}"
    elif option.choices and value not in option.choices:
        yield f"{_CONFIG}.{name}: {value!r} is not known; use one of {', '.join(option.choices)}"
    elif isinstance(value, int | float) and option.low is not None and value < option.low:
        yield f"{_CONFIG}.{name}: {value:g} is too low; use at least {option.low:g}"
    elif isinstance(value, int | float) and option.high is not None and value > option.high:
        yield f"{_CONFIG}.{name}: {value:g} is too high; use at most {option.high:g}"


def _fits(value: float | str | bool, kind: type) -> bool:  # noqa: FBT001 - a value
    if kind in {bool, str}:
        return isinstance(value, kind)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and (kind is float or float(value).is_integer())


def _early_stopping(spec: FineTuneJobSpec, row: Technique) -> Iterator[str]:
    del row
    several = spec.distribution.processes > 1
    if spec.training.early_stopping is not None and spec.distribution.strategy is Strategy.AUTO and several:
        why = "was not tried with strategy Auto and several processes"
        yield f"spec.training.earlyStopping: {why}; leave it out, or use None"


def _adalora(spec: FineTuneJobSpec, row: Technique) -> Iterator[str]:
    if row.name != "AdaLoRA":
        return
    options = options_of(spec.technique)
    if options["target_r"] >= options["init_r"]:
        yield f"{_CONFIG}.target_r: {options['target_r']} is not below init_r {options['init_r']}, so no rank would go"
    if spec.training.max_steps is not None:
        try:
            rank_schedule(options, spec.training.max_steps)
        except ValueError as error:
            yield f"{_CONFIG}.tinit: {error}"


def _context(spec: FineTuneJobSpec, row: Technique) -> Iterator[str]:
    tokens, length = options_of(spec.technique).get("num_virtual_tokens", 0), spec.training.max_sequence_length
    if length is not None and tokens >= length:
        yield f"{_CONFIG}.num_virtual_tokens: {tokens} is not below maxSequenceLength {length}"
    if row.name == "HRA" and options_of(spec.technique)["r"] % 2:
        yield f"{_CONFIG}.r: {options_of(spec.technique)['r']} is odd; use an even number of reflections"


_CHECKS: tuple[Callable[[FineTuneJobSpec, Technique], Iterator[str]], ...] = (
    _early_stopping,
    _adalora,
    _context,
)


def _too_wide(spec: FineTuneJobSpec, shapes: Shapes) -> Iterator[str]:
    """Ranks and block sizes that the narrowest adapted layer cannot take."""
    options, asked, shapes = options_of(spec.technique), spec.technique, adapted(spec.technique, shapes)
    narrowest = min(min(layer.inputs, layer.outputs) for layer in shapes.linears)
    method = asked.peft.method if asked.peft else None
    for name in _RANKS.get(method, ()) if method else ():
        if options[name] > narrowest:
            yield _above(f"{_CONFIG}.{name}", options[name], narrowest)
    if _asks_for_rank(asked) and options["r"] > narrowest:
        yield _above("spec.technique.lora.rank", options["r"], narrowest)
    block = _BLOCKS.get(method) if method else None
    if block is not None:
        yield from (_indivisible(block, options[block], layer) for layer in _uneven(options[block], shapes))
    layers = options.get("last_layers")
    if layers and layers > shapes.layers:
        yield f"spec.technique.full.lastLayers: {layers} is above the model's {shapes.layers} layers"


def _asks_for_rank(asked: TechniqueSpec) -> bool:
    """Whether the job, not Auto, decides on a rank of the LoRA family."""
    return asked.lora is not None if asked.type is TechniqueType.AUTO else asked.type in _LORA_TYPES


#: Options that are a rank, by method; VeRA's random matrices may be wider than the layer.
_RANKS = {
    PeftMethod.ADALORA: ("init_r",),
    PeftMethod.LOHA: ("r",),
    PeftMethod.LOKR: ("r",),
    PeftMethod.HRA: ("r",),
}
#: Options that are a block size, by method.
_BLOCKS = {PeftMethod.OFT: "oft_block_size", PeftMethod.BOFT: "boft_block_size"}


def _above(field: str, rank: int, width: int) -> str:
    return f"{field}: {rank} is above the width {width} of the narrowest adapted layer; use at most {width}"


def _uneven(block: int, shapes: Shapes) -> list[Linear]:
    uneven = {layer.inputs: layer for layer in shapes.linears if layer.inputs % block}
    return list(uneven.values())[:1]


def _indivisible(name: str, block: int, layer: Linear) -> str:
    return f"{_CONFIG}.{name}: {block} does not divide the width {layer.inputs} of an adapted layer; use a divisor"
