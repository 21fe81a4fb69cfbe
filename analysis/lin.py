"""The figures of Lin 2020 (arXiv 1808.07217) from the logs of runs: local, post-local and hierarchical SGD.

    python analysis/lin.py RUN... -o DIR [--target_accuracy X]

writes the figures that analysis/README.md lists as PNG and SVG, and the tables behind them as CSV and Markdown. Each
workload (model, data set, optimizer, epochs, schedule of the rate) has its own figures. What cannot be drawn is said,
with the runs that are missing. Exit code 0; 1 where no run could be read; 2 for wrong usage.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from chapters import lin
from draw import script
from hpcsgd.run import streams

PROGRAM = lin.CHAPTER.script


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = script.parser(PROGRAM, "Draw the figures of Lin 2020 from the logs of runs.")
    options = script.parse_with_target(parser, argv)
    return script.run_script(PROGRAM, options, partial(lin.draw, skip=options.skip, target=options.target_accuracy))


if __name__ == "__main__":
    sys.exit(streams.command(main))
