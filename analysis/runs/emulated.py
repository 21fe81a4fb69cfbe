"""Runs whose times are those of a machine that was only emulated: every figure and table that has some says so."""

from __future__ import annotations

from collections.abc import Sequence

from runs.logs import Entry


def emulated_notes(entries: Sequence[Entry]) -> list[str]:
    """One line for each machine that was emulated, with its runs."""
    names: dict[str, list[str]] = {}
    for item in entries:
        if item.run.emulated:
            names.setdefault(item.run.emulated, []).append(item.name)
    return [
        f"{', '.join(same)}: emulated {what}: these times are not those of the machine that it ran on."
        for what, same in names.items()
    ]


def emulated_caption(entries: Sequence[Entry]) -> str:
    """What every figure's caption says; empty where nothing was emulated."""
    names = [item.name for item in entries if item.run.emulated]
    if not names:
        return ""
    which = "all runs" if len(names) == len(entries) else ", ".join(names)
    return f"EMULATED machine, by waiting: {which}; the tables say what."
