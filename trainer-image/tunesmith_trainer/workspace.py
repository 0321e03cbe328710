"""The workspace: where each file of a run lies, how files are written whole, and which steps are complete."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tunesmith_api.reports import (
    EXPORT_FOLDER,
    EXPORT_REPORT,
    MODEL_FOLDER,
    PREPARE_REPORT,
    SAMPLES,
    TRAIN_LOG,
    TRAIN_REPORT,
)


@dataclass(frozen=True)
class Workspace:
    """The files of one job below its workspace folder."""

    root: Path

    @property
    def prepare_report(self) -> Path:
        """DatasetStatus as JSON."""
        return self.root / PREPARE_REPORT

    @property
    def train_report(self) -> Path:
        """TrainReport as JSON."""
        return self.root / TRAIN_REPORT

    @property
    def train_log(self) -> Path:
        """A Progress per line."""
        return self.root / TRAIN_LOG

    @property
    def prepared(self) -> Path:
        """What prepare found out for the later stages (Prepared as JSON)."""
        return self.root / "prepared.json"

    @property
    def model(self) -> Path:
        """The fetched base model; absent when the model is used in place."""
        return self.root / MODEL_FOLDER

    @property
    def downloads(self) -> Path:
        """Fetched data files, a folder per URI."""
        return self.root / "downloads"

    @property
    def unpacked(self) -> Path:
        """Data files without their gzip, while they are read."""
        return self.root / "unpacked"

    @property
    def training_rows(self) -> Path:
        """Tokenised training rows (Arrow)."""
        return self.root / "data" / "train.arrow"

    @property
    def evaluation_rows(self) -> Path:
        """Tokenised evaluation rows (Arrow)."""
        return self.root / "data" / "evaluation.arrow"

    @property
    def samples(self) -> Path:
        """The first evaluation rows as people read them (a Sample per line)."""
        return self.root / SAMPLES

    @property
    def checkpoints(self) -> Path:
        """Checkpoints, a folder per run key."""
        return self.root / "checkpoints"

    @property
    def base_scores(self) -> Path:
        """Scores of the base model, kept for a resumed run."""
        return self.root / "base-scores.json"

    @property
    def adapter(self) -> Path:
        """The trained adapter in PEFT's layout."""
        return self.root / "adapter"

    @property
    def plots(self) -> Path:
        """PNG plots."""
        return self.root / "plots"

    @property
    def merged(self) -> Path:
        """The merged torch model while the export runs."""
        return self.root / "merged.tmp"

    @property
    def export(self) -> Path:
        """The exported model folder."""
        return self.root / EXPORT_FOLDER

    @property
    def export_report(self) -> Path:
        """ExportReport as JSON, inside the model folder."""
        return self.export / EXPORT_REPORT


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: to a neighbour, flushed to the disk, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    neighbour = path.with_name(f".{path.name}.tmp")
    with neighbour.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    neighbour.replace(path)


def write_json(path: Path, value: BaseModel | dict[str, Any]) -> None:
    """Write a contract value (camelCase, absent instead of null) or a plain object as JSON."""
    if isinstance(value, BaseModel):
        text = value.model_dump_json(by_alias=True, exclude_none=True, indent=2)
    else:
        text = json.dumps(value, indent=2, ensure_ascii=False)
    write_text(path, text + "\n")


def key_of(*parts: object) -> str:
    """A key that changes when any of the values that a step depends on changes: SHA-256 over their JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_readable(folders: Iterable[Path]) -> None:
    """Let every user read the files below some folders; safetensors writes mode 0600 whatever the umask (its #782)."""
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            if not path.is_symlink():
                _add_mode(path, 0o755 if path.is_dir() else 0o644)


def _add_mode(path: Path, mode: int) -> None:
    status = path.stat()
    if status.st_uid == os.geteuid() and status.st_mode & mode != mode:
        path.chmod(status.st_mode | mode)


def replace_folder(new: Path, target: Path) -> None:
    """Put a finished folder in the place of another one by renames, so that no reader sees a half of either."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file, or None when it is absent or was cut off by a kill."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
