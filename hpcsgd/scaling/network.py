"""What is known of a network beside the logs: numbers in a TOML file, or the allreduce table of ``hpcsgd doctor``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpcsgd.errors import UsageError, nearest, reason
from hpcsgd.scaling.collectives import Timing
from hpcsgd.study.machine import Level, Network

LEVELS = ("within", "between")
KEYS = ("latency_seconds", "bytes_per_second")
RANKS = re.compile(r"^ranks\s+(\d+) on (\d+) nodes?\s*$", re.MULTILINE)
ROW = re.compile(r"^(\d+)\s+([\d.]+) µs\s", re.MULTILINE)

DOCTOR_ERROR = 0.05
"""Of a median in doctor's table, as a part of it: a table of one moment."""


def read_network(path: Path) -> tuple[Network | None, list[Timing]]:
    """A file of ``--network``: the network that its numbers say, or the timings of doctor's table.

    The TOML file has the tables ``[within]`` and ``[between]`` nodes (or ``[network.within]``, as in a site's file),
    each with ``latency_seconds`` and ``bytes_per_second``.

    Raises:
        UsageError: it cannot be read, or is neither.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--network {path}: cannot be read: {reason(error)}") from error
    if path.suffix == ".toml":
        return _of_toml(path, text), []
    timings = doctor_timings(text)
    if not timings:
        raise UsageError(f"--network {path}: neither a .toml file nor what hpcsgd doctor has printed on several ranks")
    return None, timings


def doctor_timings(text: str) -> list[Timing]:
    """The allreduces that ``hpcsgd doctor`` has timed; none where it ran on one rank, or this is not its text."""
    ranks = RANKS.search(text)
    if ranks is None:
        return []
    size, count = int(ranks[1]), int(ranks[2])
    nodes = tuple(rank * count // size for rank in range(size))
    found = []
    for row in ROW.finditer(text):
        seconds = 1e-6 * float(row[2])
        found.append(Timing("allreduce", float(row[1]), nodes, seconds, DOCTOR_ERROR * seconds + 1e-9))
    return found


def _of_toml(path: Path, text: str) -> Network:
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"--network {path}: no TOML: {error}") from error
    tables = content.get("network", content)
    if not isinstance(tables, dict) or not set(LEVELS) <= tables.keys():
        raise UsageError(f"--network {path}: give the tables [within] and [between], of links in nodes and of nodes")
    return Network(*(_level(path, name, tables[name]) for name in LEVELS))


def _level(path: Path, name: str, table: Mapping[str, Any]) -> Level:
    if not isinstance(table, dict):
        raise UsageError(f"--network {path}: {name} is {table!r}: write a table with {' and '.join(KEYS)}")
    for key, value in table.items():
        if key not in KEYS:
            raise UsageError(f"--network {path}: [{name}] {key}: {nearest(key, KEYS, f'it takes {KEYS}')}")
        least = "more than 0" if key == "bytes_per_second" else "0 or more"
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or value < 0 or (value == 0 and key == "bytes_per_second"):
            raise UsageError(f"--network {path}: [{name}] {key} is {value!r}: write {least}")
    return Level(float(table.get("latency_seconds", 0.0)), table.get("bytes_per_second"))
