"""ModelEndpoint: a served model that follows a job, a URI, or the newest job that matches labels."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith_api.compute import ComputeSpec
from tunesmith_api.conditions import Condition
from tunesmith_api.enums import ExportPrecision, ProviderPolicy, RolloutStrategy
from tunesmith_api.model import Model, Rule, exactly_one
from tunesmith_api.strings import Identifier, LabelValue, Message, ObjectName
from tunesmith_api.uri import Scheme, Uri, uri_rule


class LatestJob(Model):
    """The newest succeeded FineTuneJob of the namespace, with passed gates, that carries some labels."""

    match_labels: Annotated[dict[Identifier, LabelValue], Field(min_length=1, max_length=16)]
    """Labels that the job must carry."""


class EndpointSource(Model):
    """What to serve."""

    rules: ClassVar = (
        exactly_one("uri", "job", "latest"),
        uri_rule(schemes=(Scheme.PVC, Scheme.OCI, Scheme.S3, Scheme.GS, Scheme.AZ, Scheme.HTTPS, Scheme.HF)),
    )

    uri: Uri | None = None
    """Where an exported model folder lies."""
    job: ObjectName | None = None
    """Name of a FineTuneJob of the same namespace."""
    latest: LatestJob | None = None
    """The newest succeeded FineTuneJob that matches: the closed loop."""


class Replicas(Model):
    """How many servers; more than the minimum under load when max is above min."""

    rules: ClassVar = (
        Rule(
            cel="!has(self.max) || self.max >= self.min",
            message="replicas.max must not be below replicas.min",
            holds=lambda r: r.max is None or r.max >= r.min,
            field_path=".max",
        ),
    )

    min: Annotated[int, Field(ge=0, le=1000)] = 1
    """Least number of servers; 0 stops all of them, whatever max says, and no request wakes them."""
    max: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Greatest number of servers; the minimum unless said otherwise."""
    target_cpu_percent: Annotated[int, Field(ge=1, le=100)] = 80
    """Average CPU use that the autoscaler aims at."""


class AdapterSource(Model):
    """A LoRA adapter served beside the base."""

    rules: ClassVar = (uri_rule(),)

    name: ObjectName
    """Model name that requests use."""
    uri: Uri
    """Where the adapter lies."""


class RolloutStep(Model):
    """One step of a canary."""

    weight: Annotated[int, Field(ge=0, le=100)]
    """Percent of the requests that the new version answers."""
    hold_seconds: Annotated[int, Field(ge=0, le=604_800)] = 60
    """How long to stay at this weight."""


class RolloutAnalysis(Model):
    """What the new version must keep to move on."""

    max_error_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    """Greatest share of failed requests."""
    max_latency_ratio: Annotated[float, Field(gt=0)] | None = None
    """Greatest ratio of the new version's latency to the old one's."""


class RolloutSpec(Model):
    """How a new model version takes over."""

    rules: ClassVar = (
        Rule(
            cel="size(self.steps) == 0 || self.strategy == 'Canary'",
            message="rollout.steps goes with strategy Canary",
            holds=lambda r: not r.steps or r.strategy is RolloutStrategy.CANARY,
            field_path=".steps",
        ),
    )

    strategy: RolloutStrategy = RolloutStrategy.REPLACE
    """Replace by a rolling update, or Canary by weighted steps."""
    steps: Annotated[list[RolloutStep], Field(max_length=16)] = Field(default_factory=list)
    """Weights of a canary."""
    analysis: RolloutAnalysis | None = None
    """What the new version must keep to move on."""


class RuntimeSpec(Model):
    """Settings of the server."""

    precision: ExportPrecision | None = None
    """Precision to serve, where the source has several."""
    max_concurrency: Annotated[int, Field(ge=1, le=1024)] = 16
    """Requests that share a batch."""
    max_context: Annotated[int, Field(ge=16, le=1_048_576)] | None = None
    """Longest prompt and answer together, in tokens; the model's own, at most 4096, unless said otherwise."""
    max_queue: Annotated[int, Field(ge=0, le=100_000)] = 128
    """Requests that may wait; more are answered 429."""
    execution_providers: Annotated[list[Identifier], Field(max_length=8)] = Field(default_factory=list)
    """ONNX Runtime execution providers in order of preference; the pool's unless said otherwise."""
    provider_policy: ProviderPolicy = ProviderPolicy.REQUIRE
    """What to do when a provider is missing."""


class EndpointTemplate(Model):
    """A ModelEndpoint's spec without the source."""

    compute: ComputeSpec = Field(default_factory=ComputeSpec)
    """Where the servers run; CPU nodes unless said otherwise."""
    replicas: Replicas = Field(default_factory=Replicas)
    """How many servers."""
    adapters: Annotated[list[AdapterSource], Field(max_length=64)] = Field(default_factory=list)
    """LoRA adapters served beside the model."""
    rollout: RolloutSpec = Field(default_factory=RolloutSpec)
    """How a new version takes over."""
    runtime: RuntimeSpec = Field(default_factory=RuntimeSpec)
    """Settings of the server."""


class ModelEndpointSpec(EndpointTemplate):
    """What to serve, where, and how."""

    source: EndpointSource
    """What to serve."""


class ServedVersion(Model):
    """One version of the model behind an endpoint."""

    source: Message
    """Where it came from, such as job://name or a URI."""
    digest: Identifier | None = None
    """Digest of the model folder, where it is known."""
    ready_replicas: int = 0
    """Servers that answer."""


class ModelEndpointStatus(Model):
    """What is the case."""

    observed_generation: int | None = None
    """The generation that this status speaks of."""
    phase: Literal["Pending", "Deploying", "Ready", "Degraded", "Failed"] | None = None
    """Where the endpoint is, for people; programs read the conditions."""
    conditions: Annotated[list[Condition], Field(max_length=16)] = Field(default_factory=list)
    """The kstatus conditions and Serving."""
    stable: ServedVersion | None = None
    """The version that answers."""
    canary: ServedVersion | None = None
    """The version that is being tried."""
    url: Message | None = None
    """Base URL inside the cluster, for OpenAI clients."""
    active_providers: Annotated[list[Identifier], Field(max_length=8)] | None = None
    """Execution providers that the servers really use."""
    replicas: int | None = None
    """Servers that exist."""
    selector: Message | None = None
    """Label selector of the servers, for the scale subresource."""
