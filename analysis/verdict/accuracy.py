"""Which run reached the best accuracy, and how long an accuracy took: evaluations in, a sentence out.

Two accuracies differ only where they lie further apart than the 95 % interval of their difference: each is known
within Agresti and Coull's interval of a share of n samples, and of several seeds within Student's interval of their
mean. A time to an accuracy X is known as far as the evaluations tell it: after the last one below X less that interval,
and not after the first one at X plus it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from hpcsgd.record.summary import counted
from runs.logs import Entry
from runs.tasks import find_tasks
from tables.errors import ERROR_SPLITS, error_split
from tables.learning import ACCURACY, lacks_accuracy
from verdict.sentence import NORMAL, Range, Sentence, figure, half_width, listed, seconds
from verdict.settings import MOST_SAID, Setting, differing_keys, find_settings

GRAIN = 0.005
"""Accuracies that times are given to are multiples of this."""


@dataclass(frozen=True)
class Result:
    """The best accuracies of a setting on one split.

    Attributes:
        setting: whose they are.
        evaluations: one table a run: ``train_seconds`` and ``accuracy``, in order.
        accuracy: mean over the runs of the best accuracy of each.
        error: half of its 95 % interval.
        num_samples: that an accuracy is of.
    """

    setting: Setting
    evaluations: tuple[pd.DataFrame, ...]
    accuracy: float
    error: float
    num_samples: int

    def is_above(self, other: Result) -> bool:
        """Whether it is better by more than the noise."""
        return self.accuracy - other.accuracy > math.hypot(self.error, other.error)

    def time_to(self, target: float) -> Range:
        """Seconds of training to an accuracy; inf where it was not reached."""
        found = [_time_to(table, target, self.error) for table in self.evaluations]
        value = Range.of([own.value for own in found]).value
        return Range(value, min(own.low for own in found), max(own.high for own in found))


def _time_to(table: pd.DataFrame, target: float, error: float) -> Range:
    """Seconds to an accuracy of a run, whose accuracies are known to within ``error``."""

    def first(accuracy: float) -> int | None:
        return next((row for row, value in enumerate(table[ACCURACY]) if value >= accuracy - 1e-12), None)

    clock = table["train_seconds"].tolist()
    early, at, late = (first(target + shift) for shift in (-error, 0.0, error))
    before = math.inf if early is None else clock[early - 1] if early else 0.0
    value, after = (math.inf if row is None else clock[row] for row in (at, late))
    return Range(value, before, after)


def accuracy_sentence(entries: Sequence[Entry], evaluations: pd.DataFrame) -> Sentence:
    """The sentence on accuracies, of the task with most runs.

    Args:
        entries: the runs.
        evaluations: of ``evaluation_table``.
    """
    compared = _compared(entries)
    if not compared:
        why = lacks_accuracy(entries) or "no run has been evaluated yet"
        return Sentence(f"Nothing can be said of accuracies: {why}.", known=False)
    split = str(error_split(compared[0]))
    found = [result for setting in find_settings(compared) if (result := result_of(setting, evaluations, split))]
    results = sorted(found, key=lambda result: -result.accuracy)
    name = f"{ERROR_SPLITS[split].lower()} accuracy"
    best = [result for result in results if not results[0].is_above(result)]
    return Sentence(_best(results, best, name), _remark(entries, results))


def _compared(entries: Sequence[Entry]) -> list[Entry]:
    """The runs of the task with most runs that have an accuracy, of the split that most of them have.

    Runs that did not end count only where none did.
    """
    known = [item for item in entries if error_split(item) and item.run.status != "diverged"]
    known = [item for item in known if item.finished] or known
    if not known:
        return []
    same = next(iter(find_tasks(known).values()))
    splits = [error_split(item) for item in same]
    most = max(splits, key=splits.count)
    return [item for item, split in zip(same, splits, strict=True) if split == most]


def result_of(setting: Setting, evaluations: pd.DataFrame, split: str) -> Result | None:
    """What a setting has reached on a split; None where it has no accuracy there."""
    own = evaluations[(evaluations["split"] == split) & evaluations[ACCURACY].notna()]
    tables = [table for name in setting.runs if len(table := own[own["run"] == name])]
    if not tables:
        return None
    values = [float(table[ACCURACY].max()) for table in tables]
    mean = sum(values) / len(values)
    num_samples = int(tables[0]["num_samples"].iloc[0])
    return Result(setting, tuple(tables), mean, half_width(values, _share_error(mean, num_samples)), num_samples)


def _share_error(share: float, num_samples: int) -> float:
    """Half of the 95 % interval of a share of some samples (Agresti and Coull 1998)."""
    counted_as = num_samples + NORMAL**2
    middle = (share * num_samples + NORMAL**2 / 2) / counted_as
    return NORMAL * math.sqrt(middle * (1 - middle) / counted_as)


def _best(results: Sequence[Result], best: Sequence[Result], name: str) -> str:
    """Who was best, and who was first at an accuracy that the best have all reached."""
    top, noise = results[0], f"± {figure(100 * results[0].error, 2)} points, {results[0].num_samples:,} samples"
    if len(results) == 1:
        total = Range.of([float(table["train_seconds"].iloc[-1]) for table in top.evaluations]).value
        return f"{top.setting.name} reached {_accuracy(top)} {name} ({noise}) in {seconds(total)} of training."
    if len(best) == 1:
        text = (
            f"{top.setting.name} reached the best {name}, {_accuracy(top)} ({noise}); the next is {_named(results[1])}"
        )
    else:
        who = "All runs" if len(best) == len(results) else listed([result.setting.name for result in best])
        text = f"{who} reached the same {name} within the noise, {_span(best)} ({noise})"
        if len(best) < len(results):
            text += f", more than {_named(results[len(best)])}"
    return f"{text}; {_times(results, min(result.accuracy - result.error for result in best))}."


def _accuracy(result: Result) -> str:
    """An accuracy in per cent."""
    return f"{100 * result.accuracy:.1f} %"


def _named(result: Result) -> str:
    """A setting with its accuracy."""
    return f"{result.setting.name} with {_accuracy(result)}"


def _span(results: Sequence[Result]) -> str:
    """From the worst to the best accuracy."""
    worst, top = (f"{100 * pick(result.accuracy for result in results):.1f}" for pick in (min, max))
    return f"{top} %" if worst == top else f"{worst} to {top} %"


def _times(results: Sequence[Result], highest: float) -> str:
    """The first and the slowest at the highest multiple of half a point up to ``highest``."""
    target = math.floor(highest / GRAIN + 1e-9) * GRAIN
    times = {result.setting.name: result.time_to(target) for result in results}
    there = {name: own for name, own in times.items() if math.isfinite(own.value)}
    first, last = (pick(there, key=lambda name: there[name].value) for pick in (min, max))
    at = f"{100 * target:.1f} %"
    if len(there) == 1:
        return f"it alone reached {at}, in {seconds(there[first].value)} of training"
    if not there[last].is_above(there[first]):
        return (
            f"times to {at}, {seconds(there[first].value)} to {seconds(there[last].value)} of training, are not told "
            "apart by evaluations as rare and as noisy as these"
        )
    return (
        f"{first} was first at {at}, after {seconds(there[first].value)} of training, and {last} last, after "
        f"{seconds(there[last].value)}"
    )


def _remark(entries: Sequence[Entry], results: Sequence[Result]) -> str:
    """What else must be known: other differences than the algorithm, single seeds, runs that are left out."""
    texts = []
    keys = differing_keys([result.setting.trained for result in results])
    if keys:
        texts.append(f"The runs differ in more than the algorithm: {listed(keys, MOST_SAID)}.")
    if len(results) > 1 and any(len(result.evaluations) == 1 for result in results):
        texts.append("How far seeds differ is not known of settings with one seed.")
    left_out = len(entries) - sum(len(result.evaluations) for result in results)
    if left_out:
        texts.append(
            f"Not compared: {counted(left_out, 'run')} of another task, without an end, or of a repeated seed."
        )
    return " ".join(texts)
