"""JSON lines on standard output: one object per event, for `kubectl logs` and for log collectors."""

import json
import logging
import sys
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

LOGGER = logging.getLogger("tunesmith")


class _JsonFormatter(logging.Formatter):
    def __init__(self, hide: Callable[[str], str]) -> None:
        super().__init__()
        self._hide = hide

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **fields,
        }
        return self._hide(json.dumps(line, default=str))


def start_logging(hide: Callable[[str], str] = str) -> None:
    """Send every record to standard output as JSON: ours from INFO on, the libraries' from WARNING on.

    Args:
        hide: takes secrets out of a line.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonFormatter(hide))
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.WARNING)
    LOGGER.setLevel(logging.INFO)
    warnings.simplefilter("ignore", FutureWarning)  # the libraries' own calls of each other; the pins keep them working
    logging.captureWarnings(capture=True)


def info(message: str, **fields: Any) -> None:
    """Log an event with fields that programs can read."""
    LOGGER.info(message, extra={"fields": fields})


def warn(message: str, **fields: Any) -> None:
    """Log something that a person may want to know."""
    LOGGER.warning(message, extra={"fields": fields})
