"""Takes a cluster down and leaves nothing of it behind on the machine: processes, mounts, network, cgroups, files."""

import ipaddress
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from cluster import daemon, node, tools
from cluster.errors import ClusterError
from cluster.layout import NODE_IP, NODE_NAME, POD_CIDR, PORTS_PER_CLUSTER, Cluster, cache_dir

CNI_STATE = Path("/var/lib/cni")
NETWORK_NAMESPACES = Path("/var/run/netns")


def take_down(cluster: Cluster, *, purge: bool) -> None:
    """Stops every process, undoes what the node changed on this machine, and deletes the cluster's state.

    Args:
        cluster: What to take down.
        purge: Delete its image store and the registry's contents too, which a later start would find again.
    """
    running = {process.name: process for process in daemon.recorded(cluster.root)}
    _stop(cluster, running, "kubelet", "kube-proxy", "kwok", "provisioner", "coredns", "registry")
    if cluster.has_node:
        _remove_containers(cluster)
    _stop(cluster, running, "containerd", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd")
    if cluster.has_node:
        _kill_leftovers(cluster)
        _unmount(cluster.root)
        _remove_network()
        _remove_cgroups()
    _wait_ports_free(cluster)
    shutil.rmtree(cluster.root)
    if purge:
        _unmount(cluster.image_store)
        shutil.rmtree(cluster.image_store, ignore_errors=True)
        if cluster.has_node:
            shutil.rmtree(cache_dir() / "registry", ignore_errors=True)


def _stop(cluster: Cluster, running: dict[str, daemon.Daemon], *names: str) -> None:
    for name in names:
        if name in running:
            daemon.stop(cluster.root, running[name])


def _remove_containers(cluster: Cluster) -> None:
    """Ends every pod; containerd would otherwise remember them and its shims would live on without it."""
    if not _containerd_alive(cluster):
        return
    for task in node.ctr(cluster, "tasks", "list", "--quiet").split():
        node.ctr(cluster, "tasks", "delete", "--force", task, check=False)
    for container in node.ctr(cluster, "containers", "list", "--quiet").split():
        node.ctr(cluster, "containers", "delete", container, check=False)
    for sandbox in node.ctr(cluster, "sandboxes", "list", "--quiet", check=False).split():
        node.ctr(cluster, "sandboxes", "remove", "--force", sandbox, check=False)


def _containerd_alive(cluster: Cluster) -> bool:
    found = daemon.find(cluster.root, "containerd")
    return found is not None and found.alive


def _kill_leftovers(cluster: Cluster) -> None:
    """Kills shims of this cluster's containerd and whatever still runs in its cgroups."""
    for pid in {*_shims(cluster), *_cgroup_members()}:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + 10
    while any(True for _ in _shims(cluster)) or any(True for _ in _cgroup_members()):
        if time.monotonic() > deadline:
            raise ClusterError("Processes of pods survived SIGKILL for 10 s.")
        time.sleep(0.1)


def _shims(cluster: Cluster) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                argv = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if "containerd-shim" in argv[0] and str(cluster.containerd_socket) in argv:
                yield int(entry.name)


def _cgroups() -> list[Path]:
    """Every cgroup of the node, innermost first."""
    tops = [*node.CGROUPS.glob(f"*/{NODE_NAME}"), *node.CGROUPS.glob("kubepods"), *node.CGROUPS.glob(NODE_NAME)]
    tops += node.CGROUPS.glob("*/k8s.io")  # containerd's own default parent
    inner = [path for top in tops if not top.parent.is_symlink() for path in top.rglob("*") if path.is_dir()]
    return sorted({*tops, *inner}, key=lambda path: len(path.parts), reverse=True)


def _cgroup_members() -> set[int]:
    members: set[int] = set()
    for group in _cgroups():
        try:
            members.update(int(pid) for pid in (group / "cgroup.procs").read_text().split())
        except OSError:
            continue
    return members - {0, os.getpid()}


def _remove_cgroups() -> None:
    for group in _cgroups():
        for _ in range(20):
            try:
                group.rmdir()
            except FileNotFoundError:
                break
            except OSError:  # busy for a moment after its last process has gone
                time.sleep(0.05)
            else:
                break


def _unmount(root: Path) -> None:
    """Unmounts everything below `root`, the innermost first."""
    points = [
        line.split()[1].encode().decode("unicode_escape") for line in Path("/proc/mounts").read_text().splitlines()
    ]
    for point in reversed([point for point in points if Path(point).is_relative_to(root)]):
        subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)


def _remove_network() -> None:
    for namespace in NETWORK_NAMESPACES.glob("cni-*"):
        tools.run(["ip", "netns", "delete", namespace.name], check=False)
    tools.run(["ip", "link", "delete", "cni0"], check=False)
    for family in ("ip", "ip6"):
        tools.run(["nft", "delete", "table", family, "kube-proxy"], check=False)
    for command in ("iptables", "ip6tables"):
        _remove_iptables(command)
    shutil.rmtree(CNI_STATE / "networks" / node.CNI_NETWORK, ignore_errors=True)
    for result in (CNI_STATE / "results").glob(f"{node.CNI_NETWORK}-*"):
        result.unlink()
    tools.run(["ip", "address", "delete", f"{NODE_IP}/32", "dev", "lo"], check=False)


def _remove_iptables(command: str) -> None:
    """Removes the chains of our CNI network and the kubelet's, with the rules that lead to them; nothing else."""
    for table in ("nat", "filter", "mangle"):
        _delete_rules(command, table, [rule for rule in _rules(command, table) if _is_forwarding(rule)])
        rules = _rules(command, table)
        chains = {rule.split()[1] for rule in rules if rule.startswith("-N ") and _is_ours(rule.split()[1], rules)}
        _delete_rules(command, table, [rule for rule in rules if _target(rule) in chains])
        for action in ("-F", "-X"):
            for chain in chains:
                tools.run([command, "-w", "-t", table, action, chain], check=False)


def _rules(command: str, table: str) -> list[str]:
    return tools.run([command, "-w", "-t", table, "-S"], check=False).splitlines()


def _delete_rules(command: str, table: str, rules: list[str]) -> None:
    for rule in rules:
        if rule.startswith("-A "):
            tools.run([command, "-w", "-t", table, "-D", *shlex.split(rule)[1:]], check=False)


def _is_forwarding(rule: str) -> bool:
    """Whether the CNI plugin `firewall` made this rule for one of our pods."""
    addresses = re.findall(r"[\d.]+(?=/32)", rule)
    ours = ipaddress.ip_network(POD_CIDR)
    return rule.startswith("-A CNI-FORWARD ") and any(ipaddress.ip_address(address) in ours for address in addresses)


def _is_ours(chain: str, rules: list[str]) -> bool:
    if chain in {"CNI-FORWARD", "CNI-ADMIN"}:  # shared with other CNI networks of this machine, if there are any
        return not any(rule.startswith("-A CNI-FORWARD ") and _target(rule) != "CNI-ADMIN" for rule in rules)
    mine = f'name: \\"{node.CNI_NETWORK}\\"'
    return chain.startswith("KUBE-") or any(mine in rule and chain in rule.split() for rule in rules)


def _target(rule: str) -> str:
    found = re.search(r" -j (\S+)", rule)
    return found[1] if found else ""


def _wait_ports_free(cluster: Cluster) -> None:
    address = cluster.address if cluster.address == "127.0.0.1" else "127.0.0.1"
    deadline = time.monotonic() + 15
    for port in range(cluster.port_base, cluster.port_base + PORTS_PER_CLUSTER):
        while _listens(address, port):
            if time.monotonic() > deadline:
                raise ClusterError(f"Port {port} is still in use 15 s after its process ended.")
            time.sleep(0.1)


def _listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0
