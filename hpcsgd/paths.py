"""Paths as users write them: ``~`` and variables of the environment are replaced in this one place."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hpcsgd.errors import UsageError

VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})", re.ASCII)


def expand(text: str) -> str:
    """``text`` with ``~``, ``~user``, ``$NAME`` and ``${NAME}`` replaced.

    A variable that is not set stays as it is written: a recipe may be read on another machine than the run's. Where
    the path is used, :func:`resolved` refuses it.

    Raises:
        ValueError: the text is empty, as where the shell has replaced a variable that is not set; or no path can be.
    """
    if not text.strip():
        raise ValueError(f"{text!r}: it must be a path (was it written with a variable of the shell that is not set?)")
    if "\0" in text:
        raise ValueError(f"{text!r}: no path has a zero byte")
    found = os.path.expanduser(os.path.expandvars(text))
    if found.startswith("~"):
        user = found.partition("/")[0]
        why = "the environment has no HOME, and this user is in no list of users" if user == "~" else "no such user"
        raise ValueError(f"{text!r}: {user} is nobody's home ({why}): write the path in full")
    return found


def resolved(name: str, text: str) -> Path:
    """A path that is used now, as :func:`expand` gives it.

    Args:
        name: of the option or key, for the message.
        text: the path.

    Raises:
        UsageError: it is empty, or holds a variable that is not set.
    """
    try:
        found = expand(text)
    except ValueError as error:
        raise UsageError(f"{name} is {error}") from error
    missing = VARIABLE.search(found)
    if missing:
        variable = missing[1] or missing[2]
        raise UsageError(f"{name} is {text!r}, but {variable} is not set: set it, or write the path in full")
    return Path(found)
