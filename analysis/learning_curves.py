"""Learning curves of runs: loss, accuracy and other metrics against epochs, steps, seconds and communicated bytes.

    python analysis/learning_curves.py RUN... -o DIR

writes the figures that analysis/README.md lists as PNG and SVG, and the tables behind them as CSV and Markdown. Exit
code 0; 1 where no run could be read; 2 for wrong usage.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from chapters import learning
from draw import script
from hpcsgd.run import streams

PROGRAM = learning.CHAPTER.script


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = script.parser(PROGRAM, "Draw loss and metrics of runs against what they cost, from their logs.")
    return script.run_script(PROGRAM, parser.parse_args(argv), learning.draw)


if __name__ == "__main__":
    sys.exit(streams.command(main))
