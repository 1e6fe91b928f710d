"""`python -m tests.daemon.source_faults [short]`: the table with hangs of a minute, as Markdown."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.daemon.source_faults.table import markdown
from tests.daemon.source_faults.world import Worlds, lacking


def main() -> int:
    """Play everything, and print the table."""
    for row, why in lacking().items():
        sys.stderr.write(f"{row} is left out: {why}\n")
    with tempfile.TemporaryDirectory() as folder:
        worlds = Worlds(Path(folder), full="short" not in sys.argv[1:])
        worlds.run()
        sys.stdout.write(markdown(worlds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
