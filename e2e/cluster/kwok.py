"""Simulated nodes for a control plane without a real one: tests create Node objects, kwok plays kubelet for them."""

from cluster import daemon, tools
from cluster.addons import MANIFESTS
from cluster.errors import ClusterError
from cluster.layout import Cluster

NAME = "kwok"


def ensure(cluster: Cluster) -> bool:
    """Starts kwok unless it runs; says whether it had to.

    Every Node object becomes Ready, every pod on it Running at once, and a Job's pod then Succeeded.

    Raises:
        ClusterError: The cluster has a real node, whose kubelet kwok would fight with.
    """
    if cluster.has_node:
        raise ClusterError(f"Cluster {cluster.name!r} has a real node; kwok is for --control-plane-only clusters.")
    argv = [
        tools.command("kwok"),
        f"--kubeconfig={cluster.kubeconfig}",
        f"--config={MANIFESTS / 'kwok-stages.yaml'}",
        "--manage-all-nodes=true",
        "--node-ip=127.0.0.1",
        f"--node-port={cluster.kwok_port}",
        f"--server-address=127.0.0.1:{cluster.kwok_port}",
        "--node-lease-duration-seconds=40",
    ]
    return daemon.ensure(cluster.root, NAME, argv)
