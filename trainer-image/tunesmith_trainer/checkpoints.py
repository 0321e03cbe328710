"""Checkpoints that a kill cannot spoil: each is sealed when whole, and only sealed ones are resumed from."""

import shutil
from pathlib import Path

from tunesmith_trainer.workspace import make_readable, read_json, write_json

_SEAL = "sealed.json"


def seal(checkpoint: Path) -> None:
    """Note every file's size once a checkpoint is written; let every user read it."""
    sizes = {file.relative_to(checkpoint).as_posix(): file.stat().st_size for file in _files(checkpoint)}
    write_json(checkpoint / _SEAL, sizes)
    make_readable([checkpoint])


def _files(checkpoint: Path) -> list[Path]:
    return [file for file in sorted(checkpoint.rglob("*")) if file.is_file() and file.name != _SEAL]


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint is sealed and all its files are there in full."""
    sizes = read_json(checkpoint / _SEAL)
    return bool(sizes) and all(
        (checkpoint / name).is_file() and (checkpoint / name).stat().st_size == size
        for name, size in (sizes or {}).items()
    )


def folder_of(run: Path, step: int) -> Path:
    """Where a run's checkpoint of an optimizer step lies."""
    return run / f"checkpoint-{step}"


def step_of(checkpoint: Path) -> int:
    """The optimizer step that a checkpoint was written after."""
    return int(checkpoint.name.rpartition("-")[2])


def newest_whole(folder: Path) -> Path | None:
    """The checkpoint to resume from, or None; half-written ones are deleted."""
    found = sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True)
    whole = [checkpoint for checkpoint in found if is_whole(checkpoint)]
    for checkpoint in set(found) - set(whole):
        shutil.rmtree(checkpoint)
    return whole[0] if whole else None
