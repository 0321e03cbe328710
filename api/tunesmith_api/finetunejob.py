"""FineTuneJob: what to tune, on what data, how, where, and what to do with the result. Runs once, like a batch Job."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from tunesmith_api.architecture import Architecture
from tunesmith_api.compute import ComputeSpec
from tunesmith_api.conditions import Condition
from tunesmith_api.enums import (
    DataFormat,
    ExportFormat,
    ExportPrecision,
    Goal,
    LoraInit,
    Metric,
    Notation,
    Offload,
    PeftMethod,
    Precision,
    Quantization,
    Schedule,
    Strategy,
    Task,
    TechniqueType,
    TrackerType,
)
from tunesmith_api.exits import FailureCategory
from tunesmith_api.model import Model, Rule, exactly_one, immutable
from tunesmith_api.modelendpoint import EndpointTemplate
from tunesmith_api.strings import Identifier, Message, ObjectName, Quantity, Timestamp
from tunesmith_api.uri import Scheme, Uri, uri_rule


class SecretReference(Model):
    """A Secret of the job's own namespace."""

    name: ObjectName
    """Name of the Secret. Its keys are mounted as files into the stages that read them, and into the first stage, which
    does not start without them."""


class ModelSource(Model):
    """The base model: a preset of the catalog, or a URI."""

    rules: ClassVar = (exactly_one("preset", "uri"), uri_rule())

    preset: Identifier | None = None
    """Name of a model in the catalog, such as phi-3-mini-4k-instruct."""
    uri: Uri | None = None
    """Where a model folder in Hugging Face's layout lies."""
    secret_ref: SecretReference | None = None
    """Credentials for the URI or for a gated preset."""


class DataSource(Model):
    """One data file or data set."""

    rules: ClassVar = (uri_rule(),)

    uri: Uri
    """Where the rows lie."""
    secret_ref: SecretReference | None = None
    """Credentials for the URI."""


class EvaluationData(Model):
    """The rows that the model is measured on: held out from the training rows, or a data set of their own."""

    rules: ClassVar = (exactly_one("fraction", "uri"), uri_rule())

    fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the training rows to hold out, drawn with the training seed."""
    uri: Uri | None = None
    """Where the evaluation rows lie."""
    secret_ref: SecretReference | None = None
    """Credentials for the URI."""


class Columns(Model):
    """Names of the data set's columns, where they differ from the format's own."""

    prompt: Identifier | None = None
    """Column of the prompt."""
    completion: Identifier | None = None
    """Column of the completion."""
    input: Identifier | None = None
    """Column of what an instruction is about, which follows it; Alpaca's input."""
    messages: Identifier | None = None
    """Column of the list of messages."""
    system: Identifier | None = None
    """Column of the system text beside a conversation."""
    tools: Identifier | None = None
    """Column of the list of tools beside a conversation."""
    text: Identifier | None = None
    """Column of the text."""
    label: Identifier | None = None
    """Column of the label, or of the list of labels, of a text."""
    tokens: Identifier | None = None
    """Column of the list of tokens."""
    tags: Identifier | None = None
    """Column of the list of token labels, or of the list of character spans."""
    context: Identifier | None = None
    """Column of the passage that a question is about."""
    question: Identifier | None = None
    """Column of the question."""
    answers: Identifier | None = None
    """Column of the answers."""
    impossible: Identifier | None = None
    """Column that says whether a question has no answer; SQuAD's is_impossible."""
    source: Identifier | None = None
    """Column of the text to translate; its language, where the columns are named source and target."""
    target: Identifier | None = None
    """Column of the translation; its language, where the columns are named source and target."""
    translation: Identifier | None = None
    """Column of the object with a text for each language."""


class DatasetSpec(Model):
    """What the model learns from and what it is measured on."""

    train: DataSource
    """The training rows."""
    evaluation: EvaluationData = Field(default_factory=lambda: EvaluationData(fraction=0.1))
    """The evaluation rows; a tenth of the training rows unless said otherwise."""
    format: DataFormat = DataFormat.AUTO
    """Layout of the rows."""
    columns: Columns = Field(default_factory=Columns)
    """Column names that differ from the format's own."""


class LoraSpec(Model):
    """Low-rank adaptation (Hu et al. 2021)."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """Rank of the adapter's matrices; at most the width of the narrowest adapted layer."""
    alpha: Annotated[float, Field(gt=0, le=4096)] = 32
    """Scale of the update, divided by the rank (by its square root when rank-stabilised)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0
    """Dropout on the adapter's input."""
    rank_stabilized: bool = False
    """Divide alpha by the square root of the rank (rsLoRA, Kalajdzievski 2023)."""
    weight_decomposed: bool = False
    """Train magnitude and direction apart (DoRA, Liu et al. 2024), on a quantised base too; type DoRA always does."""
    learning_rate_ratio: Annotated[float, Field(ge=1, le=1000)] | None = None
    """Learning rate of matrix B over that of matrix A (LoRA+, Hayou et al. 2024; 16 is its authors' choice)."""
    init: LoraInit = LoraInit.DEFAULT
    """How the adapter's matrices start."""
    target_modules: Annotated[list[Identifier], Field(min_length=1, max_length=32)] | None = None
    """Modules to adapt, by the last part of their names; all linear layers of the model's layers unless said
    otherwise."""


class QuantizationSpec(Model):
    """How QLoRA stores the frozen base weights (Dettmers et al. 2023)."""

    type: Quantization = Quantization.NF4
    """Data type of the frozen weights."""
    double_quantization: bool = True
    """Quantise the block constants too, which saves 0.37 bits per weight."""


class FullSpec(Model):
    """Full fine-tuning, of all layers or of the last ones."""

    last_layers: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Train only the last layers, the final norm and the head; every weight unless said otherwise."""


class PeftSpec(Model):
    """Any other method of the PEFT library, by its name."""

    method: PeftMethod
    """The method."""
    config: Annotated[dict[Identifier, float | str | bool], Field(max_length=32)] = Field(default_factory=dict)
    """Options that go to the method's configuration class."""


class TechniqueSpec(Model):
    """How the weights are adapted."""

    rules: ClassVar = (
        Rule(
            cel="!has(self.lora) || self.type in ['Auto', 'LoRA', 'QLoRA', 'DoRA']",
            message="technique.lora goes with type Auto, LoRA, QLoRA or DoRA",
            holds=lambda t: (
                t.lora is None
                or t.type in {TechniqueType.AUTO, TechniqueType.LORA, TechniqueType.QLORA, TechniqueType.DORA}
            ),
            field_path=".lora",
        ),
        Rule(
            cel="has(self.peft) == (self.type == 'PEFT')",
            message="technique.peft goes with type PEFT, and type PEFT needs it",
            holds=lambda t: (t.peft is not None) == (t.type is TechniqueType.PEFT),
            field_path=".type",
        ),
        Rule(
            cel="!has(self.quantization) || self.type == 'QLoRA'",
            message="technique.quantization goes with type QLoRA",
            holds=lambda t: t.quantization is None or t.type is TechniqueType.QLORA,
            field_path=".quantization",
        ),
        Rule(
            cel="!has(self.full) || self.type == 'Full'",
            message="technique.full goes with type Full",
            holds=lambda t: t.full is None or t.type is TechniqueType.FULL,
            field_path=".full",
        ),
        Rule(
            cel="!has(self.lora) || !self.lora.weightDecomposed || self.type in ['QLoRA', 'DoRA']",
            message="technique.lora.weightDecomposed goes with type DoRA or QLoRA",
            holds=lambda t: (
                t.lora is None or not t.lora.weight_decomposed or t.type in {TechniqueType.QLORA, TechniqueType.DORA}
            ),
            field_path=".lora.weightDecomposed",
        ),
        Rule(
            cel="!has(self.goal) || self.type == 'Auto'",
            message="technique.goal goes with type Auto only",
            holds=lambda t: t.goal is None or t.type is TechniqueType.AUTO,
            field_path=".goal",
        ),
        Rule(
            cel="!has(self.goal) || !has(self.lora)",
            message="technique.lora says what technique.goal would choose; leave one of them out",
            holds=lambda t: t.goal is None or t.lora is None,
            field_path=".goal",
        ),
    )

    type: TechniqueType = TechniqueType.AUTO
    """The technique; Auto chooses from the goal and the pool."""
    goal: Goal | None = None
    """What Auto optimises for; Balanced unless said otherwise."""
    lora: LoraSpec | None = None
    """Settings of the LoRA family."""
    quantization: QuantizationSpec | None = None
    """How QLoRA stores the base weights; NF4 with double quantisation unless said otherwise."""
    full: FullSpec | None = None
    """Settings of full fine-tuning."""
    peft: PeftSpec | None = None
    """Settings of another PEFT method."""


class DistributionSpec(Model):
    """How many processes train, and how they share the work."""

    rules: ClassVar = (
        Rule(
            cel="self.strategy != 'None' || (self.workers == 1 && self.processesPerWorker == 1)",
            message="strategy None is one process; use DDP or DeepSpeed with several, or Auto",
            holds=lambda d: d.strategy is not Strategy.NONE or d.processes == 1,
            field_path=".strategy",
        ),
        Rule(
            cel="!has(self.zeroStage) || self.strategy == 'DeepSpeed'",
            message="zeroStage goes with strategy DeepSpeed",
            holds=lambda d: d.zero_stage is None or d.strategy is Strategy.DEEPSPEED,
            field_path=".zeroStage",
        ),
        Rule(
            cel="self.offload == 'None' || self.strategy == 'DeepSpeed'",
            message="offload goes with strategy DeepSpeed",
            holds=lambda d: d.offload is Offload.NONE or d.strategy is Strategy.DEEPSPEED,
            field_path=".offload",
        ),
        Rule(
            cel="self.offload != 'Optimizer' || !has(self.zeroStage) || self.zeroStage >= 1",
            message="offload Optimizer needs zeroStage 1, 2 or 3: stage 0 shares nothing out that could be moved",
            holds=lambda d: d.offload is not Offload.OPTIMIZER or d.zero_stage is None or d.zero_stage >= 1,
            field_path=".offload",
        ),
        Rule(
            cel="self.offload != 'All' || (has(self.zeroStage) && self.zeroStage == 3)",
            message="offload All moves the weights too, which only zeroStage 3 can; use offload Optimizer",
            holds=lambda d: d.offload is not Offload.ALL or d.zero_stage == 3,
            field_path=".offload",
        ),
    )

    strategy: Strategy = Strategy.AUTO
    """How the processes share the training; Auto is None for one, DDP for several, ZeRO where that does not fit."""
    workers: Annotated[int, Field(ge=1, le=1024)] = 1
    """Number of training pods."""
    processes_per_worker: Annotated[int, Field(ge=1, le=64)] = 1
    """Training processes in each pod, one per device; on a CPU pool they share the pod's cores."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] | None = None
    """What DeepSpeed shares out: 1 optimizer states, 2 also gradients (the default), 3 also weights; 0 nothing."""
    offload: Offload = Offload.NONE
    """What DeepSpeed keeps in host memory."""

    @property
    def processes(self) -> int:
        """Training processes in all."""
        return self.workers * self.processes_per_worker

    @property
    def stage(self) -> int | None:
        """The ZeRO stage; None without DeepSpeed.

        A job that names none gets 2: gradients and optimizer states are shared out, at the communication of plain data
        parallelism (Rajbhandari et al. 2020, section 7).
        """
        if self.strategy is not Strategy.DEEPSPEED:
            return None
        return 2 if self.zero_stage is None else self.zero_stage


class EarlyStopping(Model):
    """Stop when the evaluation loss no longer falls; the weights with the least one are the result."""

    patience: Annotated[int, Field(ge=1, le=1000)] = 3
    """Evaluations without progress before the training stops; there is one every checkpointEverySteps."""
    min_delta: Annotated[float, Field(ge=0)] = 0
    """The least fall of the loss that counts as progress."""


class TrainingSpec(Model):
    """Hyperparameters: plain numbers."""

    epochs: Annotated[float, Field(gt=0, le=10000)] = 3
    """Passes over the training rows; maxSteps wins where it is lower."""
    max_steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Upper bound of optimizer steps."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; the technique's own unless said otherwise."""
    schedule: Schedule = Schedule.COSINE
    """How the learning rate changes over the run."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """Share of the steps over which the learning rate rises from zero."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0
    """AdamW's decoupled weight decay."""
    max_gradient_norm: Annotated[float, Field(gt=0)] = 1
    """Gradients are scaled down to this norm."""
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 8
    """Rows per forward pass and training process."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=65536)] = 1
    """Forward passes per optimizer step."""
    max_sequence_length: Annotated[int, Field(ge=8, le=1_048_576)] | None = None
    """Longest row in tokens; the model's context, at most 2048, unless said otherwise."""
    gradient_checkpointing: bool = False
    """Work each layer's activations out again in the backward pass: much less memory for about a third more time."""
    precision: Precision = Precision.AUTO
    """Arithmetic of the training."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 42
    """Seed of every random choice."""
    checkpoint_every_steps: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Steps between checkpoints, each with an evaluation: what a hard kill can lose at most."""
    early_stopping: EarlyStopping | None = None
    """Stop when the evaluation loss no longer falls; the weights with the least one are the result."""


class Gate(Model):
    """A condition that the tuned model and the exported model must meet before anything serves them."""

    rules: ClassVar = (
        Rule(
            cel="has(self.min) || has(self.max) || has(self.maxRegression)",
            message="a gate needs min, max or maxRegression",
            holds=lambda g: not (g.min is None and g.max is None and g.max_regression is None),
        ),
    )

    metric: Metric
    """What is compared."""
    min: float | None = None
    """The least value that passes."""
    max: float | None = None
    """The greatest value that passes."""
    max_regression: Annotated[float, Field(ge=0)] | None = None
    """How much worse than the base model the value may be, in the metric's own unit."""


class GenerationSpec(Model):
    """How answers are generated for the metrics that need them (greedy decoding)."""

    max_samples: Annotated[int, Field(ge=0, le=100_000)] = 200
    """Evaluation rows to generate for, from the first on; 0 leaves out the metrics of answers."""
    max_new_tokens: Annotated[int, Field(ge=1, le=32768)] = 128
    """Longest answer in tokens."""
    notation: Notation | None = None
    """Parse each generation as this notation, for the metric parse_rate."""


class EvaluationSpec(Model):
    """How the base, the tuned and the exported model are measured, and what they must reach."""

    gates: Annotated[list[Gate], Field(max_length=16)] = Field(default_factory=list)
    """All must pass, else the model is not served."""
    generation: GenerationSpec = Field(default_factory=GenerationSpec)
    """How answers are generated."""


class ExportSpec(Model):
    """How the model becomes an ONNX model."""

    format: ExportFormat = ExportFormat.ONNX
    """What is published."""
    precision: ExportPrecision = ExportPrecision.BALANCED
    """Exact fp32, Quality int8, Balanced int4 with int8 for sensitive layers, Fast int4."""


class OutputSpec(Model):
    """Where the exported model goes; the job's own workspace claim unless said otherwise."""

    rules: ClassVar = (
        uri_rule(schemes=(Scheme.OCI, Scheme.S3, Scheme.GS, Scheme.AZ, Scheme.PVC, Scheme.HF, Scheme.FILE)),
    )

    uri: Uri
    """Where to publish the model folder."""
    secret_ref: SecretReference | None = None
    """Credentials for the URI."""


class QueueSpec(Model):
    """Queueing by Kueue."""

    local_queue: ObjectName
    """The LocalQueue of the job's namespace."""
    priority_class_name: ObjectName | None = None
    """The workload's priority class."""


#: The start of a URI with user information.
_USER = "^[a-z]+://[^/]*@"


class Tracker(Model):
    """A place that training metrics are sent to; one that is down costs a warning, never the run."""

    rules: ClassVar = (
        Rule(
            cel="self.type == 'TensorBoard' || has(self.uri)",
            message="tracking of type MLflow needs uri, the tracking server's address",
            holds=lambda t: t.type is TrackerType.TENSORBOARD or t.uri is not None,
            field_path=".uri",
        ),
        Rule(
            cel="self.type == 'MLflow' || (!has(self.uri) && !has(self.experiment) && !has(self.secretRef))",
            message="uri, experiment and secretRef are for type MLflow; TensorBoard writes files into the workspace",
            holds=lambda t: t.type is TrackerType.MLFLOW or not (t.uri or t.experiment or t.secret_ref),
            field_path=".type",
        ),
        Rule(
            cel="!has(self.uri) || ['http://', 'https://', 'azureml://'].exists(s, self.uri.startsWith(s))",
            message="uri must start with one of http://, https://, azureml://",
            holds=lambda t: t.uri is None or t.uri.startswith(("http://", "https://", "azureml://")),
            field_path=".uri",
        ),
        Rule(
            cel=f"!has(self.uri) || !self.uri.matches('{_USER}')",
            message="uri must not name a user or a password, which all who may read the job would see; put them into a"
            " Secret (keys username and password, or token) and name it in secretRef",
            holds=lambda t: t.uri is None or re.match(_USER, t.uri) is None,
            field_path=".uri",
        ),
    )

    type: TrackerType
    """Kind of the tracker; TensorBoard writes its event files into the workspace."""
    uri: Annotated[str, StringConstraints(min_length=6, max_length=1024)] | None = None
    """Tracking server, such as http://mlflow:5000 or azureml://region.api.azureml.ms/mlflow/v1.0/..."""
    experiment: Identifier | None = None
    """Experiment that the run goes to; the job's namespace unless said otherwise."""
    secret_ref: SecretReference | None = None
    """Credentials: keys username and password; or token; or tenant-id, client-id and client-secret of a service
    principal, which buys tokens."""


class WorkspaceSpec(Model):
    """The job's own volume: fetched inputs, checkpoints, reports and the exported model."""

    size: Quantity | None = None
    """Size of the claim; planned from the model unless said otherwise."""
    storage_class_name: ObjectName | None = None
    """Storage class of the claim; the cluster's default unless said otherwise."""
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] | None = None
    """Access mode of the claim; ReadWriteMany for several workers unless said otherwise, else ReadWriteOnce."""


class FineTuneJobSpec(Model):
    """What to tune, on what data, how, where, and what to do with the result."""

    rules: ClassVar = (
        immutable(
            *("model", "task", "dataset", "technique", "distribution", "training", "compute", "evaluation", "export"),
            *("output", "workspace", "tracking", "serve", "queue", "backoff_limit", "active_deadline_seconds"),
            way_out="a FineTuneJob runs once, so create a new one (suspend and ttlSecondsAfterFinished may change)",
        ),
    )

    model: ModelSource
    """The base model."""
    task: Task = Task.CHAT
    """What the tuned model is for."""
    dataset: DatasetSpec
    """What the model learns from and what it is measured on."""
    technique: TechniqueSpec = Field(default_factory=TechniqueSpec)
    """How the weights are adapted."""
    distribution: DistributionSpec = Field(default_factory=DistributionSpec)
    """How many workers train."""
    training: TrainingSpec = Field(default_factory=TrainingSpec)
    """Hyperparameters."""
    compute: ComputeSpec = Field(default_factory=ComputeSpec)
    """Where to train."""
    evaluation: EvaluationSpec = Field(default_factory=EvaluationSpec)
    """How the model is measured and what it must reach."""
    export: ExportSpec = Field(default_factory=ExportSpec)
    """How the model becomes an ONNX model."""
    output: OutputSpec | None = None
    """Where the exported model goes."""
    workspace: WorkspaceSpec = Field(default_factory=WorkspaceSpec)
    """The job's own volume."""
    tracking: Annotated[list[Tracker], Field(max_length=4)] = Field(default_factory=list)
    """Where metrics go beside the status."""
    serve: EndpointTemplate | None = None
    """Create a ModelEndpoint that serves the result; `{}` takes every default."""
    queue: QueueSpec | None = None
    """Queueing by Kueue."""
    backoff_limit: Annotated[int, Field(ge=0, le=100)] = 3
    """Retries of a failed stage before the job fails."""
    active_deadline_seconds: Annotated[int, Field(ge=1, le=31_536_000)] | None = None
    """Seconds from the start after which the job fails."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=31_536_000)] | None = None
    """Seconds after the end until the job and all that it owns is deleted; kept when absent."""
    suspend: bool = False
    """Stop running pods after a checkpoint and start none until set back."""


class PlanStatus(Model):
    """What was decided before anything was spent."""

    technique: Identifier | None = None
    """The technique that runs."""
    sharing: Identifier | None = None
    """How the training processes share the model: None, DDP, or ZeRO with its stage, as in ZeRO-3."""
    pool: Identifier | None = None
    """The pool that trains."""
    workers: int | None = None
    """Training pods."""
    memory_bytes: int | None = None
    """Planned peak memory of a training pod, in bytes (device memory on a pool with devices)."""
    duration_seconds: int | None = None
    """Planned duration of the training, where the pool's throughput is known."""
    cost: float | None = None
    """Planned cost of the training, in the currency of pricePerHour."""
    reasons: Annotated[list[Message], Field(max_length=16)] = Field(default_factory=list)
    """Why the plan is what it is."""


class DatasetStatus(Model):
    """What the prepare stage found."""

    examples: int
    """Training rows."""
    evaluation_examples: int
    """Evaluation rows."""
    tokens: int
    """Tokens of the training rows."""
    longest_tokens: int
    """Tokens of the longest training row."""
    format: DataFormat
    """Layout of the rows."""
    digest: Identifier
    """SHA-256 over the converted rows."""
    warnings: Annotated[list[Message], Field(max_length=16)] = Field(default_factory=list)
    """What a person may want to know, such as truncated rows."""


class Progress(Model):
    """How far the training is."""

    step: int
    """Optimizer steps done."""
    total_steps: int
    """Optimizer steps in all."""
    loss: float | None = None
    """Loss of the last logged step."""
    learning_rate: float | None = None
    """Learning rate of the last logged step."""
    tokens_per_second: float | None = None
    """Input tokens without padding per second, over the last logged steps."""
    eta_seconds: int | None = None
    """Seconds to the last step at the present speed."""
    best_step: int | None = None
    """Step with the least evaluation loss so far; with earlyStopping."""
    updated_at: Timestamp | None = None
    """When the training said so; at most 15 seconds ago while it runs."""


class Scores(Model):
    """Metrics of one model on the evaluation rows."""

    perplexity: float | None = None
    """exp of the mean loss per completion token."""
    token_accuracy: float | None = None
    """Share of completion tokens that the model ranks first."""
    exact_match: float | None = None
    """Share of rows whose greedy answer equals the reference, white space at the ends aside."""
    rouge_l: float | None = None
    """Mean F-measure of the longest common subsequence of words of answer and reference (Lin 2004)."""
    f1: float | None = None
    """Question answering: mean F1 over the words of answer and reference (Rajpurkar et al. 2016)."""
    accuracy: float | None = None
    """Classification: share of rows whose label, or whose whole set of labels, is right."""
    macro_f1: float | None = None
    """Classification: mean over the classes of the F1 of each."""
    entity_precision: float | None = None
    """Named entities: share of the found ones that are right in span and type."""
    entity_recall: float | None = None
    """Named entities: share of the reference's that were found in span and type."""
    entity_f1: float | None = None
    """Named entities: harmonic mean of precision and recall."""
    bleu: float | None = None
    """Translation: corpus BLEU of sacrebleu, 0 to 100 (Papineni et al. 2002)."""
    chrf: float | None = None
    """Translation: chrF of sacrebleu, 0 to 100 (Popovic 2015)."""
    parse_rate: float | None = None
    """Creative notations: share of the generations that parse."""


class GateResult(Model):
    """How one gate came out."""

    metric: Metric
    """What was compared."""
    value: float
    """What was measured."""
    passed: bool
    """Whether it passed."""
    message: Message
    """The comparison in words."""


class EvaluationStatus(Model):
    """Before and after."""

    base: Scores | None = None
    """The base model."""
    tuned: Scores | None = None
    """The tuned model."""
    exported: Scores | None = None
    """The exported ONNX model."""
    gates: Annotated[list[GateResult], Field(max_length=32)] = Field(default_factory=list)
    """How the gates came out."""


class Parity(Model):
    """How close the exported model is to the merged torch model."""

    max_logit_difference: float
    """Greatest absolute difference of a logit."""
    greedy_agreement: float
    """Share of greedily decoded tokens that are the same, position by position."""
    kl_divergence: float | None = None
    """Mean Kullback-Leibler divergence of the next-token distributions, in nats."""


class ArtifactStatus(Model):
    """What was published: the folder that export.format asks for."""

    uri: Uri
    """Where the folder lies."""
    digest: Identifier
    """SHA-256 over the folder's files."""
    size_bytes: int
    """Size of the folder."""
    precision: ExportPrecision | None = None
    """Precision of the weights; absent for an adapter, which has the training's."""
    parity: Parity | None = None
    """How close it is to the torch model; absent for an adapter, which is the torch model's own."""


class FailureStatus(Model):
    """What went wrong last, what was seen, and what to do about it."""

    category: FailureCategory
    """Kind of the failure."""
    stage: Identifier
    """Stage that failed."""
    message: Message
    """What was seen."""
    resolution: Message
    """What to do about it."""
    exit_code: int | None = None
    """Exit code of the container."""


class Attempts(Model):
    """Failed runs per stage that count towards backoffLimit."""

    prepare: int = 0
    """Failed runs of prepare."""
    train: int = 0
    """Failed runs of train."""
    export: int = 0
    """Failed runs of export."""


class RetryStatus(Model):
    """The failed run that was counted last: what keeps one failure from being counted twice."""

    stage: Identifier
    """Stage that failed."""
    job_uid: Identifier
    """Identity of the Job that failed."""
    count: int = 1
    """Failed runs of the stage in all, preemptions included."""
    not_before: Timestamp
    """When the stage may start again."""


class FineTuneJobStatus(Model):
    """What is the case."""

    observed_generation: int | None = None
    """The generation that this status speaks of."""
    phase: (
        Literal["Pending", "Preparing", "Training", "Exporting", "Deploying", "Succeeded", "Failed", "Suspended"] | None
    ) = None
    """Where the job is, for people; programs read the conditions."""
    conditions: Annotated[list[Condition], Field(max_length=16)] = Field(default_factory=list)
    """The kstatus conditions and one for each stage."""
    started_at: Timestamp | None = None
    """When the first stage was started."""
    finished_at: Timestamp | None = None
    """When the job succeeded or failed."""
    plan: PlanStatus | None = None
    """What was decided before anything was spent."""
    model: Architecture | None = None
    """The numbers of a base model by URI, which prepare reads; those of a preset are in the catalog."""
    dataset: DatasetStatus | None = None
    """What the prepare stage found."""
    progress: Progress | None = None
    """How far the training is."""
    evaluation: EvaluationStatus | None = None
    """Before and after."""
    artifact: ArtifactStatus | None = None
    """The exported model."""
    attempts: Attempts | None = None
    """Failed runs per stage."""
    retry: RetryStatus | None = None
    """The failed run that was counted last."""
    failure: FailureStatus | None = None
    """What went wrong last."""
    endpoint: Identifier | None = None
    """Name of the ModelEndpoint that serves the result."""
