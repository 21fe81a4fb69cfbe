"""What more ranks and larger batches buy: the tables of scaling and of batch-size studies in, sentences out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from runs.logs import Entry, ranks_text
from tables.scaling import core_remarks
from verdict.sentence import Range, Sentence, figure, percent

SAME = {"strong": "the same global batch", "weak": "the same local batch"}


def scaling_sentence(entries: Sequence[Entry], runs: pd.DataFrame) -> Sentence:
    """The efficiency at the largest size, of the series that goes furthest.

    Args:
        entries: the runs.
        runs: of ``tables.scaling.run_table``; may be empty.
    """
    if runs.empty:
        text = "Nothing can be said of scaling: no two runs of one global or local batch differ in their ranks alone."
        return Sentence(text, known=False)
    top = runs.sort_values(["num_ranks", "scaling"], ascending=[False, True]).iloc[0]
    same = runs[(runs["scaling"] == top["scaling"]) & (runs["series"] == top["series"])]
    shared = core_remarks([item for item in entries if item.name in set(same["run"])], same)
    if shared:
        return Sentence(f"Nothing can be said of scaling: {shared[0]}", known=False)
    size = same[same["num_ranks"] == top["num_ranks"]]
    speedup, efficiency = (_over_iterations(size, name) for name in ("speedup", "iteration_efficiency"))
    ranks, fewest = (ranks_text(int(top[name])) for name in ("num_ranks", "reference_ranks"))
    if speedup.low <= 1 <= speedup.high:
        text = f"{ranks} are not told from {fewest} in samples a second ({figure(speedup.value)} times)"
    else:
        text = f"{ranks} train {figure(speedup.value)} times the samples a second of {fewest}"
    text = f"With {SAME[top['scaling']]}, {text}, an efficiency of {percent(efficiency.value)}"
    exposed = percent(float(size["exposed_share"].median()))
    text += (
        f" ({percent(efficiency.low)} to {percent(efficiency.high)} over iterations), and {exposed} of the time "
        "goes to exposed communication."
    )
    emulated = " The machine was emulated." if any(item.run.emulated for item in entries) else ""
    return Sentence(text, f"{top['series']}.{emulated}")


def _over_iterations(size: pd.DataFrame, name: str) -> Range:
    """A measure of the runs of one size: their median, and 5th to 95th percentile over their iterations."""
    return Range(float(size[name].median()), float(size[f"{name}_p5"].min()), float(size[f"{name}_p95"].max()))


def study_sentences(results: pd.DataFrame, regimes: pd.DataFrame) -> list[Sentence]:
    """Up to which batch steps fall, how far, and at what cost in samples: of each study, of the first goal of each.

    Args:
        results: of ``tables.results.result_table``, with ``low_steps`` and ``high_steps``, their 95 % intervals.
        regimes: of ``tables.results.regime_table``.
    """
    found: list[list[Sentence]] = []
    for name, part in results.groupby("workload", sort=False):
        own = part[part["goal"] == part["goal"].iloc[0]].sort_values("batch_size")
        reached = own[own["steps_to_result"].notna()]
        if len(reached) < 2:
            text = f"Nothing can be said of {name}: fewer than two batch sizes reach the goal."
            found.append([Sentence(text, known=False)])
            continue
        of_study = regimes[(regimes["workload"] == name) & (regimes["goal"] == own["goal"].iloc[0])]
        limits = [_limits(str(name), of_study.iloc[0], reached)] if len(of_study) else []
        found.append([*limits, *_costs(str(name), reached, len(own) - len(reached))])
    # The first of each study, then the second of each.
    longest = max(map(len, found), default=0)
    return [own[turn] for turn in range(longest) for own in found if turn < len(own)]


def _limits(name: str, row: pd.Series, reached: pd.DataFrame) -> Sentence:
    """Both limits of a study, with their intervals over trials."""
    smallest, largest = (int(pick(reached["batch_size"])) for pick in (min, max))
    goal = f"a {row['metric'].rpartition('/')[2].replace('_', ' ')} below {row['goal']:g}"
    until, beyond = _limit(row, "perfect_until"), _limit(row, "maximal_from")
    if row["perfect_until"] <= smallest:
        text = (
            f"the steps of {name} to {goal} fall by less than the batch grows from the smallest, {smallest}, on{until}"
        )
    else:
        text = (
            f"the steps of {name} to {goal} fall in proportion to the batch up to {figure(row['perfect_until'])}{until}"
        )
    if math.isinf(row["maximal_from"]):
        text += f", and still fall, if by less, at the largest, {largest}{beyond}"
    else:
        text += f", and hardly fall from {figure(row['maximal_from'])} on{beyond}"
    return Sentence(
        f"{text[0].upper()}{text[1:]}.", "95 % intervals over trials; limits depend on the space that was searched."
    )


def _limit(row: pd.Series, name: str) -> str:
    """The interval of a limit, where it is one."""
    low, high = float(row[f"{name}_low"]), float(row[f"{name}_high"])
    if math.isnan(low) or low == high:
        return ""
    ends = " to ".join("beyond the largest" if math.isinf(end) else f"{end:g}" for end in (low, high))
    return f" ({ends})"


def _costs(name: str, reached: pd.DataFrame, num_missed: int) -> list[Sentence]:
    """What the largest batch saves in steps, and costs in samples."""
    first, last = reached.iloc[0], reached.iloc[-1]
    sizes = last["batch_size"] / first["batch_size"]
    steps = [Range(row["steps_to_result"], row["low_steps"], row["high_steps"]) for row in (first, last)]
    fewer = steps[0].over(steps[1])
    missed = f"Batch sizes that miss the goal: {num_missed}." if num_missed else ""
    batches = f"{int(first['batch_size'])} to {int(last['batch_size'])}"
    if not steps[0].is_above(steps[1]):
        text = f"From batch {batches}, the steps of {name} do not fall by more than its trials differ."
        return [Sentence(text, missed)]
    text = (
        f"From batch {batches}, {figure(sizes)} times as large, the steps of {name} fall {figure(fewer.value)} times "
        f"({_ends(fewer)})."
    )
    more = Range(sizes / fewer.value, sizes / fewer.high, sizes / fewer.low)
    cost = f"The largest batch of {name} needs {figure(more.value)} times the samples of the smallest ({_ends(more)})."
    if more.low <= 1 <= more.high:
        cost = f"In samples the largest and the smallest batch of {name} are not told apart ({_ends(more)} times)."
    return [Sentence(text, missed), Sentence(cost)]


def _ends(value: Range) -> str:
    """Both ends of a range."""
    return f"{figure(value.low, 2)} to {figure(value.high, 2)}"
