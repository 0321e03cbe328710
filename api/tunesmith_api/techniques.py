"""The techniques: one table that the contract's checks, the trainer, the tests, the docs and the planner read. Pure.

Learning rates: PEFT's benchmark (`method_comparison/MetaMathQA`, Llama-3.2-3B: 1e-4 unless it tuned the rate) or the
technique's paper, whichever is named in the row.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tunesmith_api import parameters
from tunesmith_api.enums import LoraInit, ModelKind, PeftMethod, Quantization, TechniqueType
from tunesmith_api.finetunejob import FineTuneJobSpec, LoraSpec, QuantizationSpec, TechniqueSpec
from tunesmith_api.parameters import Options, Shapes


@dataclass(frozen=True)
class Option:
    """One option of `peft.config`.

    Attributes:
        default: what it is when the job says nothing, which also gives its type; None leaves an integer to PEFT.
        what: what it does.
        low: least value.
        high: greatest value.
        choices: allowed words.
    """

    default: float | str | bool | None
    what: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def kind(self) -> type[int | float | bool | str]:
        """The option's type."""
        return int if self.default is None else type(self.default)


ANY_MODEL = frozenset(ModelKind)
CAUSAL_ONLY = frozenset({ModelKind.CAUSAL})


@dataclass(frozen=True)
class Technique:
    """One row.

    Attributes:
        name: its name in the literature.
        example: the least `spec.technique` that asks for it.
        learning_rate: used when the job leaves `training.learningRate` out.
        source: where that rate comes from.
        paper: who proposed it.
        formula: its trained weights, for people; per adapted layer unless it says otherwise.
        count: its trained weights, from its options and the model's shapes.
        options: what `peft.config` takes.
        merges: whether the result folds into the base weights, so that a plain ONNX model holds it.
        kinds: the model kinds that it fits.
        distributes: whether DeepSpeed can shard it.
    """

    name: str
    example: Mapping[str, Any]
    learning_rate: float
    source: str
    paper: str
    formula: str
    count: Callable[[Options, Shapes], int]
    options: Mapping[str, Option] = field(default_factory=dict)
    merges: bool = True
    kinds: frozenset[ModelKind] = ANY_MODEL
    distributes: bool = True


def _rank(default: int, what: str = "Rank of the update.") -> Option:
    return Option(default, what, 1, 1024)


def _share(what: str) -> Option:
    return Option(0.0, what, 0, 0.99)


_VIRTUAL_TOKENS = Option(20, "Virtual tokens; they count towards the model's context.", 1, 1024)


def _inner_width(default: str) -> Option:
    return Option(None, f"Width of the network; the {default} when absent.", 1, 65536)


_MODULE_DROPOUT = _share("Share of the adapted layers that a training step leaves out.")
_RANK_DROPOUT = _share("Share of the ranks that a training step leaves out.")
_ALPHA = Option(8, "Scale of the update, divided by the rank.", 1, 4096)
_BENCHMARK = "PEFT's benchmark"


def _peft(method: PeftMethod) -> dict[str, Any]:
    return {"type": "PEFT", "peft": {"method": method.value}}


def _lora(name: str, example: dict[str, Any], rate: float, source: str, paper: str) -> Technique:
    weight_decomposed = name in {"DoRA", "DoRA on QLoRA"}
    formula, count = ("r (in + out) + out", parameters.dora) if weight_decomposed else ("r (in + out)", parameters.lora)
    return Technique(name, example, rate, source, paper, formula, count)


_LORA_FAMILY = (
    _lora("LoRA", {"type": "LoRA"}, 2e-4, "QLoRA's authors, for LoRA on every linear layer", "Hu et al. 2021"),
    _lora(
        "rsLoRA",
        {"type": "LoRA", "lora": {"rank": 64, "alpha": 64, "rankStabilized": True}},
        1e-4,
        f"{_BENCHMARK}, whose best run it is",
        "Kalajdzievski 2023",
    ),
    _lora("DoRA", {"type": "DoRA"}, 1e-4, _BENCHMARK, "Liu et al. 2024"),
    _lora("PiSSA", {"type": "LoRA", "lora": {"init": "PiSSA"}}, 1e-4, f"{_BENCHMARK} (LoRA's)", "Meng et al. 2024"),
    _lora("OLoRA", {"type": "LoRA", "lora": {"init": "OLoRA"}}, 1e-4, f"{_BENCHMARK} (LoRA's)", "Büyükakyüz 2024"),
    _lora(
        "LoRA+",
        {"type": "LoRA", "lora": {"learningRateRatio": 16}},
        1e-4,
        "half of LoRA's, as its authors advise",
        "Hayou et al. 2024",
    ),
    _lora("QLoRA", {"type": "QLoRA"}, 2e-4, "the paper", "Dettmers et al. 2023"),
    _lora("QLoRA (FP4)", {"type": "QLoRA", "quantization": {"type": "FP4"}}, 2e-4, "the paper", "Dettmers et al. 2023"),
    _lora("DoRA on QLoRA", {"type": "QLoRA", "lora": {"weightDecomposed": True}}, 1e-4, _BENCHMARK, "Liu et al. 2024"),
)

#: The methods of the PEFT library that have a row.
PEFT_FAMILY = {
    PeftMethod.IA3: Technique(
        name="IA3",
        example=_peft(PeftMethod.IA3),
        learning_rate=5e-3,
        source=f"{_BENCHMARK}, every attention and feed-forward layer",
        paper="Liu et al. 2022",
        formula="out (attention), in (feed-forward)",
        count=parameters.ia3,
    ),
    PeftMethod.ADALORA: Technique(
        name="AdaLoRA",
        example=_peft(PeftMethod.ADALORA),
        learning_rate=1e-3,
        source="the paper (5e-4 to 2e-3)",
        paper="Zhang et al. 2023",
        formula="init_r (in + out + 1)",
        count=parameters.adalora,
        options={
            "init_r": _rank(12, "Rank at the start."),
            "target_r": _rank(8, "Mean rank at the end; below init_r."),
            "tinit": Option(None, "Steps before the rank shrinks; a tenth of the steps when absent.", 0, 10_000_000),
            "tfinal": Option(None, "Steps at the final rank; three tenths of the steps when absent.", 1, 10_000_000),
            "deltaT": Option(1, "Steps between two allocations.", 1, 100_000),
            "beta1": Option(0.85, "Smoothing of the sensitivity.", 0.001, 0.999),
            "beta2": Option(0.85, "Smoothing of the uncertainty.", 0.001, 0.999),
            "orth_reg_weight": Option(0.5, "Weight of the penalty that keeps P and Q orthogonal.", 0, 100),
            "lora_alpha": Option(32, "Scale of the update, divided by the rank.", 1, 4096),
            "lora_dropout": _share("Dropout on the adapter's input."),
        },
        distributes=False,
    ),
    PeftMethod.VERA: Technique(
        name="VeRA",
        example=_peft(PeftMethod.VERA),
        learning_rate=4e-3,
        source="the paper",
        paper="Kopiczko et al. 2023",
        formula="r + out",
        count=parameters.vera,
        options={
            "r": Option(256, "Rank of the frozen random matrices.", 1, 4096),
            "d_initial": Option(0.1, "Start of the rank's vector.", 1e-9, 10),
            "vera_dropout": _share("Dropout on the adapter's input."),
            "projection_prng_key": Option(0, "Seed of the frozen random matrices.", 0, 2**31 - 1),
        },
    ),
    PeftMethod.OFT: Technique(
        name="OFT",
        example=_peft(PeftMethod.OFT),
        learning_rate=1e-4,
        source=_BENCHMARK,
        paper="Qiu et al. 2023",
        formula="(in / b) b (b - 1) / 2",
        count=parameters.oft,
        options={
            "oft_block_size": Option(32, "Block size b; divides every adapted layer's input.", 2, 1024),
            "module_dropout": _MODULE_DROPOUT,
            "coft": Option(default=False, what="Bound the rotation."),
            "eps": Option(6e-5, "That bound.", 0, 1),
            "block_share": Option(default=False, what="One rotation for all blocks of a layer."),
            "use_cayley_neumann": Option(default=True, what="Approximate the inverse by a series."),
            "num_cayley_neumann_terms": Option(5, "Terms of that series.", 2, 50),
        },
    ),
    PeftMethod.BOFT: Technique(
        name="BOFT",
        example=_peft(PeftMethod.BOFT),
        learning_rate=1e-4,
        source=_BENCHMARK,
        paper="Liu et al. 2023",
        formula="in b + out",
        count=parameters.boft,
        options={
            "boft_block_size": Option(4, "Block size b; divides every adapted layer's input.", 2, 1024),
            "boft_dropout": _share("Share of the blocks that a training step leaves out."),
        },
    ),
    PeftMethod.LOHA: Technique(
        name="LoHa",
        example=_peft(PeftMethod.LOHA),
        learning_rate=1e-4,
        source=_BENCHMARK,
        paper="Hyeon-Woo et al. 2021",
        formula="2 r (in + out)",
        count=parameters.loha,
        options={
            "r": _rank(8),
            "alpha": _ALPHA,
            "rank_dropout": _RANK_DROPOUT,
            "module_dropout": _MODULE_DROPOUT,
        },
    ),
    PeftMethod.LOKR: Technique(
        name="LoKr",
        example=_peft(PeftMethod.LOKR),
        learning_rate=3e-3,
        source=_BENCHMARK,
        paper="Yeh et al. 2023",
        formula="a c + min(r (b + d), b d), out = a b, in = c d",
        count=parameters.lokr,
        options={
            "r": _rank(8),
            "alpha": _ALPHA,
            "decompose_both": Option(default=False, what="Low-rank for the small matrix too."),
            "decompose_factor": Option(-1, "Width of the small matrix; -1 for as near to square as can be.", -1, 1024),
            "rank_dropout": _RANK_DROPOUT,
            "module_dropout": _MODULE_DROPOUT,
        },
    ),
    PeftMethod.FOURIER_FT: Technique(
        name="FourierFT",
        example=_peft(PeftMethod.FOURIER_FT),
        learning_rate=3e-3,
        source="the paper, for Llama",
        paper="Gao et al. 2024",
        formula="n_frequency",
        count=parameters.fourier,
        options={
            "n_frequency": Option(1000, "Trained coefficients per layer.", 1, 10_000_000),
            "scaling": Option(300.0, "Scale of the update.", 0.001, 100_000),
            "random_loc_seed": Option(777, "Seed of the coefficients' places.", 0, 2**31 - 1),
        },
    ),
    PeftMethod.HRA: Technique(
        name="HRA",
        example=_peft(PeftMethod.HRA),
        learning_rate=1e-4,
        source=_BENCHMARK,
        paper="Yuan et al. 2024",
        formula="r in",
        count=parameters.hra,
        options={
            "r": Option(8, "Number of reflections; even, so that it starts as the identity.", 2, 1024),
            "apply_GS": Option(default=False, what="Make the reflections orthogonal (Gram-Schmidt)."),
        },
    ),
    PeftMethod.LAYER_NORM: Technique(
        name="LayerNorm tuning",
        example=_peft(PeftMethod.LAYER_NORM),
        learning_rate=1e-3,
        source="the paper",
        paper="Zhao et al. 2023",
        formula="every norm's weights",
        count=parameters.norms,
    ),
    PeftMethod.PREFIX_TUNING: Technique(
        name="Prefix tuning",
        example=_peft(PeftMethod.PREFIX_TUNING),
        learning_rate=5e-3,
        source=f"{_BENCHMARK}, with a prefix that starts as keys and values of real tokens",
        paper="Li and Liang 2021",
        formula="tokens x 2 x layers x key width, in all; with a network tokens x key width + its two linear layers",
        count=parameters.prefix,
        options={
            "num_virtual_tokens": _VIRTUAL_TOKENS,
            "prefix_projection": Option(default=False, what="Make the prefix by a network of two layers."),
            "encoder_hidden_size": _inner_width("keys' width"),
        },
        merges=False,
        kinds=CAUSAL_ONLY,
        distributes=False,
    ),
    PeftMethod.PROMPT_TUNING: Technique(
        name="Prompt tuning",
        example=_peft(PeftMethod.PROMPT_TUNING),
        learning_rate=1e-3,
        source=f"{_BENCHMARK}, whose accuracy rose from 5.7 to 34.3 with the sampled vocabulary",
        paper="Lester et al. 2021",
        formula="tokens x width, in all",
        count=parameters.prompt,
        options={
            "num_virtual_tokens": _VIRTUAL_TOKENS,
            "prompt_tuning_init": Option(
                "SAMPLE_VOCAB",
                "Start as embeddings of random words, or as random numbers.",
                None,
                None,
                ("SAMPLE_VOCAB", "RANDOM"),
            ),
        },
        merges=False,
        kinds=CAUSAL_ONLY,
        distributes=False,
    ),
    PeftMethod.P_TUNING: Technique(
        name="P-tuning",
        example=_peft(PeftMethod.P_TUNING),
        learning_rate=1e-3,
        source="prompt tuning's",
        paper="Liu et al. 2021",
        formula="tokens x width + three linear layers, in all",
        count=parameters.p_tuning,
        options={
            "num_virtual_tokens": _VIRTUAL_TOKENS,
            "encoder_hidden_size": _inner_width("model's width"),
            "encoder_dropout": _share("Dropout in the network."),
        },
        merges=False,
        kinds=CAUSAL_ONLY,
        distributes=False,
    ),
}

_FULL_FAMILY = (
    Technique("Full", {"type": "Full"}, 1e-5, _BENCHMARK, "", "every weight", parameters.full),
    Technique(
        "Full, last layers",
        {"type": "Full", "full": {"lastLayers": 1}},
        1e-5,
        f"{_BENCHMARK} (full tuning's)",
        "",
        "last layers + final norm + head, in all",
        parameters.last_layers,
    ),
)

#: Every technique by its name.
TECHNIQUES: dict[str, Technique] = {row.name: row for row in (*_LORA_FAMILY, *PEFT_FAMILY.values(), *_FULL_FAMILY)}
_INITS = {LoraInit.PISSA: "PiSSA", LoraInit.OLORA: "OLoRA"}


def technique_of(asked: TechniqueSpec) -> Technique:
    """The row that a technique's spec asks for; Auto is what it would be without a goal: LoRA."""
    return TECHNIQUES[_name(asked)]


def _name(asked: TechniqueSpec) -> str:
    lora = asked.lora or LoraSpec()
    if asked.peft is not None:
        return PEFT_FAMILY[asked.peft.method].name
    if asked.type is TechniqueType.FULL:
        return "Full, last layers" if asked.full and asked.full.last_layers else "Full"
    if asked.type in {TechniqueType.DORA, TechniqueType.QLORA}:
        return _decomposed_or_quantised(asked, lora)
    if lora.init in _INITS:
        return _INITS[lora.init]
    if lora.learning_rate_ratio is not None:
        return "LoRA+"
    return "rsLoRA" if lora.rank_stabilized else "LoRA"


def _decomposed_or_quantised(asked: TechniqueSpec, lora: LoraSpec) -> str:
    if asked.type is TechniqueType.DORA:
        return "DoRA"
    fp4 = asked.quantization is not None and asked.quantization.type is Quantization.FP4
    return "DoRA on QLoRA" if lora.weight_decomposed else "QLoRA (FP4)" if fp4 else "QLoRA"


def quantization_of(asked: TechniqueSpec) -> QuantizationSpec | None:
    """How the frozen base weights are stored; None when they are not quantised."""
    return (asked.quantization or QuantizationSpec()) if asked.type is TechniqueType.QLORA else None


def options_of(asked: TechniqueSpec) -> dict[str, Any]:
    """What the count's formula and the trainer read: options by PEFT's names, defaults filled in."""
    if asked.peft is not None:
        row, said = technique_of(asked), asked.peft.config
        defaults = {name: option.default for name, option in row.options.items() if option.default is not None}
        return defaults | {name: row.options[name].kind(value) for name, value in said.items()}
    if asked.type is TechniqueType.FULL:
        return {"last_layers": asked.full.last_layers if asked.full else None}
    return {"r": (asked.lora or LoraSpec()).rank}


def rank_schedule(options: Options, steps: int) -> tuple[int, int]:
    """AdaLoRA's steps before its ranks shrink, and those at the final ranks (Zhang et al. 2023, section 3.3).

    Raises:
        ValueError: they leave no step between them.
    """
    first, last = options.get("tinit", steps // 10), options.get("tfinal", max(1, 3 * steps // 10))
    if first + last >= steps:
        raise ValueError(
            f"tinit {first} and tfinal {last} leave none of the {steps} steps to shrink the rank in; lower them or"
            " train longer"
        )
    return first, last


def virtual_tokens(asked: TechniqueSpec) -> int:
    """Tokens that a technique puts before every row, and that count towards the model's context.

    Options that are wrong, which `misfits` refuses, do not matter here.
    """
    option = technique_of(asked).options.get("num_virtual_tokens") if asked.peft is not None else None
    if asked.peft is None or option is None:
        return 0
    said = asked.peft.config.get("num_virtual_tokens", option.default)
    return int(said) if isinstance(said, int | float) else 0


def adapted(asked: TechniqueSpec, shapes: Shapes) -> Shapes:
    """The shapes with the linear layers that the technique adapts: all, or those that the job names."""
    return parameters.narrowed(shapes, asked.lora.target_modules if asked.lora else None)


def trained_parameters(asked: TechniqueSpec, shapes: Shapes) -> int:
    """The weights that a technique trains, without a task's own head."""
    return technique_of(asked).count(options_of(asked), adapted(asked, shapes))


def with_learning_rate(spec: FineTuneJobSpec) -> FineTuneJobSpec:
    """The spec with the technique's learning rate where it leaves it out."""
    if spec.training.learning_rate is not None:
        return spec
    rate = technique_of(spec.technique).learning_rate
    return spec.model_copy(update={"training": spec.training.model_copy(update={"learning_rate": rate})})


def rows() -> Iterator[tuple[Technique, TechniqueSpec]]:
    """Every row with the spec of its example."""
    for row in TECHNIQUES.values():
        yield row, TechniqueSpec.model_validate(row.example)
