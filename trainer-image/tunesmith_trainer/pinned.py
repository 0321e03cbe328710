"""A fetched folder is of one version: what an interrupted fetch has brought of another one does not stay."""

import shutil
from pathlib import Path

from tunesmith_trainer import log
from tunesmith_trainer.workspace import key_of, read_json, write_json


def pin(folder: Path, *version: object) -> None:
    """Make a folder ready for a version: as it is where its fetch has begun already, else empty.

    What the version is, is noted beside the folder, which has nothing but what was fetched.

    Args:
        folder: where the version is fetched into; all that is in it came by an earlier fetch.
        version: what tells it from every other one, such as where it lies and the digest of its manifest; in JSON.
    """
    note = folder.with_name(f".{folder.name}.version.json")
    wanted = {"version": key_of(*version)}
    if read_json(note) != wanted:
        if folder.exists():
            log.info("another version than before: fetching from the beginning", folder=str(folder))
            shutil.rmtree(folder)
        write_json(note, wanted)
    folder.mkdir(parents=True, exist_ok=True)
