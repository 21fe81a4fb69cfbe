"""The names of a sweep's runs: of each key that it sets, enough to tell it from all others, and the value.

A name says what a run is, and nothing of which other runs there are: the same point of a wider sweep has the same name,
and is not trained again. Values are named as the configuration has them: 0.1, 0.10 and 1e-1 are one.
"""

from __future__ import annotations

import hashlib
import json
import operator
import re
from collections.abc import Sequence
from typing import Any

from hpcsgd.config import RunConfig
from hpcsgd.config.recipe import known_keys
from hpcsgd.launch.script import job_name

LONGEST_VALUE = 40
LONGEST_NAME = 160
HASH_DIGITS = 10

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]*")
_WORDS = ("null", "true", "false", "nan", "inf", "infinity")


def point_name(config: RunConfig, keys: Sequence[str]) -> str:
    """The directory of a run that sets these dotted keys; no two configurations that differ in one have the same."""
    values = [operator.attrgetter(key)(config) for key in keys]
    name = "_".join(f"{short_key(key)}-{value_name(value)}" for key, value in zip(keys, values, strict=True))
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}-{_digest([[key, value] for key, value in zip(keys, values, strict=True)])}"


def short_key(key: str) -> str:
    """The end of a dotted key that no other key of a recipe has: ``base``, but ``model.name``."""
    parts = key.split(".")
    others = [other.split(".") for other in known_keys() if other != key]
    lengths = range(1, len(parts) + 1)
    return ".".join(next((parts[-n:] for n in lengths if all(o[-n:] != parts[-n:] for o in others)), parts))


def value_name(value: Any) -> str:
    """A value of a configuration as part of a file's name; different values have different ones."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, (tuple, list)) and value and all(type(part) is int and part >= 0 for part in value):
        text = "-".join(map(str, value))
        return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}-{_digest(value)}"
    if isinstance(value, str) and _is_plain(value):
        return value
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{job_name(text)[:LONGEST_VALUE]}-{_digest(value)}"


def _number(value: float) -> str:
    """The shortest text of a number: 1 for 1.0, 0.1 for 1e-1."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(value)


def _is_plain(text: str) -> bool:
    """Whether a text can stand for itself: it looks like no other kind of value, and like no further key."""
    known = _PLAIN.fullmatch(text) is not None and text.lower() not in _WORDS
    return known and len(text) <= LONGEST_VALUE and "-" not in text.partition("_")[2]


def _digest(value: Any) -> str:
    """A few digits that follow from a value alone."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:HASH_DIGITS]
