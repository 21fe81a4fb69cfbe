"""The one way to bring runs together: by their facts, less those that a grouping leaves out.

What is trained (:func:`work`), at which rate (:func:`way`) and how it is shared out (:func:`split`) tell a run from the
others; what changes no result (directories, logging, checkpoints, ...) does not. Runs with the same facts differ in
their seed alone: they are a *setting*. ``settings`` leaves out the minibatch or the warm-up, ``tasks`` whatever a
figure is over, and series of sizes leave out all that changes no time. They say the same facts in words of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runs.identity import CONDUCT, dotted, is_in, wire
from runs.logs import Entry

WIRE = "comm.wire"
BATCH = ("local_batch_size", "global_batch_size", "accumulation_steps")
RULE = ("learning_rate.base", "learning_rate.base_batch_size", "learning_rate.scaling_rule")
LEARNED = ("epochs", "max_steps", "optimizer", "learning_rate", "label_smoothing")
"""What changes what is learned, but not how long a step takes."""
WARMUP = ("learning_rate.warmup", "learning_rate.warmup_epochs", "learning_rate.warmup_start")


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed alone.

    Attributes:
        entries: the runs, by seed.
    """

    entries: tuple[Entry, ...]

    @property
    def global_batch_size(self) -> int:
        """kn: samples of one step of all learners."""
        return self.entries[0].global_batch_size

    @property
    def learning_rate(self) -> float:
        """The largest one as run."""
        return max(float(item.run.per_step["learning_rate"].max()) for item in self.entries)


def work(item: Entry, apart: Sequence[str] = ()) -> dict[str, str]:
    """What is trained, but for minibatch, learning rate's size, warm-up, seed, and the keys and sections ``apart``."""
    names = (*CONDUCT, *BATCH, *RULE, *WARMUP, "seed", *apart)
    values = {key: str(value) for key, value in dotted(item.run.config) if not is_in(key, names)}
    if not is_in(WIRE, apart):
        values[WIRE] = wire(item.run.config)
    if "learners_per_rank" in values:
        # The recipe may leave the number to the tuner.
        values["learners_per_rank"] = str(item.learners_per_rank)
    return values


def split(item: Entry) -> dict[str, str]:
    """How a minibatch is shared out."""
    return {
        "num_ranks": str(item.world_size),
        "local_batch_size": str(item.local_batch_size),
        "accumulation_steps": str(item.run.config.get("accumulation_steps", 1)),
    }


def same_setting(item: Entry) -> Hashable:
    """What the runs of one setting have in common: all facts."""
    return frozen({**work(item), **way(item), **split(item)})


def way(item: Entry) -> dict[str, str]:
    """Learning rate's rule and warm-up; the length and start of a warm-up only where there is one."""
    config = item.run.config
    found = {"rate": rate_text(config), "warmup": str(config.get("learning_rate", {}).get("warmup", "none"))}
    if found["warmup"] != "none":
        found |= {key: str(value) for key, value in dotted(config) if key in WARMUP[1:]}
    return found


def rate_text(config: dict[str, Any]) -> str:
    """The peak learning rate as a formula in the minibatch kn."""
    rate = config.get("learning_rate", {})
    base, batch, rule = rate.get("base", math.nan), rate.get("base_batch_size", "?"), rate.get("scaling_rule", "none")
    return f"η = {base:g}" + {"linear": f"·kn/{batch}", "sqrt": f"·√(kn/{batch})", "none": ""}[rule]


def by_seed(entries: Sequence[Entry], key: Callable[[Entry], Hashable]) -> list[tuple[Entry, ...]]:
    """Runs of one key together, in order of their seed, each seed once; groups in order of their first run.

    The same seed trained again is no second sample of what training may give. Of its runs counts the last that came to
    its end; where none did, the last.
    """
    return [tuple(of_seed[-1] for of_seed in seeds) for seeds in _seeds(entries, key)]


def repeats(entries: Sequence[Entry], key: Callable[[Entry], Hashable]) -> list[str]:
    """One line for each run that :func:`by_seed` leaves out, as another one of the same seed counts."""
    return [
        f"{item.name}: the same seed of the same setting as {of_seed[-1].name}, which alone counts."
        for seeds in _seeds(entries, key)
        for of_seed in seeds
        for item in of_seed[:-1]
    ]


def _seeds(entries: Sequence[Entry], key: Callable[[Entry], Hashable]) -> list[list[list[Entry]]]:
    """For each key and seed its runs, the one that counts last."""
    groups: dict[Hashable, dict[int, list[Entry]]] = {}
    for item in entries:
        groups.setdefault(key(item), {}).setdefault(item.run.config.get("seed", 0), []).append(item)
    ends = ("diverged", "completed")

    def place(item: Entry) -> tuple[int, str, str]:
        status, segments = item.run.status, item.run.segments
        ended = ends.index(status) if status in ends else -1
        return ended, str(segments["started"].iloc[-1]) if len(segments) else "", item.name

    return [[sorted(same, key=place) for _, same in sorted(seeds.items())] for seeds in groups.values()]


def frozen(values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Something to group by."""
    return tuple(sorted(values.items()))


def differing(values: Mapping[str, Mapping[str, str]], said: Sequence[str] = ()) -> dict[str, str]:
    """What tells each run from the others, in words; the keys ``said`` are left out, as they are said elsewhere."""
    keys = dict.fromkeys(key for own in values.values() for key in own if key not in said)
    apart = [key for key in keys if len({own[key] for own in values.values() if key in own}) > 1]
    return {name: ", ".join(f"{key}: {own[key]}" for key in apart if key in own) for name, own in values.items()}
