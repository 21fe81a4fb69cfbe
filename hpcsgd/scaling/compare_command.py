"""``hpcsgd compare``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcsgd.config import paths
from hpcsgd.errors import UsageError
from hpcsgd.record.reader import load_run
from hpcsgd.record.summary import counted, seconds

if TYPE_CHECKING:
    import pandas as pd

    from hpcsgd.scaling.observed import Observed

DESCRIPTION = """Tell regressions from noise: which spans of an iteration changed between runs, and by how much.

  hpcsgd compare OLD NEW                         the second against the first
  hpcsgd compare NEW NEW ... --against OLD ...   several runs a side, so that the interval knows how runs differ
"""
ONE_RUN = (
    "One run a side: the intervals are of what changes within a run. Two runs of the same may differ by more (another "
    "node, other jobs beside them); several runs a side, with --against, would tell."
)


def compare(words: list[str]) -> int:
    """``hpcsgd compare RUN RUN``, or ``RUN ... --against RUN ...``; gives the exit code."""
    asked = _parser().parse_args(words)
    other, base = _sides(asked.run, asked.against)
    if not 0 < asked.level < 100:
        raise UsageError(f"--level {asked.level:g}: a percentage between 0 and 100, such as 99")
    if not 0 <= asked.least < 100:
        raise UsageError(f"--least {asked.least:g}: a percentage of the iteration, 0 or more, such as 0.5")
    if asked.skip is not None and asked.skip < 0:
        raise UsageError(f"--skip {asked.skip}: 0 or more iterations")
    from hpcsgd.scaling.compare import SLOWER, clocks, compare
    from hpcsgd.scaling.differences import differences
    from hpcsgd.scaling.observed import observe

    before, after = ([observe(load_run(run), asked.skip) for run in side] for side in (base, other))
    spans = compare(before, after, asked.level / 100, asked.least / 100)
    told = differences(*([run.run for run in side] for side in (before, after)))
    if asked.csv:
        spans.to_csv(sys.stdout, index=False)
    elif asked.json:
        print(json.dumps(_as_json(before, after, spans, clocks(before, after), told, asked), indent=1))
    else:
        print("\n".join(_lines(before, after, spans, clocks(before, after), told, asked)))
    return int(asked.fail_on_regression and bool((spans["verdict"] == SLOWER).any()))


def _sides(runs: Sequence[Path], against: Sequence[Path] | None) -> tuple[Sequence[Path], Sequence[Path]]:
    """The runs that are compared, and those that they are compared with."""
    if against:
        return runs, against
    if len(runs) != 2:
        raise UsageError(
            f"compare takes two runs, or several with --against: RUN ... --against RUN ...; {len(runs)} are given"
        )
    return runs[1:], runs[:1]


def _lines(
    base: Sequence[Observed],
    other: Sequence[Observed],
    spans: pd.DataFrame,
    clocks: pd.DataFrame,
    told: pd.DataFrame,
    asked: argparse.Namespace,
) -> Iterator[str]:
    """The screen."""
    from hpcsgd.scaling.observed import WARM_UP_TEXT

    for name, side in (("base", base), ("other", other)):
        yield from (f"{name:6} {_run_text(run)}" for run in side)
    left = WARM_UP_TEXT if asked.skip is None else f"the first {counted(asked.skip, 'iteration')} of each start"
    yield f"Left out: {left}, with their synchronisation periods, and periods that are not whole."
    yield from ("", "What differs:" if len(told) else "Recipe, versions and machine are the same.")
    rows = [(row.what, row.key, f"{_short(row.base)} -> {_short(row.other)}") for row in told.itertuples()]
    yield from _table(rows)
    yield from ("", f"Seconds an iteration; all intervals hold together at {asked.level:g} %:")
    heads = ("span", "base", "other", "change", "interval", "verdict")
    yield from _table([heads, *(_span_row(row) for row in spans.itertuples())])
    if len(clocks):
        yield from ("", "Clocks of their own, without a verdict (median of those that took any time):")
        counts = [
            (row.clock, seconds(row.base_seconds), seconds(row.other_seconds), f"{row.base_count}, {row.other_count}")
            for row in clocks.itertuples()
        ]
        yield from _table([("clock", "base", "other", "times"), *counts])
    yield from ("", _conclusion(spans, asked.least))
    if len(base) == len(other) == 1:
        yield ONE_RUN


def _run_text(run: Observed) -> str:
    """A run, and how much of it counts."""
    emulated = "; its times are emulated" if run.run.emulated else ""
    return (
        f"{run.run.path.parent}: {counted(len(run.run.ranks), 'rank')}, {len(run.periods)} synchronisation periods, "
        f"{counted(run.num_left_out, 'iteration')} left out{emulated}"
    )


def _span_row(row: Any) -> tuple[str, ...]:
    """A row of the table of spans."""
    change, interval = f"{row.ratio - 1:+.1%}", ""
    if row.low_seconds == row.low_seconds and row.base_seconds > 0:
        interval = f"{row.low_seconds / row.base_seconds:+.1%} to {row.high_seconds / row.base_seconds:+.1%}"
    if row.base_seconds == 0:
        change = f"+{seconds(row.change_seconds)}"
    return row.span, seconds(row.base_seconds), seconds(row.other_seconds), change, interval, row.verdict


def _conclusion(spans: pd.DataFrame, least: float) -> str:
    """What came out, in a sentence."""
    from hpcsgd.scaling.compare import FASTER, SLOWER

    parts = []
    for verdict, word in ((SLOWER, "Regression"), (FASTER, "Faster")):
        found = spans[spans["verdict"] == verdict]
        told = ", ".join(f"{row.span} {_span_row(row)[3]}" for row in found.itertuples())
        parts += [f"{word}: {told}."] if told else []
    return " ".join(parts) or f"No span changed the iteration by {least:g} % of it or more, beyond noise."


def _short(text: str) -> str:
    """A value that may be long."""
    return text if len(text) <= 40 else f"{text[:37]}..."


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def _as_json(
    base: Sequence[Observed],
    other: Sequence[Observed],
    spans: pd.DataFrame,
    clocks: pd.DataFrame,
    told: pd.DataFrame,
    asked: argparse.Namespace,
) -> dict[str, Any]:
    """All of the screen as plain values; what is not known is null."""
    sides = {"base": base, "other": other}
    tables = {"spans": spans, "clocks": clocks, "differences": told}
    return {
        "level_percent": asked.level,
        "least_percent": asked.least,
        **{name: [str(run.run.path) for run in side] for name, side in sides.items()},
        **{name: json.loads(table.to_json(orient="records")) for name, table in tables.items()},
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hpcsgd compare", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN", type=paths.argument, nargs="+", help="a run's directory or its run.h5")
    parser.add_argument("--against", metavar="RUN", type=paths.argument, nargs="+", help="the runs to compare with")
    parser.add_argument("--level", metavar="PERCENT", type=float, default=99.0, help="of all intervals together (99)")
    parser.add_argument(
        "--least",
        metavar="PERCENT",
        type=float,
        default=0.5,
        help="the smallest change of an iteration that counts (0.5)",
    )
    parser.add_argument("--skip", metavar="N", type=int, help="first iterations of each start to leave out")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--json", action="store_true", help="print JSON")
    kind.add_argument("--csv", action="store_true", help="print the table of spans as CSV")
    parser.add_argument("--fail-on-regression", action="store_true", help="exit code 1 where a span is slower")
    return parser
