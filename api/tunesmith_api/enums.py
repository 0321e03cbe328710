"""The enumerations of the three resources; their values are CamelCase on the wire."""

from enum import StrEnum


class Task(StrEnum):
    """What the tuned model is for."""

    TEXT_GENERATION = "TextGeneration"
    CHAT = "Chat"
    QUESTION_ANSWERING = "QuestionAnswering"
    TEXT_CLASSIFICATION = "TextClassification"
    TOKEN_CLASSIFICATION = "TokenClassification"  # noqa: S105 - no secret
    TRANSLATION = "Translation"


class DataFormat(StrEnum):
    """How the rows of a data set are laid out; `Auto` looks at the first rows."""

    AUTO = "Auto"
    MESSAGES = "Messages"
    PROMPT_COMPLETION = "PromptCompletion"
    ALPACA = "Alpaca"
    SHARE_GPT = "ShareGPT"
    TEXT = "Text"
    LABELED_TEXT = "LabeledText"
    TOKEN_LABELS = "TokenLabels"  # noqa: S105 - no secret
    SQUAD = "SQuAD"
    PARALLEL_TEXT = "ParallelText"


class TechniqueType(StrEnum):
    """How the weights are adapted; `Auto` chooses from the goal and the pool."""

    AUTO = "Auto"
    LORA = "LoRA"
    QLORA = "QLoRA"
    DORA = "DoRA"
    PEFT = "PEFT"
    FULL = "Full"


class Goal(StrEnum):
    """What `Auto` optimises for."""

    BALANCED = "Balanced"
    LOWEST_COST = "LowestCost"
    LOWEST_MEMORY = "LowestMemory"
    FEWEST_PARAMETERS = "FewestParameters"
    BEST_QUALITY = "BestQuality"


class LoraInit(StrEnum):
    """How the adapter's matrices start."""

    DEFAULT = "Default"
    GAUSSIAN = "Gaussian"
    PISSA = "PiSSA"
    OLORA = "OLoRA"
    LOFTQ = "LoftQ"

    @property
    def splits_base(self) -> bool:
        """Whether the base model's weights are split in two, and so changed too."""
        return self in {LoraInit.PISSA, LoraInit.OLORA}


class Quantization(StrEnum):
    """How QLoRA stores the frozen base weights."""

    NF4 = "NF4"
    FP4 = "FP4"
    HQQ = "HQQ"


class PeftMethod(StrEnum):
    """A method of the PEFT library beside the LoRA family."""

    IA3 = "IA3"
    ADALORA = "AdaLoRA"
    VERA = "VeRA"
    OFT = "OFT"
    BOFT = "BOFT"
    LOHA = "LoHa"
    LOKR = "LoKr"
    FOURIER_FT = "FourierFT"
    HRA = "HRA"
    LAYER_NORM = "LayerNorm"
    PREFIX_TUNING = "PrefixTuning"
    PROMPT_TUNING = "PromptTuning"
    P_TUNING = "PTuning"


class Strategy(StrEnum):
    """How several workers share the training."""

    AUTO = "Auto"
    NONE = "None"
    DDP = "DDP"
    DEEPSPEED = "DeepSpeed"


class Offload(StrEnum):
    """What DeepSpeed keeps in host memory."""

    NONE = "None"
    OPTIMIZER = "Optimizer"
    ALL = "All"


class Precision(StrEnum):
    """Arithmetic of training; `Auto` uses bf16 autocast where the processor has it, else fp32."""

    AUTO = "Auto"
    FP32 = "FP32"
    BF16 = "BF16"
    FP16 = "FP16"


class Schedule(StrEnum):
    """How the learning rate changes over the run."""

    COSINE = "Cosine"
    LINEAR = "Linear"
    CONSTANT = "Constant"


class Metric(StrEnum):
    """A metric that a gate can use; the names are the literature's."""

    EXACT_MATCH = "exact_match"
    TOKEN_ACCURACY = "token_accuracy"  # noqa: S105 - no secret
    PERPLEXITY = "perplexity"
    ROUGE_L = "rouge_l"
    F1 = "f1"
    ACCURACY = "accuracy"
    MACRO_F1 = "macro_f1"
    ENTITY_PRECISION = "entity_precision"
    ENTITY_RECALL = "entity_recall"
    ENTITY_F1 = "entity_f1"
    BLEU = "bleu"
    CHRF = "chrf"
    PARSE_RATE = "parse_rate"


class Notation(StrEnum):
    """A creative notation whose generations can be checked by parsing them."""

    ABC = "ABC"
    SVG = "SVG"


class TrackerType(StrEnum):
    """Where training metrics go beside the job's status."""

    MLFLOW = "MLflow"
    TENSORBOARD = "TensorBoard"


class ExportFormat(StrEnum):
    """What is published. No endpoint serves Safetensors and Adapter.

    ONNX: a model folder that serves. Safetensors: the merged model in transformers' layout, for other tools, and for
    another job to tune. Adapter: the trained weights in PEFT's layout.
    """

    ONNX = "ONNX"
    SAFETENSORS = "Safetensors"
    ADAPTER = "Adapter"


class ExportPrecision(StrEnum):
    """Exact: fp32. Quality: int8. Balanced: int4 (k-quant), int8 for sensitive layers. Fast: int4, blocks of 128."""

    EXACT = "Exact"
    QUALITY = "Quality"
    BALANCED = "Balanced"
    FAST = "Fast"


class PoolClass(StrEnum):
    """The kind of device of a node pool."""

    CPU = "CPU"
    GPU = "GPU"
    FPGA = "FPGA"

    @property
    def trains_on_device(self) -> bool:
        """Whether the training's tensors lie in a device's own memory: PyTorch does not train on FPGAs."""
        return self is PoolClass.GPU


class ProviderPolicy(StrEnum):
    """Require: fail when an execution provider is missing. Prefer: serve on what is there and say so in the status."""

    REQUIRE = "Require"
    PREFER = "Prefer"


class RolloutStrategy(StrEnum):
    """How a new model version takes over the traffic."""

    REPLACE = "Replace"
    CANARY = "Canary"


class ModelKind(StrEnum):
    """How a model reads and writes, which decides how it learns a task."""

    CAUSAL = "causal"
    ENCODER = "encoder"
    SEQ2SEQ = "seq2seq"
