"""How workers meet: names, Service, policy."""

from collections.abc import Callable
from typing import Any

import pytest

from tunesmith_api import FineTuneJobSpec, Stage
from tunesmith_operator.finetunejob.decision import decide
from tunesmith_operator.finetunejob.manifests import Facts, stage_job
from tunesmith_operator.finetunejob.rendezvous import children, leftovers, name_problem
from tunesmith_operator.plans import child_name
from tunesmith_operator.pools import Landscape
from tunesmith_operator.settings import Images

Body = dict[str, Any]


@pytest.fixture
def facts(job: Callable[..., Body], landscape: Landscape, images: Images) -> Callable[[int], Facts]:
    """Makes the facts of a job with some workers."""

    def make(workers: int) -> Facts:
        body = job(distribution={"workers": workers})
        found = decide(body, FineTuneJobSpec.model_validate(body["spec"]), landscape, images)
        assert isinstance(found, Facts)
        return found

    return make


def test_the_service_names_the_workers(facts: Callable[[int], Facts]) -> None:
    """The headless Service selects the train pods, names them before they are ready, and is the pods' subdomain."""
    one = facts(2)
    (service,) = children(one, closed=False)
    template = stage_job(one, Stage.TRAIN, suspend=False)["spec"]["template"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert template["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["metadata"]["ownerReferences"][0]["uid"] == one.body["metadata"]["uid"]


def test_a_closed_namespace_opens_for_the_workers(facts: Callable[[int], Facts]) -> None:
    """Where the chart closes job pods, the workers of one job still reach each other, and nobody else does."""
    _, policy = children(facts(2), closed=True)
    (rule,) = policy["spec"]["ingress"]
    assert rule == {"from": [{"podSelector": policy["spec"]["podSelector"]}]}
    assert policy["spec"]["podSelector"]["matchLabels"]["tunesmith.dev/owner-name"] == "bot"


@pytest.mark.parametrize("closed", [True, False])
def test_one_worker_meets_nobody(facts: Callable[[int], Facts], *, closed: bool) -> None:
    """A training of one pod needs neither."""
    assert children(facts(1), closed=closed) == []


def test_leftovers(facts: Callable[[int], Facts]) -> None:
    """What the workers met by goes with them; other children stay, and what is being deleted is left to it."""
    service, policy = children(facts(2), closed=True)
    policy["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    claim = {"kind": "PersistentVolumeClaim", "metadata": {"name": "bot-workspace"}}
    assert leftovers({child_name(one): one for one in (service, policy, claim)}) == [service]


@pytest.mark.parametrize(
    ("length", "workers", "fits"), [(55, 1, True), (55, 10, True), (55, 11, False), (54, 11, True), (53, 1001, False)]
)
def test_a_name_leaves_room_for_the_index(length: int, workers: int, *, fits: bool) -> None:
    """A worker's host name has at most 63 characters; the way out names the length that fits."""
    found = name_problem("a" * length, workers)
    assert (not found) is fits
    if found:
        most = int(found.split("at most ")[1].split()[0])
        assert not name_problem("a" * most, workers)
        assert name_problem("a" * (most + 1), workers)
