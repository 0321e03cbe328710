"""How the workers of a training meet: stable names by a headless Service, and a way through policies. Pure."""

from tunesmith_api import Stage
from tunesmith_api.jobconfig import RENDEZVOUS_PORT
from tunesmith_api.resource import OWNER_KIND_LABEL, OWNER_NAME_LABEL, STAGE_LABEL
from tunesmith_operator.finetunejob.manifests import Facts, child_metadata, stage_name
from tunesmith_operator.kinds import NETWORK_POLICY, SERVICE, Body
from tunesmith_operator.plans import Children

#: The longest label of a DNS name (RFC 1035): a worker's pod is named after its Job and its index.
LONGEST_LABEL = 63


def children(facts: Facts, *, closed: bool) -> list[Body]:
    """What several workers need to meet; nothing for one.

    Args:
        facts: the job.
        closed: whether a policy of the chart keeps traffic from the pods of jobs in this namespace.
    """
    if facts.workers == 1:
        return []
    return [_service(facts), *([_policy(facts)] if closed else [])]


def leftovers(live: Children) -> list[Body]:
    """What is of no use once the training is done."""
    kinds = {SERVICE.name, NETWORK_POLICY.name}
    return [one for name, one in live.items() if name.kind in kinds and "deletionTimestamp" not in one["metadata"]]


def name_problem(name: str, workers: int) -> str:
    """Why a job's name is too long for its workers; empty when it is not."""
    longest = f"{stage_name(name, Stage.TRAIN)}-{workers - 1}"
    if workers == 1 or len(longest) <= LONGEST_LABEL:
        return ""
    most = len(name) - (len(longest) - LONGEST_LABEL)
    return f"metadata.name: {name!r} is too long for {workers} workers; use at most {most} characters"


def _selector(facts: Facts) -> dict[str, str]:
    return {OWNER_KIND_LABEL: "FineTuneJob", OWNER_NAME_LABEL: facts.name, STAGE_LABEL: str(Stage.TRAIN)}


def _service(facts: Facts) -> Body:
    """The headless Service: `<job>-train-<index>.<job>-train` is a worker, also before it is ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_metadata(facts.body, stage_name(facts.name, Stage.TRAIN)),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": _selector(facts),
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT, "targetPort": RENDEZVOUS_PORT}],
        },
    }


def _policy(facts: Facts) -> Body:
    """Lets the workers of this job, and nobody else, reach each other on every port: collectives choose theirs."""
    workers = {"matchLabels": _selector(facts)}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": child_metadata(facts.body, stage_name(facts.name, Stage.TRAIN)),
        "spec": {"podSelector": workers, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": workers}]}]},
    }
