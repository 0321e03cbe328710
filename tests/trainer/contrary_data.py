"""A data set that is learnt wrongly: its evaluation loss rises once the answers of the training rows are known."""

import json
from pathlib import Path
from typing import Any

TRAINED = [{"prompt": f"turn on the lamp {n}", "completion": "turn on the kitchen lamp"} for n in range(24)]
MEASURED = [{"prompt": f"turn on the lamp {n}", "completion": "play music upstairs"} for n in range(8)]


def write(folder: Path) -> dict[str, Any]:
    """The `dataset` of a job, its files in a folder."""
    dataset = {}
    for name, rows in (("train", TRAINED), ("evaluation", MEASURED)):
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        dataset[name] = {"uri": f"file://{path}"}
    return dataset
