"""From an event to the keys that it concerns."""

from tunesmith_api import ConditionType
from tunesmith_operator.caches import Caches
from tunesmith_operator.conditions import is_true
from tunesmith_operator.kinds import Body
from tunesmith_operator.metrics import Metrics
from tunesmith_operator.observing import Observer
from tunesmith_operator.plans import Key
from tunesmith_operator.pods import PodFacts
from tunesmith_operator.queue import WorkQueue

#: How long events of one owner are gathered: a new child brings several, each a moment after the other.
GATHER_SECONDS = 0.1
#: The same for a job's children while they come to life: Job, pod, volume and node report several steps within this.
BIRTH_SECONDS = 0.5
#: How long the event that our own write of a job's status brings may wait for one that has something to tell.
ECHO_SECONDS = 1.0


class Router:
    """Puts the keys that an event concerns on the queue."""

    def __init__(self, queue: WorkQueue[Key], caches: Caches, observer: Observer, metrics: Metrics) -> None:
        self._queue = queue
        self._caches = caches
        self._observer = observer
        self._metrics = metrics

    def own_changed(self, key: Key) -> None:
        """An object of ours changed: it, the endpoints that may follow it, the jobs that may wait for it."""
        self._metrics.seen(key.kind)
        if self._is_settled(key):
            self._queue.add_after(key, ECHO_SECONDS if key.kind == "FineTuneJob" else GATHER_SECONDS)
        else:
            self._queue.add(key, ahead=True)
        if key.kind == "FineTuneJob":
            self._follow(key)
            self._wake_readers(key)
        elif key.kind == "ComputePool":
            self._add_waiting()
            if not self._is_settled(key):
                self._add_endpoints()

    def child_changed(self, kind: str, owner: Key | None, *, over: bool) -> None:
        """A child changed: its owner, soon if the child has ended."""
        self._metrics.seen(kind)
        if owner is not None:
            self._queue.add_after(owner, _delay(owner, over=over))

    def pod_changed(self, owner: Key | None, pod: PodFacts, *, deleted: bool) -> None:
        """A pod of a child changed: its owner; the last facts of a deleted one are kept for it."""
        self._metrics.seen("Pod")
        if deleted and pod.stage:
            self._observer.depart(pod)
        if owner is not None:
            self._queue.add_after(owner, _delay(owner, over=deleted or pod.deleting or pod.ended))

    def nodes_changed(self) -> None:
        """A node changed: every pool, and the jobs that wait for one."""
        self._metrics.seen("Node")
        for key in self._caches.keys("ComputePool"):
            self._queue.add(key)
        self._add_waiting()

    def resync(self) -> None:
        """Every object, in case an event was lost."""
        for kind in ("ComputePool", "FineTuneJob", "ModelEndpoint"):
            for key in self._caches.keys(kind):
                self._queue.add(key)

    def _is_settled(self, key: Key) -> bool:
        """Whether the status already speaks of the present spec: then the event most likely is our own write."""
        body = self._caches.get(key)
        return body is not None and body.get("status", {}).get("observedGeneration") == body["metadata"]["generation"]

    def _follow(self, job: Key) -> None:
        for key in self._caches.keys("ModelEndpoint"):
            body = self._caches.get(key)
            if body is None or key.namespace != job.namespace:
                continue
            source = body["spec"].get("source", {})
            if source.get("job") == job.name or "latest" in source:
                self._queue.add(key)

    def _wake_readers(self, job: Key) -> None:
        """The jobs that wait for the output of one that has ended."""
        body = self._caches.get(job)
        if body is not None and "finishedAt" not in body.get("status", {}):
            return
        for key in self._caches.keys("FineTuneJob"):
            reader = self._caches.get(key)
            if reader is not None and key.namespace == job.namespace and _reads(reader, job.name):
                self._queue.add(key)

    def _add_endpoints(self) -> None:
        """Every endpoint: its servers have the node selector, the tolerations and the image of a pool."""
        for key in self._caches.keys("ModelEndpoint"):
            self._queue.add(key)

    def _add_waiting(self) -> None:
        for kind in ("FineTuneJob", "ModelEndpoint"):
            for key in self._caches.keys(kind):
                body = self._caches.get(key)
                conditions = body.get("status", {}).get("conditions", []) if body else []
                if any(one["type"] == "Stalled" for one in conditions):
                    self._queue.add(key)


def _reads(body: Body, job: str) -> bool:
    """Whether a job that has not been prepared yet reads another one's output."""
    spec, status = body["spec"], body.get("status", {})
    if "finishedAt" in status or is_true(status.get("conditions", []), ConditionType.PREPARED):
        return False
    dataset = spec.get("dataset", {})
    places = (spec.get("model", {}), dataset.get("train", {}), dataset.get("evaluation", {}))
    return any(f"{place.get('uri', '')}/".startswith(f"job://{job}/") for place in places)


def _delay(owner: Key, *, over: bool) -> float:
    return GATHER_SECONDS if over or owner.kind != "FineTuneJob" else BIRTH_SECONDS
