"""Strong and weak scaling of runs of several sizes: speed-up, efficiency, times, exposed communication and wait.

    python analysis/scaling.py DIR... [-o OUT] [--prediction FILE]

takes what ``hpcsgd scale`` leaves, or any directories with runs of several sizes, and writes the figures that
analysis/README.md lists (strong and weak scaling are never mixed) as PNG and SVG, and the tables behind them as CSV and
Markdown. A prediction that ``hpcsgd predict`` has kept is drawn beside the runs. Exit code 0; 1 where no run could be
read or nothing can be drawn; 2 for wrong usage.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from chapters import scaling
from draw import script
from hpcsgd.config.paths import argument
from hpcsgd.run import streams

PROGRAM = scaling.CHAPTER.script
DEFAULT_OUTPUT = "figures, in the first DIR"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = script.parser(PROGRAM, "Draw strong and weak scaling of runs, from their logs.", DEFAULT_OUTPUT)
    what = "draw what hpcsgd predict has kept beside the runs"
    parser.add_argument("--prediction", metavar="FILE", type=argument, help=what)
    options = script.parse_with_skip(parser, argv)
    if options.output is None:
        first = Path(options.runs[0])
        options.output = str((first if first.is_dir() else first.parent) / "figures")
    return script.run_script(PROGRAM, options, partial(scaling.draw, skip=options.skip, prediction=options.prediction))


if __name__ == "__main__":
    sys.exit(streams.command(main))
