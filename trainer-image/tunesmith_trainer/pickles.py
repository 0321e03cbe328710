"""Pickled weights: loading them runs their code, so they are neither fetched nor read, and the way out is told."""

from collections.abc import Iterable
from fnmatch import fnmatch

from tunesmith_trainer.errors import BadConfigError

SAFE = "*.safetensors"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def refuse_pickles(where: str, names: Iterable[str]) -> None:
    """Refuse a model whose weights are pickles only.

    Args:
        where: what the model is called in messages.
        names: of all the files that it has.

    Raises:
        BadConfigError: it has pickles and no safetensors.
    """
    files = sorted(names)
    pickles = [name for name in files if any(fnmatch(name, pattern) for pattern in _PICKLES)]
    if pickles and not any(fnmatch(name, SAFE) for name in files):
        raise BadConfigError(
            f"spec.model: {where} has only pickled weights ({pickles[0]}), which can run code; where that may run,"
            " transformers' from_pretrained(...) and then save_pretrained(folder) write them as safetensors"
        )
