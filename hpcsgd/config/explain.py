"""What a parser of recipes says, in the words of a user."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping
from typing import Any

from hpcsgd.errors import suggestion


def explain(message: str, known: Mapping[str, Any]) -> str:
    """The parser's message in one line: the key, the bad value and what is valid."""
    flat = " ".join(message.split())
    found = re.search(r'Parser key "([\w.]+)".*?(?:Got value|Given value): (.*)$', flat)
    if not found or found[1] not in known:
        stray = re.match(r"unrecognized arguments: (.*)", flat, re.IGNORECASE)
        return f"{stray[1]!r} is no --key value; the recipe, if any, comes first" if stray else flat
    key, value = found[1], found[2]
    kind = known[key]
    choices = [str(choice) for choice in typing.get_args(kind)] if typing.get_origin(kind) is typing.Literal else []
    if not choices:
        return f"{key} is {value!r}: it must be of type {type_name(kind)}"
    return f"{key} is {value!r}: it must be one of {', '.join(choices)}{suggestion(value, choices)}"


def type_name(kind: Any) -> str:
    """A type as a user would say it."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return " or ".join(str(part) for part in parts)
    if origin is dict:
        return f"mapping from {type_name(parts[0])} to {type_name(parts[1])}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(part) for part in parts if part is not types.NoneType)
    if isinstance(kind, type) and not parts:
        return {"int": "integer", "str": "text", "bool": "true or false", "float": "number"}.get(
            kind.__name__, kind.__name__
        )
    return str(kind).replace("typing.", "")
