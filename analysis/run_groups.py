"""Runs that differ in nothing but their seed, and what tells the others apart, in words.

What changes no result (directories, logging, checkpoints, ...) tells no runs apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

from run_logs import Entry

CONDUCT = (
    *("run_dir", "resume", "resume_other_size", "overwrite", "progress", "on_failure"),
    *("device", "share_gpu", "threads", "data.dir", "comm", "log", "checkpoint", "faults", "evaluate", "tuner"),
)
"""Keys and sections that say how a run is conducted, not what is trained."""
BATCH = ("local_batch_size", "global_batch_size", "accumulation_steps")
RULE = ("learning_rate.base", "learning_rate.base_batch_size", "learning_rate.scaling_rule")
WARMUP = ("learning_rate.warmup", "learning_rate.warmup_epochs", "learning_rate.warmup_start")


def work(item: Entry, apart: Sequence[str] = ()) -> dict[str, str]:
    """What is trained, but for minibatch, learning rate's size, warm-up, seed, and the keys and sections ``apart``."""
    names = (*CONDUCT, *BATCH, *RULE, *WARMUP, "seed", *apart)
    values = {key: str(value) for key, value in _dotted(item.run.config) if not _is_in(key, names)}
    if "learners_per_rank" in values:
        # The recipe may leave the number to the tuner.
        values["learners_per_rank"] = str(item.learners_per_rank)
    return values


def way(item: Entry) -> dict[str, str]:
    """Learning rate's rule and warm-up; the length and start of a warm-up only where there is one."""
    config = item.run.config
    found = {"rate": rate_text(config), "warmup": str(config.get("learning_rate", {}).get("warmup", "none"))}
    if found["warmup"] != "none":
        found |= {key: str(value) for key, value in _dotted(config) if key in WARMUP[1:]}
    return found


def rate_text(config: dict[str, Any]) -> str:
    """The peak learning rate as a formula in the minibatch kn."""
    rate = config.get("learning_rate", {})
    base, batch, rule = rate.get("base", math.nan), rate.get("base_batch_size", "?"), rate.get("scaling_rule", "none")
    return f"η = {base:g}" + {"linear": f"·kn/{batch}", "sqrt": f"·√(kn/{batch})", "none": ""}[rule]


def by_seed(entries: Sequence[Entry], key: Callable[[Entry], Hashable]) -> list[tuple[Entry, ...]]:
    """Runs of one key together, in order of their seed; groups in order of their first run."""
    groups: dict[Hashable, list[Entry]] = {}
    for item in entries:
        groups.setdefault(key(item), []).append(item)
    return [
        tuple(sorted(same, key=lambda item: (item.run.config.get("seed", 0), item.name))) for same in groups.values()
    ]


def frozen(values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Something to group by."""
    return tuple(sorted(values.items()))


def differing(values: Mapping[str, Mapping[str, str]], said: Sequence[str] = ()) -> dict[str, str]:
    """What tells each run from the others, in words; the keys ``said`` are left out, as they are said elsewhere."""
    keys = dict.fromkeys(key for own in values.values() for key in own if key not in said)
    apart = [key for key in keys if len({own[key] for own in values.values() if key in own}) > 1]
    return {name: ", ".join(f"{key}: {own[key]}" for key in apart if key in own) for name, own in values.items()}


def _dotted(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The keys of a configuration, ``section.key`` in sections, with their values."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{name}", own) for name, own in value.items())
        else:
            yield key, value


def _is_in(key: str, names: Sequence[str]) -> bool:
    """Whether a dotted key is one of ``names`` or in one of these sections."""
    return any(key == name or key.startswith(f"{name}.") for name in names)
