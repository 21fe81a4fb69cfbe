"""What changed along a run: drift, little by little or at once, and restarts."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hpcsgd.record.summary import counted, seconds
from hpcsgd.scaling.causes import LEAST_SHARE, Case, Finding, Remedy, percent
from hpcsgd.scaling.causes_chance import Trend, trend

LEAST_CHANCE = 0.001
"""Of a drift that is none: four series are looked at in each run."""

LEAST_TOLD = 1e-6
"""Smaller probabilities are not told apart: no log keeps to a distribution so far out."""


def causes_of_course(case: Case) -> Iterator[Finding]:
    """Drifts of compute, input, transfer and waiting that cost enough; restarts, all of them together."""
    for what, rows, values in _series(case):
        found = trend(values)
        if found.chance > LEAST_CHANCE:
            continue
        better = min(found.first, found.last)
        share = (float(values.mean()) - max(better, 0.0)) * len(values) / case.seconds
        if share >= LEAST_SHARE:
            yield _drift(case, what, rows, found, share)
    if case.segments.size and len(case.starts) > 1:
        yield _restarts(case)


def _series(case: Case) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.float64]]]:
    """What is measured step by step: its name, its rows and its seconds there; of equal batches and transfers alone."""
    digest = case.digest
    usual = _commonest(digest.num_samples[case.kept])
    rows = np.flatnonzero(case.kept & (digest.num_samples == usual))
    yield "Compute", rows, digest.usual["compute"][rows]
    yield "Input", rows, digest.usual["input"][rows]
    met = digest.rounds[case.rounds]
    if len(met):
        rows = met[case.sync_bytes[met] == _commonest(case.sync_bytes[met])]
        yield "Sending", rows, digest.parts["network"][rows]
        yield "Waiting", rows, digest.parts["waiting"][rows]


def _commonest(values: NDArray[np.float64] | NDArray[np.int64]) -> float:
    found, counts = np.unique(values, return_counts=True)
    return float(found[counts.argmax()])


def _drift(case: Case, what: str, rows: NDArray[np.int64], found: Trend, share: float) -> Finding:
    change = found.last / found.first - 1 if found.first > 0 else math.inf
    by = f"{100 * abs(change):.0f} % {'longer' if change > 0 else 'shorter'}" if math.isfinite(change) else "longer"
    how = "little by little" if found.jump is None else f"from step {case.steps[rows[found.jump]]} on"
    p = f"= {found.chance:.0e}" if found.chance > LEAST_TOLD else f"< {LEAST_TOLD:.0e}"
    text = (
        f"Drift: {what.lower()} takes {by} at the end ({seconds(found.last)} a step) than at the begin "
        f"({seconds(found.first)}), {how} (p {p}); its better level throughout would save {percent(share)} of the time."
    )
    return Finding("drift", share, text, (Remedy(f"{what.lower()} at its better level throughout", share),))


def _restarts(case: Case) -> Finding:
    """What a start after the first cost: from the last step that is kept to the next start."""
    lost = 0.0
    numbers = sorted({int(number) for number in case.segments if number < len(case.starts)})
    for before, after in zip(numbers, numbers[1:], strict=False):
        rows = np.flatnonzero(case.segments == before)
        trained = float(case.digest.end[rows[-1]] - case.digest.start[rows[0]])
        gap = case.starts[after][0] - case.starts[before][0] - trained
        lost += max(gap, 0.0) if math.isfinite(gap) else 0.0
    share = lost / (lost + float(case.digest.seconds.sum()))
    steps = [int(case.steps[case.segments == number][0]) for number in numbers[1:]]
    shown = ", ".join(map(str, steps[:4])) + (f" and {len(steps) - 4} more" if len(steps) > 4 else "")
    text = (
        f"Restart: {counted(len(case.starts) - 1, 'restart')}, at step {shown or '-'}: {seconds(lost)} between the "
        f"last step that counts and the start after it, {percent(share)} of all."
    )
    sizes = [case.starts[number][1] for number in numbers]
    if len(set(sizes)) > 1:
        text = f"{text[:-1]}; ranks: {', then '.join(map(str, sizes))}."
    return Finding("restart", share, text, (Remedy("no restart", share),))
