"""``hpcsgd info``."""

from __future__ import annotations

import argparse
import shutil
import sys

from hpcsgd.config import paths
from hpcsgd.record.reader import load_run
from hpcsgd.record.summary import summarise


def info(words: list[str]) -> int:
    """``hpcsgd info RUN``; gives the exit code."""
    parser = argparse.ArgumentParser(prog="hpcsgd info")
    parser.add_argument("run", metavar="RUN", type=paths.argument, help="a run's directory or its run.h5")
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(summarise(load_run(parser.parse_args(words).run), width))
    return 0
