"""Strong and weak scaling of runs of several sizes: speed-up, efficiency, times, exposed communication and wait.

    python analysis/scaling.py DIR... [-o OUT]

takes what ``hpcsgd scale`` leaves, or any directories with runs of several sizes, and writes the figures that
analysis/README.md lists (strong and weak scaling are never mixed) as PNG and SVG, and the tables behind them as CSV and
Markdown. Exit code 0; 1 where no run could be read or none is in a series; 2 for wrong usage.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from chapters import scaling
from draw import script
from hpcsgd.run import streams

PROGRAM = scaling.CHAPTER.script
DEFAULT_OUTPUT = "figures, in the first DIR"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = script.parser(PROGRAM, "Draw strong and weak scaling of runs, from their logs.", DEFAULT_OUTPUT)
    options = script.parse_with_skip(parser, argv)
    if options.output is None:
        first = Path(options.runs[0])
        options.output = str((first if first.is_dir() else first.parent) / "figures")
    return script.run_script(PROGRAM, options, partial(scaling.draw, skip=options.skip))


if __name__ == "__main__":
    sys.exit(streams.command(main))
