"""Prometheus metrics, in a registry that the caller gives; names start with `tunesmith_`, times are in seconds."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tunesmith_server.engine import EngineStats
from tunesmith_server.providers import ProviderStatus

_LATENCY = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 640, 2560)
_INTER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 10)

_GAUGES: dict[str, tuple[str, Callable[[EngineStats], float]]] = {
    "tunesmith_slots": ("Sequences that can be generated at once", lambda stats: stats.slots),
    "tunesmith_requests_running": ("Sequences being generated", lambda stats: stats.running),
    "tunesmith_queue_depth": ("Sequences waiting for a slot", lambda stats: stats.waiting),
    "tunesmith_kv_cache_usage_ratio": (
        "Tokens in the key and value cache over its capacity",
        lambda stats: stats.cached_tokens / stats.cache_tokens,
    ),
    "tunesmith_kv_cache_bytes": ("Address space of the key and value buffers", lambda stats: stats.cache_bytes),
}
_COUNTERS: dict[str, tuple[str, Callable[[EngineStats], float]]] = {
    "tunesmith_prompt_tokens_reused": ("Prompt tokens copied from another row", lambda stats: stats.reused_tokens),
    "tunesmith_engine_failures": ("Steps that failed", lambda stats: stats.failures),
}


class Metrics:
    """The server's counters and histograms, registered in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Counter(
            "tunesmith_requests", "Requests by route and outcome", ("route", "outcome"), registry=registry
        )
        self.prompt_tokens = Counter("tunesmith_prompt_tokens", "Prompt tokens accepted", registry=registry)
        self.generation_tokens = Counter("tunesmith_generation_tokens", "Tokens generated", registry=registry)
        self.time_to_first_token = Histogram(
            "tunesmith_time_to_first_token_seconds",
            "From submission to a sequence's first token",
            buckets=_LATENCY,
            registry=registry,
        )
        self.inter_token = Histogram(
            "tunesmith_inter_token_latency_seconds",
            "Between two tokens of a sequence",
            buckets=_INTER_TOKEN,
            registry=registry,
        )
        self.request_latency = Histogram(
            "tunesmith_request_latency_seconds",
            "From the request's first byte to the answer's last",
            ("route",),
            buckets=_LATENCY,
            registry=registry,
        )

    def watch(self, stats: Callable[[], EngineStats], providers: ProviderStatus) -> None:
        """Report an engine and its providers at each scrape."""
        self.registry.register(_EngineCollector(stats, providers))


class _EngineCollector(Collector):
    def __init__(self, stats: Callable[[], EngineStats], providers: ProviderStatus) -> None:
        self._stats, self._providers = stats, providers

    def collect(self) -> Iterator[Metric]:
        stats = self._stats()
        for name, (text, read) in _GAUGES.items():
            yield GaugeMetricFamily(name, text, value=read(stats))
        for name, (text, read) in _COUNTERS.items():
            yield CounterMetricFamily(name, text, value=read(stats))
        degraded = GaugeMetricFamily(
            "tunesmith_provider_degraded", "1 when a requested execution provider is not active", labels=["provider"]
        )
        for name in self._providers.requested:
            degraded.add_metric([name], float(name in self._providers.missing))
        yield degraded
