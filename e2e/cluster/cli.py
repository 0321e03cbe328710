"""The command line: one function for each command."""

import argparse
import fcntl
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cluster import addons, base_image, control_plane, daemon, host, images, kwok, layout, node, pki, teardown, tools
from cluster.errors import ClusterError
from cluster.layout import DEFAULT_NAME, Cluster


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; 0 when it did what was asked, 1 with the reason on standard error when not."""
    options = _parser().parse_args(argv)
    try:
        host.require_linux()
        if options.lock is None:
            options.run(options)
        else:
            with _lock(options.lock.format(**vars(options))):
                options.run(options)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 e2e/cluster", description="A real Kubernetes from plain processes.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    build = commands.add_parser("tools", help="build the programs that are not there yet")
    build.add_argument("--only", choices=["kube"], help="kube: what API-server tests need, without a real node")
    build.set_defaults(run=lambda options: tools.build(only_control_plane=options.only == "kube"), lock="tools")
    for name, function, lock, text in (
        ("up", up, "cluster-{name}", "start a cluster and wait until it is ready"),
        ("down", down, "cluster-{name}", "stop a cluster and remove what it left on this machine"),
        ("status", status, None, "show which processes run"),
        ("kubeconfig", kubeconfig, None, "print the path of the kubeconfig"),
        ("restart-apiserver", restart_api_server, "cluster-{name}", "kill the API server and start it again"),
        ("kwok", start_kwok, "cluster-{name}", "let kwok play the kubelet of simulated nodes"),
        ("images", build_images, "images", "build the images and load them into the node"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--name", default=DEFAULT_NAME, help="which cluster (default: %(default)s)")
        command.set_defaults(run=function, lock=lock)
        _add_options(command, name)
    return parser


def _add_options(command: argparse.ArgumentParser, name: str) -> None:
    if name == "up":
        command.add_argument("--control-plane-only", action="store_true", help="no node; needs no root")
        command.add_argument("--port-base", type=int, help="first of six ports (default: a free block)")
    if name == "down":
        command.add_argument("--purge", action="store_true", help="delete the loaded images too")
    if name == "images":
        command.add_argument(
            "parts", nargs="*", metavar="PART", help=f"base, {', '.join(images.PARTS)} (default: all but base)"
        )


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """Lets one command at a time work on the same thing, such as a cluster."""
    folder = layout.cache_dir() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def up(options: argparse.Namespace) -> None:
    """Starts the cluster, or what of it does not run; tells the kubeconfig's path and the time taken."""
    begin = time.monotonic()
    cluster = _configured(options)
    if cluster.has_node:
        host.require_root()
        host.install_packages(host.NODE_PACKAGES | host.IMAGE_PACKAGES)
    host.install_packages(host.CONTROL_PLANE_PACKAGES)
    with _lock("tools"):
        tools.build(only_control_plane=not cluster.has_node, quiet=True)
    cluster.save()
    pki.ensure(cluster)
    died = daemon.forget_dead(cluster.root)
    if died:
        print(f"cluster {cluster.name}: starting again what had died: {', '.join(died)}", file=sys.stderr)
    begun = _ensure_node(cluster) if cluster.has_node else control_plane.ensure(cluster)
    if kwok.NAME in died:
        kwok.ensure(cluster)
    state = f"ready after {time.monotonic() - begin:.1f} s" if begun else "already running"
    print(f"cluster {cluster.name}: {state}")
    print(f"export KUBECONFIG={cluster.kubeconfig} PATH={layout.bin_dir()}:$PATH")


def _configured(options: argparse.Namespace) -> Cluster:
    """The cluster as it was started before, else as the options say."""
    wanted = Cluster(
        name=options.name,
        port_base=options.port_base or layout.free_port_base(options.name),
        has_node=not options.control_plane_only,
    )
    found = layout.load(options.name)
    if found is None:
        _refuse_second_node(wanted)
        return wanted
    if found.has_node != wanted.has_node or options.port_base not in {None, found.port_base}:
        raise ClusterError(f"Cluster {found.name!r} was started with other options; take it down first.")
    return found


def _refuse_second_node(wanted: Cluster) -> None:
    other = next((cluster.name for cluster in layout.known() if cluster.has_node), None)
    if wanted.has_node and other is not None:
        raise ClusterError(
            f"Cluster {other!r} already has this machine's node; add --control-plane-only or take it down."
        )


def _ensure_node(cluster: Cluster) -> bool:
    """Containerd first, so that its start and the images' overlap with nothing that waits for them."""
    begun = [node.ensure_containerd(cluster), control_plane.ensure(cluster)]
    base = base_image.ensure(cluster)
    begun.append(node.ensure_kubelet(cluster))
    begun.append(addons.ensure(cluster, base))
    node.wait_ready(cluster)
    return any(begun)


def down(options: argparse.Namespace) -> None:
    """Stops everything."""
    cluster = layout.load(options.name)
    if cluster is None:
        print(f"cluster {options.name}: not there")
        return
    if cluster.has_node:
        host.require_root()
    begin = time.monotonic()
    teardown.take_down(cluster, purge=options.purge)
    print(f"cluster {cluster.name}: gone after {time.monotonic() - begin:.1f} s")


def status(options: argparse.Namespace) -> None:
    """One line for each process; an error when one of them is dead or the API server is not ready."""
    cluster = layout.require(options.name)
    processes = list(daemon.recorded(cluster.root))
    for process in processes:
        print(f"{process.name:<24} {'running' if process.alive else 'dead':<8} pid {process.pid}")
    dead = [process.name for process in processes if not process.alive]
    if dead:
        raise ClusterError(f"{', '.join(dead)} died (logs in {cluster.root / 'log'}); `up` starts what is missing.")
    if not control_plane.is_ready(cluster):
        raise ClusterError(f"The API server of cluster {cluster.name!r} is not ready.")
    print(f"API server ready at {cluster.server}")


def kubeconfig(options: argparse.Namespace) -> None:
    """The path alone, for scripts."""
    print(layout.require(options.name).kubeconfig)


def restart_api_server(options: argparse.Namespace) -> None:
    """For tests of what survives it."""
    begin = time.monotonic()
    control_plane.restart_api_server(layout.require(options.name))
    print(f"API server ready again after {time.monotonic() - begin:.1f} s")


def start_kwok(options: argparse.Namespace) -> None:
    """Starts kwok."""
    begun = kwok.ensure(layout.require(options.name))
    print(f"kwok: {'started' if begun else 'already running'}")


def build_images(options: argparse.Namespace) -> None:
    """Prints one line for each image: PART=REFERENCE."""
    host.require_root()
    unknown = sorted(set(options.parts) - {"base", *images.PARTS})
    if unknown:
        raise ClusterError(f"No such image: {', '.join(unknown)}; there are base, {', '.join(images.PARTS)}.")
    host.install_packages(host.IMAGE_PACKAGES)
    cluster = layout.require(options.name)
    for part in options.parts or images.PARTS:
        image = base_image.ensure(cluster) if part == "base" else images.ensure(cluster, part)
        print(f"{part}={image}", flush=True)


__all__ = ["main"]
