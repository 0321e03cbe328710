"""What the operator tells Prometheus. One object that is handed around; nothing is global."""

import time
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Every metric of the operator, registered in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.reconcile = Counter(
            "tunesmith_reconcile", "Reconciliations by their result.", ["kind", "result"], registry=registry
        )
        self.reconcile_seconds = Histogram(
            "tunesmith_reconcile_seconds", "Duration of a reconciliation.", ["kind"], registry=registry, buckets=BUCKETS
        )
        self.queue_depth = Gauge("tunesmith_queue_depth", "Keys that wait for a worker.", registry=registry)
        self.queue_seconds = Histogram(
            "tunesmith_queue_seconds", "Time from a key's adding to its worker.", registry=registry, buckets=BUCKETS
        )
        self.queue_retries = Counter(
            "tunesmith_queue_retries", "Keys that were put back after an error.", registry=registry
        )
        self.jobs = Gauge("tunesmith_jobs", "FineTuneJobs by phase.", ["phase"], registry=registry)
        self.watch_last_event = Gauge(
            "tunesmith_watch_last_event_timestamp_seconds",
            "When a watch stream last brought an event, as Unix time.",
            ["resource"],
            registry=registry,
        )
        self.writes = Counter(
            "tunesmith_writes", "Writes to the API server by verb and kind.", ["verb", "kind"], registry=registry
        )
        self.leader = Gauge("tunesmith_leader", "1 in the replica that reconciles.", registry=registry)

    def seen(self, resource: str) -> None:
        """Note that a watch stream is alive."""
        self.watch_last_event.labels(resource).set(time.time())

    def set_phases(self, counts: Mapping[str, int]) -> None:
        """Replace the number of jobs in each phase."""
        self.jobs.clear()
        for phase, count in counts.items():
            self.jobs.labels(phase).set(count)
