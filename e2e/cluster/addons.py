"""What makes a node a usable cluster: names (CoreDNS), volumes (local-path-provisioner), images (a registry)."""

import socket
import struct
import urllib.error
import urllib.request
from pathlib import Path

from cluster import control_plane, daemon, tools
from cluster.layout import DNS_SERVICE_IP, NODE_IP, REGISTRY, Cluster, cache_dir, write

MANIFESTS = Path(__file__).parent / "manifests"
DNS_PORT = 1053


def ensure(cluster: Cluster, base_image: str) -> bool:
    """Starts the add-ons that do not run, applies their manifests, and waits until DNS and the registry answer.

    Args:
        cluster: A cluster with a node.
        base_image: An image with /bin/sh on the node, for the pods that make and remove volume folders.
    """
    begun = [_ensure_dns(cluster), _ensure_storage(cluster, base_image), _ensure_registry(cluster)]
    daemon.wait_until("the registry", registry_answers, cluster.root)
    daemon.wait_until("DNS", dns_answers, cluster.root)
    daemon.wait_until("the volume provisioner", lambda: _log_has(cluster, "provisioner", "Started"), cluster.root)
    return any(begun)


def registry_answers() -> bool:
    """Whether the local registry serves."""
    try:
        with urllib.request.urlopen(f"http://{REGISTRY}/v2/", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def dns_answers() -> bool:
    """Whether CoreDNS, asked as pods ask it (through kube-proxy), knows the API server's Service."""
    labels = (b"kubernetes", b"default", b"svc", b"cluster", b"local")
    name = b"".join(bytes([len(label)]) + label for label in labels)
    header = struct.pack(">6H", 1, 0x0100, 1, 0, 0, 0)  # RFC 1035, 4.1.1: recursion desired, one question
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        try:
            client.sendto(header + name + struct.pack(">BHH", 0, 1, 1), (DNS_SERVICE_IP, 53))
            answer = client.recv(512)
        except OSError:
            return False
    return int(struct.unpack(">6H", answer[:12])[3]) > 0


def _ensure_dns(cluster: Cluster) -> bool:
    corefile = cluster.root / "Corefile"
    write(
        corefile,
        f"""\
cluster.local:{DNS_PORT} in-addr.arpa:{DNS_PORT} {{
  bind {NODE_IP}
  errors
  kubernetes {{
    kubeconfig {cluster.kubeconfig}
  }}
  cache 5
}}
.:{DNS_PORT} {{
  bind {NODE_IP}
  errors
  forward . /etc/resolv.conf
  cache 30
}}
""",
    )
    _apply(cluster, "dns.yaml", {"DNS_SERVICE_IP": DNS_SERVICE_IP, "NODE_IP": NODE_IP, "DNS_PORT": str(DNS_PORT)})
    return daemon.ensure(cluster.root, "coredns", [tools.command("coredns"), "-conf", str(corefile)])


def _ensure_storage(cluster: Cluster, base_image: str) -> bool:
    folder = cluster.root / "provisioner"
    folder.mkdir(exist_ok=True)
    values = {"VOLUMES": str(cluster.volumes), "BASE_IMAGE": base_image}
    for name in ("config.json", "helperPod.yaml"):
        write(folder / name, _render(f"storage-{name}", values))
    _apply(cluster, "storage.yaml", values)
    argv = [
        tools.command("local-path-provisioner"),
        "start",
        f"--config={folder / 'config.json'}",
        f"--kubeconfig={cluster.kubeconfig}",
        f"--helper-image={base_image}",
        f"--helper-pod-file={folder / 'helperPod.yaml'}",
        "--namespace=local-path-storage",
        "--service-account-name=default",
    ]
    return daemon.ensure(cluster.root, "provisioner", argv)


def _ensure_registry(cluster: Cluster) -> bool:
    config = cluster.root / "registry.yaml"
    store = cache_dir() / "registry"
    store.mkdir(parents=True, exist_ok=True)
    port = REGISTRY.rpartition(":")[2]
    write(config, _render("registry.yaml", {"STORE": str(store), "PORT": port}))
    argv = [tools.command("registry"), "serve", str(config)]
    return daemon.ensure(cluster.root, "registry", argv, {"OTEL_TRACES_EXPORTER": "none"})


def _apply(cluster: Cluster, manifest: str, values: dict[str, str]) -> None:
    control_plane.kubectl(cluster, "apply", "--server-side", "-f", "-", stdin=_render(manifest, values))


def _render(name: str, values: dict[str, str]) -> str:
    text = (MANIFESTS / name).read_text()
    for key, value in values.items():
        text = text.replace(f"${{{key}}}", value)
    return text


def _log_has(cluster: Cluster, name: str, text: str) -> bool:
    log = cluster.root / "log" / f"{name}.log"
    return log.exists() and text in log.read_text(errors="replace")
