"""The command ``hpcsgd explain``."""

from __future__ import annotations

import argparse

from hpcsgd.config import paths
from hpcsgd.record.reader import load_run
from hpcsgd.scaling import explain as verdict


def explain(words: list[str]) -> int:
    """``hpcsgd explain RUN``; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="hpcsgd explain",
        description="What bounds a run, who is slow, what changed, what would help: in ten lines.",
    )
    parser.add_argument("run", metavar="RUN", type=paths.argument, help="a run's directory or its run.h5")
    print("\n".join(verdict.explain(load_run(parser.parse_args(words).run)).lines))
    return 0
