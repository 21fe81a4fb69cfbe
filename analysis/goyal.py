"""The figures of Goyal 2017 (arXiv 1706.02677) from the logs of runs: large minibatches, warm-up, scaling rules.

    python analysis/goyal.py RUN... -o DIR

writes the figures that analysis/README.md lists as PNG and SVG, and the tables behind them as CSV and Markdown. What
cannot be drawn is said, with the runs that are missing. Exit code 0; 1 where no run could be read; 2 for wrong usage.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from chapters import goyal
from draw import script
from hpcsgd.run import streams

PROGRAM = goyal.CHAPTER.script


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = script.parser(PROGRAM, "Draw the figures of Goyal 2017 from the logs of runs.")
    options = script.parse_with_skip(parser, argv)
    return script.run_script(PROGRAM, options, partial(goyal.draw, skip=options.skip))


if __name__ == "__main__":
    sys.exit(streams.command(main))
