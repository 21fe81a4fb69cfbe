"""The figures of Crossbow 2019 (VLDB 12, 1399) from the logs of runs: learners, model averaging, time to accuracy.

    python analysis/crossbow.py RUN... -o DIR [--target_accuracy X]

writes the figures that analysis/README.md lists as PNG and SVG, and the tables behind them as CSV and Markdown. Each
model on a data set has its own figures. What cannot be drawn is said, with the runs that are missing. Exit code 0; 1
where no run could be read; 2 for wrong usage.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from chapters import crossbow
from draw import script
from hpcsgd.run import streams

PROGRAM = crossbow.CHAPTER.script


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = script.parser(PROGRAM, "Draw the figures of Crossbow 2019 from the logs of runs.")
    options = script.parse_with_target(parser, argv)
    return script.run_script(
        PROGRAM, options, partial(crossbow.draw, skip=options.skip, target=options.target_accuracy)
    )


if __name__ == "__main__":
    sys.exit(streams.command(main))
