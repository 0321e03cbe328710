"""Opening an exported graph on plain ONNX Runtime, the same for every kind of model."""

from pathlib import Path
from typing import Any

import onnxruntime as ort

from tunesmith_trainer.environment import worker_threads

_PROVIDER = "CPUExecutionProvider"


def open_session(path: Path) -> Any:
    """A session on the CPU with as many threads as the stage may use; waiting threads do not spin.

    Raises:
        RuntimeError: ONNX Runtime fell back to another execution provider.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = worker_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(path, options, providers=[_PROVIDER])
    if session.get_providers() != [_PROVIDER]:
        raise RuntimeError(f"the session runs on {session.get_providers()}, not on {_PROVIDER}")
    return session
