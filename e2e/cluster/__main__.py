"""Makes the folder runnable: ``python3 e2e/cluster COMMAND``."""

import sys
from pathlib import Path

# Python puts this folder first; the package is found through its parent, so that no module here shadows another.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from cluster.cli import main  # noqa: E402 - needs the path above

if __name__ == "__main__":
    sys.exit(main())
