"""What a recipe says of a user's own things: import paths, and the arguments that go with them.

A section with ``init_args`` names one of the package's things or, by an import path, a user's. Its values are the
user's too: nothing here looks at them, and the parser of recipes never sees them.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpcsgd.config import plain_yaml
from hpcsgd.config.check import FREE, is_import_path

PATH_KEY = "class_path"
"""In a section with ``init_args``, another word for ``name``, where it is an import path."""

GIVEN = "given."
"""What the name of a thing begins with that is brought from Python, and cannot be imported."""


def import_paths(config: object) -> dict[str, str]:
    """The import paths that a configuration names, by their dotted keys."""
    found = {}
    for known in dataclasses.fields(config):  # type: ignore[arg-type]
        section = getattr(config, known.name)
        if hasattr(section, "init_args") and is_import_path(section.name) and not section.name.startswith(GIVEN):
            found[f"{known.name}.name"] = section.name
    outer = getattr(getattr(config, "algorithm", None), "outer_step", None)
    if outer is not None and is_import_path(outer):
        found["algorithm.outer_step"] = outer
    collate = getattr(getattr(config, "data", None), "collate", None)
    if collate is not None:
        found["data.collate"] = collate
    for name, given in (getattr(config, "metrics", None) or {}).items():
        found[f"metrics.{name}"] = given[PATH_KEY] if isinstance(given, dict) else given
    return found


def given_name(thing: object, fallback: str) -> str:
    """The name in a recipe of a thing that is brought from Python: what it is called there, or ``fallback``."""
    name = getattr(thing, "__name__", "")
    return f"{GIVEN}{name if name.isidentifier() else fallback}"


def free_keys(cls: type, prefix: str = "") -> set[str]:
    """The dotted keys of a configuration whose values are a user's."""
    found: set[str] = set()
    for known in dataclasses.fields(cls):
        section: Any = known.default_factory
        if known.metadata.get(FREE):
            found.add(prefix + known.name)
        elif isinstance(section, type) and dataclasses.is_dataclass(section):
            found |= free_keys(section, f"{prefix}{known.name}.")
    return found


def free_key(key: str, free: Iterable[str]) -> str | None:
    """The one of ``free`` that ``key`` is, or lies in, as ``model.init_args.width``; None: none of them."""
    return next((other for other in free if key == other or key.startswith(f"{other}.")), None)


def plain_key(key: str, free: Iterable[str]) -> str:
    """``section.name`` for ``section.class_path``, and other keys as they are."""
    section, _, word = key.rpartition(".")
    return f"{section}.name" if word == PATH_KEY and f"{section}.init_args" in free else key


def plain_words(words: Sequence[str], free: Iterable[str]) -> list[str]:
    """The words of a command line with :func:`plain_key`; ``--loss NAME`` is ``--loss.name NAME``."""
    found = []
    for word in words:
        key, sign, value = word.removeprefix("--").partition("=")
        if word.startswith("--"):
            key = f"{key}.name" if f"{key}.init_args" in free else plain_key(key, free)
            word = f"--{key}{sign}{value}"
        found.append(word)
    return found


def take_free(words: Sequence[str], free: Iterable[str]) -> tuple[list[str], dict[str, Any]]:
    """The words of a command line without those of free keys, and the values of these.

    Raises:
        ValueError: a value is no YAML; names the key.
    """
    left: list[str] = []
    values: dict[str, Any] = {}
    waiting: str | None = None
    for word in words:
        key, sign, value = word.removeprefix("--").partition("=")
        if waiting is not None:
            values[waiting], waiting = _read(waiting, word), None
        elif word.startswith("--") and free_key(key, free):
            waiting = None if sign else key
            if sign:
                values[key] = _read(key, value)
        else:
            left.append(word)
    if waiting is not None:
        raise ValueError(f"{waiting} has no value")
    return left, values


def _read(key: str, text: str) -> Any:
    """A value of the command line."""
    import yaml

    try:
        return plain_yaml.load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{key} is {text!r}, which is no YAML: {' '.join(str(error).split())}") from error


def merged(values: Iterable[tuple[str, Any]], free: Iterable[str]) -> dict[str, Any]:
    """Values of free keys, and of keys in them, in order: each as the value of its free key alone.

    Raises:
        ValueError: a key lies in a value that is no mapping.
    """
    found: dict[str, Any] = {}
    for key, value in values:
        whole = free_key(key, free)
        assert whole is not None, key
        if key == whole:
            found[whole] = copy.deepcopy(value)
            continue
        inside = found.get(whole)
        if inside is None:
            inside = found[whole] = {}
        *outer, last = key.removeprefix(f"{whole}.").split(".")
        for part in outer:
            inside = inside.setdefault(part, {}) if isinstance(inside, dict) else inside
        if not isinstance(inside, dict):
            raise ValueError(f"{key}: {whole} is {inside!r}, which has no keys")
        inside[last] = value
    return found


def with_free(values: Mapping[str, Any], free: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a configuration, its sections among them, with the values of ``free`` keys.

    Raises:
        ValueError: a section refuses its value.
    """
    found = dict(values)
    for key, value in free.items():
        section, _, name = key.rpartition(".")
        if section:
            found[section] = dataclasses.replace(found[section], **{name: value})
        else:
            found[name] = value
    return found
