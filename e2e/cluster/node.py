"""The one real node: containerd, kubelet and kube-proxy as processes of this machine."""

import os
import shutil
import subprocess
from pathlib import Path

from cluster import control_plane, daemon, pki, tools
from cluster.layout import DNS_SERVICE_IP, NODE_IP, NODE_NAME, POD_CIDR, REGISTRY, Cluster, bin_dir, write

PAUSE_IMAGE = "localhost/tunesmith/pause:1"
CNI_NETWORK = "tunesmith"
CGROUPS = Path("/sys/fs/cgroup")


def ensure_containerd(cluster: Cluster) -> bool:
    """Prepares the machine and starts containerd unless it runs; waits for its socket."""
    _prepare_machine()
    for folder in (cluster.kubelet_dir, cluster.volumes, cluster.image_store, cluster.root / "cni"):
        folder.mkdir(parents=True, exist_ok=True)
    _write_containerd_config(cluster)
    argv = [tools.command("containerd"), "--config", str(cluster.root / "containerd.toml")]
    path = f"{bin_dir()}:{os.environ['PATH']}"  # containerd looks for its shim on PATH
    begun = daemon.ensure(cluster.root, "containerd", argv, {"PATH": path})
    daemon.wait_until("containerd", lambda: _answers(cluster), cluster.root)
    return begun


def ensure_kubelet(cluster: Cluster) -> bool:
    """Starts kubelet and kube-proxy unless they run."""
    write(cluster.root / "kubelet.yaml", _kubelet_config(cluster))
    write(cluster.root / "kube-proxy.yaml", _proxy_config(cluster))
    kubelet = [
        tools.command("kubelet"),
        f"--config={cluster.root / 'kubelet.yaml'}",
        f"--kubeconfig={pki.kubeconfig(cluster, 'kubelet')}",
        f"--hostname-override={NODE_NAME}",
        f"--root-dir={cluster.kubelet_dir}",
        f"--node-ip={NODE_IP}",
    ]
    proxy = [tools.command("kube-proxy"), f"--config={cluster.root / 'kube-proxy.yaml'}"]
    begun = [daemon.ensure(cluster.root, "kubelet", kubelet), daemon.ensure(cluster.root, "kube-proxy", proxy)]
    return any(begun)


def wait_ready(cluster: Cluster) -> None:
    """Waits until the node is Ready."""
    daemon.wait_until("the node", lambda: is_ready(cluster), cluster.root)


def is_ready(cluster: Cluster) -> bool:
    """Whether the node's condition Ready is True."""
    path = '{.status.conditions[?(@.type=="Ready")].status}'
    return control_plane.kubectl(cluster, "get", "node", NODE_NAME, "-o", f"jsonpath={path}", check=False) == "True"


def ctr(cluster: Cluster, *arguments: str, check: bool = True) -> str:
    """Runs containerd's own command line in the namespace of the kubelet."""
    argv = [tools.command("ctr"), "--address", str(cluster.containerd_socket), "--namespace", "k8s.io", *arguments]
    return tools.run(argv, check=check)


def _answers(cluster: Cluster) -> bool:
    argv = [tools.command("ctr"), "--address", str(cluster.containerd_socket), "version"]
    return cluster.containerd_socket.exists() and subprocess.run(argv, capture_output=True, check=False).returncode == 0


def _prepare_machine() -> None:
    tools.run(["ip", "address", "replace", f"{NODE_IP}/32", "dev", "lo"])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    # Without it a Service's answer from a pod on the same bridge would skip the address translation on its way back.
    if shutil.which("modprobe"):
        tools.run(["modprobe", "br_netfilter"], check=False)
    bridge = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if bridge.exists():
        bridge.write_text("1")
    if not (CGROUPS / "cgroup.controllers").exists():
        _prepare_cgroup_v1()


def _prepare_cgroup_v1() -> None:
    # A root of its own: a kubelet removes pod cgroups that it does not know. Version 2 needs nothing of this.
    for controller in CGROUPS.iterdir():
        if controller.is_dir() and not controller.is_symlink():
            (controller / NODE_NAME).mkdir(exist_ok=True)
    for name in ("cpuset.mems", "cpuset.cpus"):
        inherited = CGROUPS / "cpuset" / name
        if inherited.exists():
            (CGROUPS / "cpuset" / NODE_NAME / name).write_text(inherited.read_text())


def _write_containerd_config(cluster: Cluster) -> None:
    mirror = cluster.root / "certs.d" / REGISTRY
    mirror.mkdir(parents=True, exist_ok=True)
    (mirror / "hosts.toml").write_text(f'server = "http://{REGISTRY}"\n')
    (cluster.root / "cni" / "10-tunesmith.conflist").write_text(_CNI)
    (cluster.root / "containerd.toml").write_text(f"""\
version = 3
root = "{cluster.image_store}"
state = "{cluster.containerd_state}"
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{cluster.containerd_socket}"
[ttrpc]
  address = "{cluster.containerd_socket}.ttrpc"
[plugins."io.containerd.cri.v1.images"]
  discard_unpacked_layers = true
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "{cluster.root / "certs.d"}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/usr/lib/cni", "/opt/cni/bin"]
  conf_dir = "{cluster.root / "cni"}"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  BinaryName = "runc"
  SystemdCgroup = false
""")


_CNI = f"""\
{{"cniVersion": "1.0.0", "name": "{CNI_NETWORK}", "plugins": [
  {{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
    "ipam": {{"type": "host-local", "ranges": [[{{"subnet": "{POD_CIDR}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
  {{"type": "firewall", "backend": "iptables"}},
  {{"type": "portmap", "capabilities": {{"portMappings": true}}}}
]}}
"""


def _kubelet_config(cluster: Cluster) -> str:
    root = "" if (CGROUPS / "cgroup.controllers").exists() else f"cgroupRoot: /{NODE_NAME}"
    return f"""\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {NODE_IP}
failCgroupV1: false
cgroupDriver: cgroupfs
{root}
failSwapOn: false
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: {cluster.pki / "ca.crt"}}}
authorization: {{mode: Webhook}}
clusterDNS: [{DNS_SERVICE_IP}]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://{cluster.containerd_socket}
tlsCertFile: {cluster.pki / "kubelet.crt"}
tlsPrivateKeyFile: {cluster.pki / "kubelet.key"}
# A nearly full disk of the machine is its owner's business, not a reason to evict pods or to drop images.
evictionHard: {{memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}}
imageGCHighThresholdPercent: 100
"""


def _proxy_config(cluster: Cluster) -> str:
    return f"""\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: {POD_CIDR}
clientConnection: {{kubeconfig: {pki.kubeconfig(cluster, "proxy")}}}
hostnameOverride: {NODE_NAME}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
nodePortAddresses: [{NODE_IP}/32]
"""
