"""A model folder as an OCI image that a Kubernetes image volume can mount: plain tar layers, the same for same files.

Each large file is a layer of its own, so that a registry keeps weights that two versions share once; the small ones
are one layer. The layers are streamed from the files: no copy of the weights is made.
"""

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tunesmith_trainer.registry import MANIFEST_TYPE, sha256
from tunesmith_trainer.transfer import digest_of

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
DIGEST_ANNOTATION = "dev.tunesmith.digest"
#: Files from this size on are layers of their own.
OWN_LAYER_BYTES = 8 * 2**20
_BLOCK = tarfile.BLOCKSIZE
_END = b"\0" * (2 * _BLOCK)
_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Layer:
    """A tar of some files of a folder, as a stream.

    Attributes:
        folder: the root of the names.
        files: the files, in their order.
    """

    folder: Path
    files: tuple[Path, ...]

    def chunks(self) -> Iterator[bytes]:
        """The tar's bytes: owners, times and modes are the same on every machine."""
        for file in self.files:
            yield self._header(file)
            yield from _content(file)
            yield b"\0" * (-file.stat().st_size % _BLOCK)
        yield _END

    @cached_property
    def size(self) -> int:
        """Length of the tar in bytes."""
        sizes = (file.stat().st_size for file in self.files)
        padded = sum(size + -size % _BLOCK for size in sizes)
        return padded + sum(len(self._header(file)) for file in self.files) + len(_END)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the tar, in the registry's writing; the files are read for it once."""
        return f"sha256:{digest_of(self.chunks())}"

    def _header(self, file: Path) -> bytes:
        entry = tarfile.TarInfo(file.relative_to(self.folder).as_posix())
        entry.size, entry.mode, entry.mtime = file.stat().st_size, 0o644, 0
        return entry.tobuf(tarfile.PAX_FORMAT)

    def descriptor(self) -> dict[str, Any]:
        """The layer in a manifest."""
        return {"mediaType": LAYER_TYPE, "digest": self.digest, "size": self.size}


def _content(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            yield chunk


def layers_of(folder: Path) -> list[Layer]:
    """The layers of a folder: the small files, then each large one."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    large = [file for file in files if file.stat().st_size >= OWN_LAYER_BYTES]
    small = tuple(file for file in files if file not in large)
    return ([Layer(folder, small)] if small else []) + [Layer(folder, (file,)) for file in large]


def config_of(layers: Sequence[Layer]) -> bytes:
    """The image's configuration: nothing runs in it, and its layers are uncompressed."""
    rootfs = {"type": "layers", "diff_ids": [layer.digest for layer in layers]}
    return json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}, sort_keys=True).encode()


def manifest_of(layers: Sequence[Layer], config: bytes, folder_digest: str) -> bytes:
    """The image's manifest."""
    content = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": sha256(config), "size": len(config)},
        "layers": [layer.descriptor() for layer in layers],
        "annotations": {DIGEST_ANNOTATION: folder_digest},
    }
    return json.dumps(content, sort_keys=True).encode()
