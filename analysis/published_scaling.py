"""Published times at hundreds to thousands of GPUs, predicted from small sizes: the cost model's, a line's, Extra-P's.

    python analysis/published_scaling.py [-o OUT]

takes MLPerf's and Goyal's published times (analysis/published/) and no runs, and writes a figure and tables. How rows
are chosen, and what was learned from which, tables/published_points.py says. It takes about a minute. Exit code 0; 2
for wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from draw import predicted
from draw.script import output_directory
from hpcsgd.errors import UsageError
from hpcsgd.run import streams
from tables import published_points as rows
from tables.write import write_table

PROGRAM = "published_scaling.py"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Predict published times of many GPUs from few.")
    parser.add_argument("-o", dest="output", metavar="DIR", default="figures", help="where to write (default: figures)")
    try:
        directory = output_directory(parser.parse_args(argv).output)
    except UsageError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    for path in write(directory):
        print(f"wrote {path}")
    return 0


def write(directory: Path) -> list[Path]:
    """Write figure and tables; returns the files."""
    table = rows.rows()
    all_tests, goal = rows.tested(table), rows.goal(table)
    taught = rows.teach(table, pd.concat([all_tests, goal])["round"].unique())
    found = rows.predictions(all_tests, taught)
    errors = rows.beside_others(rows.predictions(goal, taught), goal)
    told, held = rows.summary(errors), rows.coverage(found)
    files = write_table(
        errors,
        directory,
        "published_goal",
        title="ResNet-50 at 512 GPUs and more, from 8 and 64",
        notes=[told],
        digits=3,
    )
    files += write_table(found, directory, "published_all", title="All rows that were not fitted", notes=[held])
    files += write_table(rows.goyal(), directory, "published_goyal", title="Goyal 2017, ResNet-50 on P100")
    return files + predicted.draw(errors, found, directory, f"{told} {held}")


if __name__ == "__main__":
    sys.exit(streams.command(main))
