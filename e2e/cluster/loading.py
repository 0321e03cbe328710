"""Moves images from buildah's store into the node's containerd: only the layers that it does not have, uncompressed.

A changed line of code costs megabytes this way, where an archive or a registry moves or compresses gigabytes of torch.
"""

import contextlib
import json
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import IO

from cluster import node, tools
from cluster.buildah import run_folder, storage_folder
from cluster.errors import ClusterError
from cluster.layout import Cluster, cache_dir


def is_loaded(cluster: Cluster, image: str) -> bool:
    """Whether the node has this image."""
    return image in node.ctr(cluster, "images", "list", "--quiet").split()


def load(cluster: Cluster, image: str) -> None:
    """Brings an image of buildah's store into the node's containerd, unless it is there.

    Raises:
        ClusterError: Containerd refused it.
    """
    if is_loaded(cluster, image):
        return
    with tempfile.TemporaryDirectory(dir=cache_dir()) as folder:
        layout = Path(folder)
        present = _link_present(cluster, layout / "blobs" / "sha256")
        # Skopeo, since buildah would compress the layers; it skips those whose file is there.
        source = f"containers-storage:[overlay@{storage_folder()}+{run_folder()}]{image}"
        flags = ("--quiet", "--insecure-policy", "--dest-oci-accept-uncompressed-layers")
        tools.run(["skopeo", "copy", *flags, source, f"oci:{layout}:{image}"])
        _import(cluster, layout, present)


def _link_present(cluster: Cluster, blobs: Path) -> set[str]:
    """Hard-links what containerd has into an image layout, to be found as written already; returns the digests."""
    blobs.mkdir(parents=True)
    content = cluster.image_store / "io.containerd.content.v1.content" / "blobs" / "sha256"
    digests = {line.partition(":")[2] for line in node.ctr(cluster, "content", "list", "--quiet").split()}
    for digest in digests:
        os.link(content / digest, blobs / digest)
    return digests


def _import(cluster: Cluster, layout: Path, present: set[str]) -> None:
    """Streams an image layout to containerd, without the layers that it has."""
    argv = [tools.command("ctr"), "--address", str(cluster.containerd_socket), "--namespace", "k8s.io"]
    with tempfile.TemporaryFile() as output:
        command = [*argv, "images", "import", "-"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as stream:  # the reason is in the output
            _write_tar(stream, layout, present)
        if process.wait() != 0:
            output.seek(0)
            raise ClusterError(f"Containerd refused an image:\n{output.read().decode(errors='replace')[-2000:]}")


def _write_tar(stream: IO[bytes], layout: Path, present: set[str]) -> None:
    blobs = layout / "blobs" / "sha256"
    manifest = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"].partition(":")[2]
    content = json.loads((blobs / manifest).read_text())
    layers = {layer["digest"].partition(":")[2] for layer in content["layers"]} - present
    wanted = [blobs / name for name in (manifest, content["config"]["digest"].partition(":")[2], *sorted(layers))]
    with tarfile.open(fileobj=stream, mode="w|", bufsize=1 << 20) as archive:
        for file in (layout / "oci-layout", layout / "index.json", *wanted):
            archive.add(file, str(file.relative_to(layout)))
