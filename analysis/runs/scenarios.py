"""Runs brought together as Lin 2020 compares them: workloads, the scenarios A1 to A5, and what else tells runs apart.

A *workload* is a model on a data set with its optimizer, its epochs and its schedule of the rate: all that synchronous
and local SGD have in common. Its settings are those of :mod:`runs.tasks`. The scenarios are held against the global
batch kn that most runs with local steps have: synchronous SGD with less is A1, with kn A2, with more A3; local SGD is
A4, post-local SGD A5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import pandas as pd

from runs.groups import WIRE, differing, frozen, work
from runs.identity import dotted, wire
from runs.logs import CENTRAL, Entry
from runs.tasks import algorithm, in_words, task

SYNCHRONOUS = "sync_sgd"
LOCAL = "local_sgd"
POST_LOCAL = "post_local_sgd"
HIERARCHICAL = "hierarchical_local_sgd"
SCENARIOS = {
    "A1": "small mini-batch SGD",
    "A2": "large mini-batch SGD",
    "A3": "huge mini-batch SGD",
    "A4": "local SGD",
    "A5": "post-local SGD",
}
"""The scenarios of Lin 2020, in words."""
OTHERS = (*CENTRAL, "none", "unknown")
"""Algorithms that the figures say nothing of."""
APART = ("algorithm", "learners_per_rank", "engine", "comm")
"""What a workload leaves out, beside minibatch, size and warm-up of the rate, and the seed."""
SAID = (
    *("algorithm", "num_ranks", "learners_per_rank", "local_batch_size", "rate", "engine", "device", "allreduce"),
    *("sync_period", "algorithm.local_start", "algorithm.block_sync_period", "algorithm.block_size", WIRE),
)
"""Facts that have columns of their own, or change no result."""


def is_synchronous(item: Entry) -> bool:
    """Whether gradients are averaged at every step."""
    return algorithm(item) == SYNCHRONOUS


def find_workloads(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """The runs of each workload, by what it is in words: those with local steps first, and of these the largest.

    Where no run has local steps, only the largest workload is there; algorithms with a central model are in none.
    """
    found: dict[object, list[Entry]] = {}
    for item in entries:
        if algorithm(item) not in OTHERS:
            found.setdefault(frozen(work(item, APART)), []).append(item)
    groups = sorted(found.values(), key=len, reverse=True)
    local = [own for own in groups if not all(map(is_synchronous, own))]
    kept = local or groups[:1]
    words = differing({own[0].name: work(own[0], APART) for own in kept}, ("model.name", "data.name"))
    names = [", ".join(filter(None, (task(own[0]), words[own[0].name]))) for own in kept]
    # A fact that an older log lacks tells it from no other, in words.
    return {
        f"{name}, as {own[0].name}" if names.count(name) > 1 else name: own
        for name, own in zip(names, kept, strict=True)
    }


def reference_batch(entries: Iterable[Entry]) -> int | None:
    """kn of most runs of local or post-local SGD, of equals the largest; None without any."""
    sizes = Counter(item.global_batch_size for item in entries if algorithm(item) in (LOCAL, POST_LOCAL))
    return max(sizes, key=lambda size: (sizes[size], size), default=None)


def scenario(item: Entry, reference: int | None) -> str:
    """A1 to A5; empty where the run is none of them.

    Args:
        item: the run.
        reference: of :func:`reference_batch`.
    """
    size, name = item.global_batch_size, algorithm(item)
    if reference is None:
        return ""
    if name == SYNCHRONOUS:
        return "A1" if size < reference else "A2" if size == reference else "A3"
    return {LOCAL: "A4", POST_LOCAL: "A5"}.get(name, "") if size == reference else ""


def variants(entries: Sequence[Entry]) -> dict[str, str]:
    """What else tells runs of a workload apart, in words, by the run's name: outer steps, schedules of H, warm-ups."""
    configs = [dict(dotted(item.run.config)) for item in entries]
    keys = {key for config in configs for key in config}
    nested = {key for key in keys if all(isinstance(config[key], dict) for config in configs if key in config)}
    own = {item.name: _others(item, nested) for item in entries}
    keys = dict.fromkeys(key for found in own.values() for key in found)
    apart = [key for key in keys if len({found[key] for found in own.values() if key in found}) > 1]
    return {name: ", ".join(found[key] for key in apart if key in found) for name, found in own.items()}


def _others(item: Entry, nested: Collection[str]) -> dict[str, str]:
    """What else a run is, in words; of the mappings ``nested`` each entry is a fact of its own."""
    known = in_words(item)
    found = {key: text for key, text in known.items() if key not in SAID and key not in nested}
    for key, values in dotted(item.run.config):
        if key in nested and key in known:
            found |= {f"{key}.{name}": f"{name} {value}" for name, value in values.items() if value is not None}
    return found


def synchronisations(item: Entry) -> pd.DataFrame:
    """One row a synchronisation, gradient, block or global: ``step`` after it, ``action``, ``sync_bytes``."""
    steps = item.run.per_step
    table = steps.loc[steps["action"] != "none", ["step", "action", "sync_bytes"]]
    return table.assign(step=table["step"] + 1).reset_index(drop=True)


def periods(item: Entry) -> pd.DataFrame:
    """H as run: one row a synchronisation of all ranks, with its ``step`` and the steps since the one before."""
    table = synchronisations(item)
    table = table[table["action"] != "block"].reset_index(drop=True)
    return table.assign(period=np.diff(table["step"], prepend=item.first_step))


def first_local_step(item: Entry) -> int:
    """Optimizer steps before the first that no gradient was averaged in; all of them where there is none."""
    steps = item.run.per_step
    local = steps.loc[steps["action"] != "gradient", "step"]
    return int(local.iloc[0]) if len(local) else int(steps["step"].iloc[-1]) + 1


def facts(item: Entry) -> dict[str, object]:
    """What figures over sizes are over or tell lines by, beside the columns of ``targets.run_table``."""
    blocks = item.run.config.get("algorithm", {}).get("block_sync_period", 1)
    return {
        "algorithm": algorithm(item),
        "block_sync_period": int(blocks or 1) if algorithm(item) == HIERARCHICAL else 1,
        "rank_batch_size": item.local_batch_size * item.learners_per_rank,
        "wire": wire(item.run.config),
    }
