"""A user's own classes and functions, by import path: ``package.module.name``.

Only what a recipe names is imported, where a run is started; never what a log or a checkpoint names.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from hpcsgd.config.own import GIVEN
from hpcsgd.errors import UsageError, nearest, suggestion

_NOT_OWN = (str(Path(__file__).parents[1]), *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")))
"""Where files are that are none of a user's."""


def look_in(directory: str | Path) -> None:
    """Let modules be found in ``directory`` too, here and in processes that are started from here."""
    place = str(Path(directory).resolve())
    if place not in sys.path:
        sys.path.append(place)


def find_object(path: str, key: str) -> Any:
    """What ``path`` names: ``package.module.name``, or a name in a class of a module.

    Args:
        path: the import path.
        key: the recipe's key that has it, for messages.

    Raises:
        UsageError: there is no such module or name, or the module fails when it is imported.
    """
    if path.startswith(GIVEN):
        raise UsageError(f"{key} is {path}, which was brought from Python, by hpcsgd.fit: run that program again")
    words = path.split(".")
    if len(words) < 2 or not all(word.isidentifier() for word in words):
        raise UsageError(f"{key} is {path!r}: it must be an import path, as package.module.Name")
    for count in range(len(words) - 1, 0, -1):
        module = _import(".".join(words[:count]), path, key)
        if module is not None:
            return _inside(module, words[count:], path, key)
    raise UsageError(
        f"{key} is {path!r}, but there is no module {words[0]!r}: it is neither installed nor in the directories that "
        f"are looked in ({', '.join(entry for entry in sys.path if entry and Path(entry).is_dir())})"
    )


def _import(name: str, path: str, key: str) -> ModuleType | None:
    """The module of this name; None where there is none.

    Raises:
        UsageError: it fails; the message has the place in the user's file.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        raise UsageError(f"{key} is {path!r}, whose module {name} needs {error.name!r}, which is not there") from error
    except Exception as error:  # a user's module may fail in any way
        raise UsageError(f"{key} is {path!r}, whose module {name} cannot be imported: {in_words(error)}") from error


def _inside(module: ModuleType, names: list[str], path: str, key: str) -> Any:
    """What is called ``names`` in a module, one in another."""
    found: Any = module
    for place, name in enumerate(names):
        if not hasattr(found, name):
            where = ".".join([module.__name__, *names[:place]])
            public = [known for known in dir(found) if known[0] != "_"]
            file = getattr(module, "__file__", None)
            raise UsageError(
                f"{key} is {path!r}, but {where}{f' ({file})' if file else ''} has no {name}"
                + suggestion(name, public, cutoff=0.5)
            )
        found = getattr(found, name)
    return found


def check_arguments(factory: Any, arguments: Mapping[str, Any], key: str, given: int = 0) -> None:
    """See that ``factory`` can be called with ``arguments``, after ``given`` others by their places.

    Raises:
        UsageError: it cannot be called, an argument is unknown to it (names the nearest), or one is missing.
    """
    if not callable(factory):
        raise UsageError(f"{key} names {factory!r}, which cannot be called")
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        # Of what is written in C: it says itself what is wrong.
        return
    known = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)][given:]
    names = [parameter.name for parameter in known]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    for name in arguments:
        if name not in names and not takes_any:
            hint = nearest(str(name), names, f"it takes {', '.join(names) or 'none'}", cutoff=0.5)
            raise UsageError(f"{key}.init_args has {name}, which {_name(factory)} does not take; {hint}")
    missing = [p.name for p in known if p.default is p.empty and p.name not in arguments]
    if missing:
        raise UsageError(f"{key}.init_args has no {missing[0]}, which {_name(factory)} must be given")


def build(path: str, arguments: Mapping[str, Any], key: str, *given: Any) -> Any:
    """What ``path`` names, called with ``given`` and ``arguments``.

    Raises:
        UsageError: see :func:`find_object` and :func:`check_arguments`; or the call itself fails.
    """
    factory = find_object(path, f"{key}.class_path")
    check_arguments(factory, arguments, key, len(given))
    return call(factory, arguments, key, *given)


def call(factory: Any, arguments: Mapping[str, Any], key: str, *given: Any) -> Any:
    """Call a user's ``factory``.

    Raises:
        UsageError: it fails; the message has the place in the user's file.
    """
    try:
        return factory(*given, **arguments)
    except UsageError:
        raise
    except Exception as error:  # a user's code may fail in any way
        raise UsageError(f"{key}: {_name(factory)} fails: {in_words(error)}") from error


def in_words(error: BaseException) -> str:
    """An error of a user's code in one line, with the last place of it in a file of the user's."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(("<", *_NOT_OWN))]
    where = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    if isinstance(error, SyntaxError):
        where = f" ({error.filename}, line {error.lineno})"
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return f"{type(error).__name__}: {text}{where}" if text else f"{type(error).__name__}{where}"


def sources(paths: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Where what is imported comes from.

    Args:
        paths: import paths by the keys of a recipe that have them.

    Returns:
        For each key its ``path``, the ``file`` of the module, and the file's ``sha256``; the latter two are empty for
        what has no file.
    """
    found = {}
    for key, path in paths.items():
        module = inspect.getmodule(find_object(path, key))
        file = getattr(module, "__file__", None) or ""
        digest = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file and Path(file).is_file() else ""
        found[key] = {"path": path, "file": file, "sha256": digest}
    return found


def _name(factory: Any) -> str:
    """What a factory is called."""
    return str(getattr(factory, "__qualname__", None) or factory)
