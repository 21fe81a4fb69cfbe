"""Timing figures and tables of runs: where the time of an iteration and an epoch goes, and how it grows with size.

    python analysis/timing_curves.py RUN... -o DIR

writes the figures that analysis/README.md lists as PNG and SVG, and the tables behind them as CSV and Markdown. Exit
code 0; 1 where no run could be read; 2 for wrong usage.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from chapters import timing
from draw import script
from hpcsgd.run import streams

PROGRAM = timing.CHAPTER.script


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = script.parser(PROGRAM, "Draw where the time of runs goes, from their logs.")
    options = script.parse_with_skip(parser, argv)
    return script.run_script(PROGRAM, options, partial(timing.draw, skip=options.skip))


if __name__ == "__main__":
    sys.exit(streams.command(main))
