"""In what runs differ: recipe, versions, machine; only what is not the same in all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from hpcsgd.record.reader import Run

OWN = ("config.run_dir", "argv", "started", "job", "slurm", "config.resume", "config.overwrite", "config.progress")
"""What differs between any two runs, or changes nothing in them."""
MEASURED = ("averaging_seconds", "engine_seconds", "total_steps", "emulated", "imported")
"""What follows from the rest, or is a time of its own."""
GROUPS = {"config": "recipe", "versions": "versions", "git_commit": "versions"}
MACHINE = "machine"


def differences(base: Sequence[Run], other: Sequence[Run]) -> pd.DataFrame:
    """What differs between two sides, or between the runs of one.

    Returns:
        ``what`` (recipe, versions or machine), ``key``, ``base`` and ``other``: the values, of several runs in a side
        all that there are, with commas. In that order; empty where nothing differs.
    """
    sides = [[facts(run) for run in side] for side in (base, other)]
    keys = dict.fromkeys(key for side in sides for known in side for key in known)
    rows = []
    for key in keys:
        texts = [list(dict.fromkeys(_text(known.get(key)) for known in side)) for side in sides]
        if len(set(texts[0]) | set(texts[1])) > 1:
            section, _, name = key.partition(".")
            named = name if section in ("config", "versions") else key
            rows.append((GROUPS.get(section, MACHINE), named, *(", ".join(side) for side in texts)))
    table = pd.DataFrame(rows, columns=["what", "key", "base", "other"])
    order = [*dict.fromkeys(GROUPS.values()), MACHINE]
    return table.sort_values("what", key=lambda column: column.map(order.index), kind="stable", ignore_index=True)


def facts(run: Run) -> dict[str, Any]:
    """What a run's log says of its recipe, versions and machine, by dotted key."""
    known = dict(_dotted(run.provenance, ""))
    for name in ("device", "node", "cores", "threads"):
        known[f"ranks.{name}"] = ", ".join(map(str, run.ranks[name].drop_duplicates()))
    known["ranks"] = len(run.ranks)
    return known


def _dotted(values: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings."""
    for key, value in values.items():
        name = f"{before}{key}"
        if name in OWN or name in MEASURED:
            continue
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{name}.")
        else:
            yield name, value


def _text(value: Any) -> str:
    """A value in one line."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)
