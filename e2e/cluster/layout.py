"""Where everything of a cluster lies on disk, which ports and addresses it uses, and how that is remembered."""

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.errors import ClusterError

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_NAME = "default"
DEFAULT_PORT_BASE = 6443
PORTS_PER_CLUSTER = 6

NODE_NAME = "tunesmith"
# A node's address must not be a loopback one, so this one is added to the interface lo.
NODE_IP = "10.89.0.1"
POD_CIDR = "10.244.0.0/16"
SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE_IP = "10.96.0.1"
DNS_SERVICE_IP = "10.96.0.10"
REGISTRY = "localhost:5000"


def cache_dir() -> Path:
    """The folder for built tools, image layers and cluster state: ``$TUNESMITH_CACHE`` or ``~/.cache/tunesmith``."""
    return Path(os.environ.get("TUNESMITH_CACHE") or Path.home() / ".cache" / "tunesmith").absolute()


def bin_dir() -> Path:
    """The one folder for PATH: a link to each built tool."""
    return cache_dir() / "bin"


@dataclass(frozen=True)
class Cluster:
    """A named cluster: its state folder and ports. Only one cluster of a machine may have a node."""

    name: str
    port_base: int
    has_node: bool

    @property
    def root(self) -> Path:
        """Everything of this cluster, apart from what outlives it in `image_store`."""
        return cluster_root(self.name)

    @property
    def address(self) -> str:
        """The address of the API server: pods must reach it where there is a node, nobody else needs to otherwise."""
        return NODE_IP if self.has_node else "127.0.0.1"

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.address}:{self.port_base}"

    @property
    def etcd_port(self) -> int:
        """Where etcd serves clients; its peer port follows."""
        return self.port_base + 1

    @property
    def controller_manager_port(self) -> int:
        """Where the controller manager serves its health."""
        return self.port_base + 3

    @property
    def scheduler_port(self) -> int:
        """Where the scheduler serves its health."""
        return self.port_base + 4

    @property
    def kwok_port(self) -> int:
        """Where kwok serves the kubelet API of its nodes."""
        return self.port_base + 5

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.root / "kubeconfig"

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.root / "pki"

    @property
    def kubelet_dir(self) -> Path:
        """The kubelet's root; pods' volumes are mounted below it."""
        return self.root / "kubelet"

    @property
    def volumes(self) -> Path:
        """The folders behind persistent volumes."""
        return self.root / "volumes"

    @property
    def containerd_state(self) -> Path:
        """Containerd's sockets and the root file systems of running containers."""
        return self.root / "containerd"

    @property
    def containerd_socket(self) -> Path:
        """Containerd's API."""
        return self.containerd_state / "containerd.sock"

    @property
    def image_store(self) -> Path:
        """Containerd's images; kept when the cluster goes down, so that the next start is quick."""
        return cache_dir() / "image-store" / self.name

    def save(self) -> None:
        """Remembers the ports for later commands."""
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "cluster.json").write_text(json.dumps(asdict(self)))


def cluster_root(name: str) -> Path:
    """The state folder of the cluster with this name."""
    return cache_dir() / "cluster" / name


def load(name: str) -> Cluster | None:
    """The cluster as it was started, or None when it was not."""
    try:
        return Cluster(**json.loads((cluster_root(name) / "cluster.json").read_text()))
    except FileNotFoundError:
        return None


def require(name: str) -> Cluster:
    """The cluster as it was started.

    Raises:
        ClusterError: There is no such cluster.
    """
    found = load(name)
    if found is None:
        raise ClusterError(f"There is no cluster {name!r}; start it with: python3 e2e/cluster up --name {name}")
    return found


def known() -> Iterator[Cluster]:
    """Every cluster that was started and not taken down."""
    for file in sorted((cache_dir() / "cluster").glob("*/cluster.json")):
        found = load(file.parent.name)
        if found is not None:
            yield found


def free_port_base(name: str) -> int:
    """The default ports for the default cluster, else the first free block from 16443 that no other cluster has."""
    if name == DEFAULT_NAME:
        return DEFAULT_PORT_BASE
    taken = {cluster.port_base for cluster in known()}
    for base in range(16443, 26443, 10):
        if base not in taken and all(map(is_free, range(base, base + PORTS_PER_CLUSTER))):
            return base
    raise ClusterError("No free block of ports between 16443 and 26443; give one with --port-base.")


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether nothing listens on this port of an address of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def write(path: Path, text: str) -> None:
    """Writes a file unless it has this text already: kube-proxy ends when its configuration is touched."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
