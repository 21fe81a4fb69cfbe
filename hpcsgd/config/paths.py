"""Paths as users write them: ``~`` and variables of the environment are replaced in this one place."""

from __future__ import annotations

import argparse
import os
import re
import unicodedata
from pathlib import Path

from hpcsgd.errors import UsageError

VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})", re.ASCII)


def expand(text: str) -> str:
    """``text`` with ``~``, ``~user``, ``$NAME`` and ``${NAME}`` replaced.

    A variable that is not set, or empty, stays as it is written: a recipe may be read on another machine than the
    run's. Where the path is used, :func:`resolved` refuses it.

    Raises:
        ValueError: the text is empty, as where the shell has replaced a variable that is not set; or no path can be.
    """
    if not text.strip():
        raise ValueError(f"{text!r}: it must be a path (was it written with a variable of the shell that is not set?)")
    if any(unicodedata.category(letter) == "Cc" for letter in text):
        raise ValueError(f"{text!r}: it must be a path of one line, without a tab or another control character")
    found = VARIABLE.sub(lambda name: os.environ.get(name[1] or name[2]) or name[0], text)
    if not found.startswith("~"):
        return found
    user = found.partition("/")[0]
    home = os.environ["HOME"] if user == "~" and "HOME" in os.environ else os.path.expanduser(user)
    if not os.path.isabs(home):
        why = "HOME is not set, or is no directory" if user == "~" else "there is no such user"
        raise ValueError(f"{text!r}: {user} is nobody's home ({why}): set HOME, or write the path in full")
    return home + found.removeprefix(user)


def resolved(name: str, text: str) -> Path:
    """A path that is used now, as :func:`expand` gives it.

    Args:
        name: of the option or key, for the message.
        text: the path.

    Raises:
        UsageError: it is empty, or holds a variable that is not set.
    """
    try:
        return _without_variables(expand(text))
    except ValueError as error:
        raise UsageError(f"{name} is {error}") from error


def argument(text: str) -> Path:
    """A path on the command line, for argparse.

    Raises:
        ArgumentTypeError: it is empty, or holds a variable that is not set.
    """
    try:
        return _without_variables(expand(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def argument_elsewhere(text: str) -> str:
    """A path on the command line that another machine will use, for argparse: variables may be set only there.

    Raises:
        ArgumentTypeError: it is empty.
    """
    try:
        return expand(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _without_variables(text: str) -> Path:
    """An expanded path in which no variable is left."""
    missing = VARIABLE.search(text)
    if missing:
        name = missing[1] or missing[2]
        raise ValueError(f"{text!r}: {name} is not set, or empty: set it, or write the path in full")
    return Path(text)
