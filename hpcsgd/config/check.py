"""How a bad value is refused, and what no value may be."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import field
from typing import Any

from hpcsgd.paths import expand

PATH = "path"
"""Key of a field's metadata: true for a path, which may be written with ``~`` and variables of the environment."""

LARGEST = 2**31 - 1
"""Of whole numbers but seeds and bytes, which have 64 bits."""

GREATEST = 1e30
"""Of numbers that float32 must hold, and products of a few of them."""

LONGEST_SECONDS = 1e9
"""Thirty years: what a timer takes."""

MOST_THREADS = 1024


def require(ok: bool, name: str, value: object, valid: str) -> None:
    """Raise ``ValueError`` unless ``ok``."""
    if not ok:
        raise ValueError(f"{name} is {value!r}: it must be {valid}")


def check_seconds(name: str, seconds: float) -> None:
    """Refuse what no timer takes."""
    require(0 < seconds <= LONGEST_SECONDS, name, seconds, f"positive, and at most {LONGEST_SECONDS:g}")


def check_threads(threads: int | None) -> None:
    """Refuse numbers of threads that no machine has; None is left to the launcher."""
    ok = threads is None or 1 <= threads <= MOST_THREADS
    require(ok, "threads", threads, f"1 to {MOST_THREADS}")


def path_field(default: str | None = None) -> Any:
    """A field of a dataclass that is a path; :func:`check_values` expands it."""
    return field(default=default, metadata={PATH: True})


def check_values(section: Any, prefix: str = "") -> None:
    """Expand the paths of a frozen dataclass, and refuse what no value may be, whatever it is for.

    Args:
        section: the dataclass, being made; its parts have been checked when they were made.
        prefix: what its keys begin with in a recipe, as ``data.``.

    Raises:
        ValueError: a number that is not finite or too large, or an empty text.
    """
    for known in dataclasses.fields(section):
        value, name = getattr(section, known.name), prefix + known.name
        for part in _plain_values(value):
            if isinstance(part, float):
                require(math.isfinite(part), name, part, "a finite number")
                require(abs(part) <= GREATEST, name, part, f"at most {GREATEST:g}")
            if isinstance(part, int):
                most = 2**63 - 1 if name.endswith(("seed", "bytes")) else LARGEST
                require(abs(part) <= most, name, part, f"at most {most}")
            is_path = bool(known.metadata.get(PATH))
            require(is_path or not isinstance(part, str) or bool(part.strip()), name, part, "a text that is not empty")
        if known.metadata.get(PATH) and isinstance(value, str):
            try:
                object.__setattr__(section, known.name, expand(value))
            except ValueError as error:
                raise ValueError(f"{name} is {error}") from error


def _plain_values(value: Any) -> list[Any]:
    """A value, or the values that are in it."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, tuple | list) else [value]
