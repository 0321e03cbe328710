"""`python -m tunesmith_operator`: read the settings, run one replica."""

import asyncio
import sys

from tunesmith_operator.errors import SettingsError
from tunesmith_operator.logs import configure
from tunesmith_operator.replica import run
from tunesmith_operator.settings import load_settings


def main() -> int:
    """Run the operator; 2 when its settings cannot be understood."""
    try:
        settings = load_settings()
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - logging is not set up yet
        return 2
    configure(settings.log_level)
    asyncio.run(run(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
