"""The figures of Shallue 2019 (arXiv 1811.03600) from archives of studies.

    python analysis/shallue.py STUDY... -o DIR [--goal X ...]

A STUDY is the directory of ``hpcsgd study run``, an archive in the public layout, or either packed (.tar.xz, .zip). It
writes the figures that analysis/README.md lists as PNG and SVG, and the tables behind them as CSV and Markdown. What
cannot be drawn is said. Exit code 0; 1 where no study could be read; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from chapters import shallue
from draw import script
from hpcsgd.config.paths import argument
from hpcsgd.run import streams
from runs.workloads import METRIC, load

PROGRAM = shallue.CHAPTER.script


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Draw the figures of Shallue 2019 from studies.")
    what = "directory of a study, an archive in the public layout, or a packed one"
    parser.add_argument("studies", nargs="+", metavar="STUDY", type=argument, help=what)
    parser.add_argument("-o", "--output", required=True, metavar="DIR", type=argument, help="for figures and tables")
    goal = "goals; the first is that of all figures but the second (default: what every batch size reaches)"
    parser.add_argument("--goal", type=float, nargs="+", default=[], metavar="X", help=goal)
    metric = "measured column that the goal is judged on; lower is better (default: %(default)s)"
    parser.add_argument("--metric", default=METRIC, metavar="NAME", help=metric)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    options = arguments(argv)
    drawing = partial(shallue.draw, goals=options.goal, metric=options.metric)
    return script.run(
        PROGRAM, options.output, lambda: load(options.studies), drawing, "none of the studies can be read"
    )


if __name__ == "__main__":
    sys.exit(streams.command(main))
