"""Certificates and kubeconfigs, made with openssl."""

from dataclasses import dataclass
from pathlib import Path

from cluster.layout import API_SERVICE_IP, NODE_IP, NODE_NAME, Cluster
from cluster.tools import run

_DAYS = "3650"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Identity:
    """A certificate: file name, subject (Kubernetes reads O as the group, CN as the user), subjectAltName."""

    name: str
    subject: str
    alt_names: str


IDENTITIES = (
    Identity(
        "apiserver",
        "/CN=kube-apiserver",
        f"IP:127.0.0.1,IP:{API_SERVICE_IP},IP:{NODE_IP},DNS:localhost,DNS:kubernetes,DNS:kubernetes.default.svc",
    ),
    Identity("admin", "/O=system:masters/CN=admin", "DNS:admin"),
    Identity("kubelet-client", "/O=system:masters/CN=apiserver-kubelet-client", "DNS:apiserver"),
    Identity("controller-manager", "/CN=system:kube-controller-manager", "DNS:controller-manager"),
    Identity("scheduler", "/CN=system:kube-scheduler", "DNS:scheduler"),
    Identity("kubelet", f"/O=system:nodes/CN=system:node:{NODE_NAME}", f"DNS:{NODE_NAME},IP:{NODE_IP}"),
    Identity("proxy", "/CN=system:kube-proxy", "DNS:proxy"),
)


def ensure(cluster: Cluster) -> None:
    """Makes the authority, every identity's certificate and kubeconfig, unless they are there."""
    pki = cluster.pki
    if not (pki / "complete").exists():
        pki.mkdir(parents=True, exist_ok=True)
        pki.chmod(0o700)
        _authority(pki)
        for identity in IDENTITIES:
            _sign(pki, identity)
        (pki / "complete").touch()
    for identity in IDENTITIES:
        _write_kubeconfig(cluster, identity.name)
    cluster.kubeconfig.write_text(kubeconfig(cluster, "admin").read_text())
    cluster.kubeconfig.chmod(0o600)


def kubeconfig(cluster: Cluster, identity: str) -> Path:
    """The kubeconfig of an identity."""
    return cluster.pki / f"{identity}.kubeconfig"


def _authority(pki: Path) -> None:
    authority = ("-keyout", str(pki / "ca.key"), "-out", str(pki / "ca.crt"))
    run(["openssl", "req", "-x509", *_KEY, *authority, "-days", _DAYS, "-subj", "/CN=tunesmith-cluster"])
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(pki / "service-account.key")])


def _sign(pki: Path, identity: Identity) -> None:
    stem = pki / identity.name
    request = ("-keyout", f"{stem}.key", "-out", f"{stem}.csr", "-subj", identity.subject)
    run(["openssl", "req", *_KEY, *request])
    extensions = Path(f"{stem}.ext")
    extensions.write_text(f"subjectAltName={identity.alt_names}\n")
    authority = ("-CA", str(pki / "ca.crt"), "-CAkey", str(pki / "ca.key"), "-CAcreateserial")
    signed = ("-in", f"{stem}.csr", "-out", f"{stem}.crt", "-days", _DAYS, "-extfile", str(extensions))
    run(["openssl", "x509", "-req", *signed, *authority])


def _write_kubeconfig(cluster: Cluster, identity: str) -> None:
    pki = cluster.pki
    context = f"tunesmith-{cluster.name}"
    file = kubeconfig(cluster, identity)
    file.touch(mode=0o600)
    file.write_text(f"""\
apiVersion: v1
kind: Config
current-context: {context}
clusters:
- name: {context}
  cluster:
    server: {cluster.server}
    certificate-authority: {pki / "ca.crt"}
contexts:
- name: {context}
  context: {{cluster: {context}, user: {identity}}}
users:
- name: {identity}
  user:
    client-certificate: {pki / f"{identity}.crt"}
    client-key: {pki / f"{identity}.key"}
""")
