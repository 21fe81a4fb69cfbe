"""How a bad value is refused, and what no value may be."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import field
from typing import Any

from hpcsgd.config.paths import expand
from hpcsgd.errors import suggestion

PATH = "path"
"""Key of a field's metadata: true for a path, which may be written with ``~`` and variables of the environment."""

USED_WITH = "used_with"
"""Key of a field's metadata: another field of the section, and the values of it with which this one counts."""

IMPORT_PATH = "an import path"
"""Among the values that a field counts with: any import path."""

FREE = "free"
"""Key of a field's metadata: true for what is not hpcsgd's own, as arguments of a user's class."""

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


def is_import_path(name: str) -> bool:
    """Whether a name stands for a user's own thing: ``package.module.Name``."""
    return "." in name


def is_among(value: object, values: Sequence[str]) -> bool:
    """Whether a value is one of those that a field counts with."""
    return value in values or (IMPORT_PATH in values and isinstance(value, str) and is_import_path(value))


def check_choice(key: str, name: str, choices: Any) -> None:
    """Refuse a name that is neither one of a ``Literal`` nor an import path."""
    known = typing.get_args(choices)
    if name in known:
        return
    if not is_import_path(name):
        hint = suggestion(name, known)
        raise ValueError(f"{key} is {name!r}: it must be one of {', '.join(known)}, or an import path{hint}")
    require(all(word.isidentifier() for word in name.split(".")), key, name, "an import path, as package.module.Name")


def check_seconds(name: str, seconds: float) -> None:
    """Refuse what no timer takes."""
    require(0 < seconds <= LONGEST_SECONDS, name, seconds, f"positive, and at most {LONGEST_SECONDS:g}")


def check_threads(threads: int | None) -> None:
    """Refuse numbers of threads that no machine has; None is left to the launcher."""
    ok = threads is None or 1 <= threads <= MOST_THREADS
    require(ok, "threads", threads, f"1 to {MOST_THREADS}")


def path_field(default: str | None = None, used_with: tuple[str, Sequence[str]] | None = None) -> Any:
    """A field of a dataclass that is a path; :func:`check_values` expands it."""
    return field(default=default, metadata={PATH: True, USED_WITH: used_with})


def free_field() -> Any:
    """A field of a dataclass that maps names to values of any kind, as arguments of a user's class."""
    return field(default_factory=dict, metadata={FREE: True})


def used_with(key: str, *values: str, default: Any) -> Any:
    """A field that counts where field ``key`` has one of ``values`` only; elsewhere it must be left at its default.

    ``none`` among them is a switch that is off: what belongs to it may be there for when it is on.
    """
    return field(default=default, metadata={USED_WITH: (key, values)})


def check_values(section: Any, prefix: str = "") -> None:
    """Expand the paths of a frozen dataclass, and refuse what no value may be, whatever it is for.

    Args:
        section: the dataclass, being made; its parts have been checked when they were made.
        prefix: what its keys begin with in a recipe, as ``data.``.

    Raises:
        ValueError: a number that is not finite or too large, an empty text, a value that would be ignored, or none
            where there must be one.
    """
    kinds = typing.get_type_hints(type(section))
    for known in dataclasses.fields(section):
        value, name = getattr(section, known.name), prefix + known.name
        optional = types.NoneType in typing.get_args(kinds[known.name])
        require(optional or value is not None, name, None, f"a value, or left out for its default, {known.default!r}")
        if known.metadata.get(FREE):
            continue
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
    _refuse_unused(section, prefix)


def _refuse_unused(section: Any, prefix: str) -> None:
    """Refuse a value of a key that does not count here: it would be ignored."""
    for known in dataclasses.fields(section):
        value, condition = getattr(section, known.name), known.metadata.get(USED_WITH)
        if condition is None or value == default_of(known):
            continue
        key, values = condition
        if not is_among(getattr(section, key), values):
            right = " or ".join(value for value in values if value != "none")
            raise ValueError(
                f"{prefix}{known.name} is {value!r}, which counts for {prefix}{key} {right} only, and that is "
                f"{getattr(section, key)!r}: leave {prefix}{known.name} out"
            )


def default_of(known: dataclasses.Field[Any]) -> Any:
    """What a field of a dataclass is where nothing is given."""
    return known.default if known.default_factory is dataclasses.MISSING else known.default_factory()


def used_with_keys(cls: type, prefix: str = "") -> dict[str, tuple[str, Sequence[str], Any]]:
    """The dotted keys of a configuration that count for some values of another: its dotted key, those, its default."""
    found: dict[str, tuple[str, Sequence[str], Any]] = {}
    known = {known.name: known for known in dataclasses.fields(cls)}
    for name, own in known.items():
        section: Any = own.default_factory
        if isinstance(section, type) and dataclasses.is_dataclass(section):
            found |= used_with_keys(section, f"{prefix}{name}.")
        elif condition := own.metadata.get(USED_WITH):
            key, values = condition
            found[prefix + name] = (prefix + key, values, known[key].default)
    return found


def _plain_values(value: Any) -> list[Any]:
    """A value, or the values that are in it."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, tuple | list) else [value]
