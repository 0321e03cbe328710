"""Etcd, API server, controller manager and scheduler."""

import signal
from urllib.parse import urlsplit

from cluster import daemon, layout, pki, tools
from cluster.errors import ClusterError
from cluster.layout import NODE_IP, SERVICE_CIDR, Cluster


def ensure(cluster: Cluster) -> bool:
    """Starts what does not run yet and waits until the API server is ready; says whether anything was started."""
    root = cluster.root
    begun = [
        daemon.ensure(root, "etcd", _etcd(cluster)),
        daemon.ensure(root, "kube-apiserver", _api_server(cluster)),
    ]
    wait_ready(cluster)
    begun.append(daemon.ensure(root, "kube-controller-manager", _controller_manager(cluster)))
    begun.append(daemon.ensure(root, "kube-scheduler", _scheduler(cluster)))
    daemon.wait_until("the default ServiceAccount", lambda: _has_default_account(cluster), root)
    return any(begun)


def kubectl(cluster: Cluster, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
    """Runs kubectl as the administrator and returns its standard output."""
    argv = [tools.command("kubectl"), "--kubeconfig", str(cluster.kubeconfig), *arguments]
    return tools.run(argv, stdin=stdin, check=check)


def is_ready(cluster: Cluster) -> bool:
    """Whether the API server answers and is ready."""
    return kubectl(cluster, "get", "--raw", "/readyz", "--request-timeout=5s", check=False) == "ok"


def wait_ready(cluster: Cluster) -> None:
    """Waits for the API server."""
    daemon.wait_until("the API server", lambda: is_ready(cluster), cluster.root)


def restart_api_server(cluster: Cluster) -> None:
    """Kills the API server without warning, as a crash would, starts it again and waits until it is ready.

    Raises:
        ClusterError: It does not run.
    """
    found = daemon.find(cluster.root, "kube-apiserver")
    if found is None or not found.alive:
        raise ClusterError(f"The API server of cluster {cluster.name!r} does not run.")
    daemon.stop(cluster.root, found, sig=signal.SIGKILL)
    # The process counts as gone once its first thread is; the others may hold the listening socket a moment longer.
    address = urlsplit(cluster.server)
    daemon.wait_until(
        "the API server's port",
        lambda: layout.is_free(address.port or 443, address.hostname or "127.0.0.1"),
        cluster.root,
        seconds=20,
    )
    daemon.start(cluster.root, found.name, found.argv, found.env)
    wait_ready(cluster)


def _has_default_account(cluster: Cluster) -> bool:
    return "default" in kubectl(cluster, "get", "serviceaccount", "default", "-o", "name", check=False)


def _etcd(cluster: Cluster) -> list[str]:
    client = f"http://127.0.0.1:{cluster.etcd_port}"
    peer = f"http://127.0.0.1:{cluster.etcd_port + 1}"
    flags = {
        "data-dir": cluster.root / "etcd",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
    }
    # Without the flag etcd waits for the disk at each write; a lost machine loses this cluster anyway.
    return [tools.command("etcd"), "--unsafe-no-fsync", *_as_arguments(flags)]


def _api_server(cluster: Cluster) -> list[str]:
    keys = cluster.pki
    flags = {
        "etcd-servers": f"http://127.0.0.1:{cluster.etcd_port}",
        "bind-address": cluster.address,
        "secure-port": cluster.port_base,
        "advertise-address": NODE_IP,
        "endpoint-reconciler-type": "master-count" if cluster.has_node else "none",
        "tls-cert-file": keys / "apiserver.crt",
        "tls-private-key-file": keys / "apiserver.key",
        "client-ca-file": keys / "ca.crt",
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-key-file": keys / "service-account.key",
        "service-account-signing-key-file": keys / "service-account.key",
        "service-cluster-ip-range": SERVICE_CIDR,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "kubelet-preferred-address-types": "InternalIP",
        "kubelet-certificate-authority": keys / "ca.crt",
        "kubelet-client-certificate": keys / "kubelet-client.crt",
        "kubelet-client-key": keys / "kubelet-client.key",
    }
    return [tools.command("kube-apiserver"), *_as_arguments(flags)]


def _controller_manager(cluster: Cluster) -> list[str]:
    keys = cluster.pki
    flags = {
        "kubeconfig": pki.kubeconfig(cluster, "controller-manager"),
        "bind-address": "127.0.0.1",
        "secure-port": cluster.controller_manager_port,
        "service-account-private-key-file": keys / "service-account.key",
        "root-ca-file": keys / "ca.crt",
        "cluster-signing-cert-file": keys / "ca.crt",
        "cluster-signing-key-file": keys / "ca.key",
        "use-service-account-credentials": "true",
        "leader-elect": "false",
        # The default of 20 requests a second makes ten pods a second at most: benchmarks would measure this limit.
        "kube-api-qps": 500,
        "kube-api-burst": 1000,
    }
    return [tools.command("kube-controller-manager"), *_as_arguments(flags)]


def _scheduler(cluster: Cluster) -> list[str]:
    flags = {
        "kubeconfig": pki.kubeconfig(cluster, "scheduler"),
        "bind-address": "127.0.0.1",
        "secure-port": cluster.scheduler_port,
        "leader-elect": "false",
    }
    return [tools.command("kube-scheduler"), *_as_arguments(flags)]


def _as_arguments(flags: dict[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]
