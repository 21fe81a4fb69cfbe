"""``hpcsgd recipes`` and ``hpcsgd figures``: what comes with the package beside its modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hpcsgd.config.shipped import meaning_of, shipped
from hpcsgd.config.shipped import recipes as all_recipes
from hpcsgd.errors import UsageError, nearest

RECIPES = """usage: hpcsgd recipes [WORD ...]

List the recipes that come with hpcsgd, or those with a WORD in their name.
"""
FIGURES = """usage: hpcsgd figures {NAMES} RUN ... [-o DIR]

Draw figures of runs, from their logs.
"""


def recipes(words: list[str]) -> int:
    """``hpcsgd recipes [WORD ...]``: the recipes, those whose name holds a word; gives the exit code."""
    if "-h" in words or "--help" in words:
        print(RECIPES, end="")
        return 0
    found = {name: path for name, path in all_recipes().items() if not words or any(word in name for word in words)}
    if not found:
        raise UsageError(f"no recipe has {' or '.join(words)} in its name: hpcsgd recipes lists all")
    width = max(map(len, found))
    for name, path in found.items():
        print(f"{name:{width}}  {meaning_of(path)}")
    return 0


def figures(words: list[str]) -> int:
    """``hpcsgd figures NAME RUN ... [-o DIR]``: the script of that name in ``analysis/``; gives its exit code."""
    folder = shipped("analysis", "report.py")
    scripts = {path.stem.removesuffix("_curves"): path for path in sorted(folder.glob("*.py"))}
    names = ",".join(scripts)
    if not words or words[0] in ("-h", "--help"):
        print(FIGURES.replace("NAMES", names), end="")
        return 0 if words else 2
    if words[0] not in scripts:
        hint = nearest(words[0], scripts, f"choose from {names}")
        raise UsageError(f"hpcsgd figures: there is no {words[0]}; {hint}")
    return _main_of(scripts[words[0]])(words[1:])


def _main_of(script: Path) -> Callable[[Sequence[str]], int]:
    """The main function of a script, whose folder is looked for modules in from now on."""
    if str(script.parent) not in sys.path:
        sys.path.insert(0, str(script.parent))
    main: Callable[[Sequence[str]], int] = importlib.import_module(script.stem).main
    return main
