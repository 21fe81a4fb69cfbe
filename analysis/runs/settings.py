"""Runs brought together as Goyal 2017 does: seeds to a setting, minibatches to a series, warm-ups to a comparison.

Runs that differ in nothing but their seed, and in what changes no result, are one *setting*. Settings that differ in
their minibatch alone are a *series*; a learning rate that follows the minibatch by a rule is no difference. Settings of
one minibatch that differ in warm-up or scaling rule alone are a *comparison*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runs import groups
from runs.groups import by_seed, differing, rate_text, same_setting, way, work
from runs.logs import Entry, ranks_text

WARMUPS = {"none": "no warm-up", "constant": "constant warm-up", "gradual": "gradual warm-up"}
RULES = {"linear": "linear", "sqrt": "square-root", "none": "unscaled"}
ORDER = (
    *(("linear", "none"), ("linear", "constant"), ("linear", "gradual"), ("sqrt", "gradual"), ("none", "gradual")),
    *(("none", "none"), ("sqrt", "none"), ("sqrt", "constant"), ("none", "constant")),
)
"""Scaling rules and warm-ups in the order that figures show them in."""


@dataclass(frozen=True)
class Setting(groups.Setting):
    """Runs that differ in their seed alone, as the figures over minibatches and warm-ups say them.

    Attributes:
        series: what it shares with the other minibatches of its series, in words.
        workload: what it shares with whatever it is compared to, in words; empty where all runs share it.
        rule: scaling rule of the learning rate.
        warmup: kind of warm-up.
    """

    series: str
    workload: str
    rule: str
    warmup: str

    @property
    def cut(self) -> str:
        """How the minibatch is shared out, in words."""
        parts = self.entries[0].run.config.get("accumulation_steps", 1)
        return ranks_text(self.entries[0].world_size) + (f", {parts} accumulation steps" if parts != 1 else "")

    @property
    def name(self) -> str:
        """The series, the minibatch and how it is cut, in words: no two settings have the same."""
        return f"{self.series}; kn = {self.global_batch_size}; {self.cut}"

    @property
    def kind(self) -> str:
        """Warm-up and scaling rule, in words."""
        return kind_text(self.rule, self.warmup)


@dataclass(frozen=True)
class Comparison:
    """Settings of one minibatch that differ in warm-up or scaling rule, and the small minibatch they are held against.

    ``baseline`` is the setting of the smallest minibatch of the workload; None where there is no smaller one.
    """

    baseline: Setting | None
    settings: tuple[Setting, ...]

    @property
    def global_batch_size(self) -> int:
        """kn of all but the baseline."""
        return self.settings[0].global_batch_size


def kind_text(rule: str, warmup: str) -> str:
    """A warm-up, and the scaling rule where it is not linear, in words."""
    return WARMUPS[warmup] if rule == "linear" else f"{RULES[rule]} η, {WARMUPS[warmup]}"


def told_apart(settings: Sequence[Setting], texts: Sequence[str]) -> list[tuple[Setting, str]]:
    """Settings with what figures call them; how the minibatch is cut is added where texts are the same."""
    return [
        (setting, f"{text}, {setting.cut}" if list(texts).count(text) > 1 else text)
        for setting, text in zip(settings, texts, strict=True)
    ]


def find_settings(entries: Sequence[Entry]) -> list[Setting]:
    """All settings, by workload in the order of the entries, then by kind, series and minibatch."""
    work_texts = differing({item.name: work(item) for item in entries})
    way_texts = differing({item.name: way(item) for item in entries}, said=("rate", "warmup"))
    settings = []
    for same in by_seed(entries, same_setting):
        first = same[0]
        rate = first.run.config.get("learning_rate", {})
        warmup = str(rate.get("warmup", "none"))
        texts = (rate_text(first.run.config), WARMUPS[warmup], way_texts[first.name], work_texts[first.name])
        settings.append(
            Setting(
                same,
                "; ".join(filter(None, (", ".join(texts[:2]), *texts[2:]))),
                work_texts[first.name],
                str(rate.get("scaling_rule", "none")),
                warmup,
            )
        )
    works_in_order = list(dict.fromkeys(setting.workload for setting in settings))
    return sorted(
        settings,
        key=lambda setting: (
            works_in_order.index(setting.workload),
            ORDER.index((setting.rule, setting.warmup)),
            setting.series,
            setting.global_batch_size,
        ),
    )


def find_series(settings: Sequence[Setting]) -> list[tuple[Setting, ...]]:
    """The series of at least two minibatches, that with most of them first."""
    series: dict[str, list[Setting]] = {}
    for setting in settings:
        series.setdefault(setting.series, []).append(setting)
    found = [tuple(same) for same in series.values() if len({setting.global_batch_size for setting in same}) > 1]
    return sorted(found, key=lambda same: -len(same))


def find_comparisons(settings: Sequence[Setting]) -> list[Comparison]:
    """The comparisons of at least two settings, that with most of them first, then that of the largest minibatch."""
    found = []
    for workload in dict.fromkeys(setting.workload for setting in settings):
        part = [setting for setting in settings if setting.workload == workload]
        sizes = sorted({setting.global_batch_size for setting in part})
        smallest = _in_order([setting for setting in part if setting.global_batch_size == sizes[0]])
        for size in sizes:
            same = _in_order([setting for setting in part if setting.global_batch_size == size])
            if len({setting.kind for setting in same}) > 1:
                baseline = _nearest(smallest, same) if size > sizes[0] else None
                found.append(Comparison(baseline, tuple(same)))
    return sorted(found, key=lambda item: (-len(item.settings), -item.global_batch_size))


def _in_order(settings: Sequence[Setting]) -> list[Setting]:
    """Settings in the order of the figures."""
    return sorted(settings, key=lambda setting: ORDER.index((setting.rule, setting.warmup)))


def _nearest(smallest: Sequence[Setting], compared: Sequence[Setting]) -> Setting:
    """The baseline: of a series with one of the compared, where there is one."""
    series = {setting.series for setting in compared}
    return next((setting for setting in smallest if setting.series in series), smallest[0])
