"""What a run or a study has made in its directory: told from the user's files, and removed without them."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hpcsgd.config.recipe import read_recipe
from hpcsgd.errors import UsageError

_SHOWN = 3


@dataclass(frozen=True)
class Kind:
    """A kind of directory of ours.

    Attributes:
        name: ``run`` or ``study``.
        recipe: the file that says what is there; the first that is written, and the last that is removed.
        sections: of a recipe as it is written there, which has all of them.
        tops: regular expression of the names in the directory that are ours.
        files: of the paths of files below, relative to the directory.
    """

    name: str
    recipe: str
    sections: frozenset[str]
    tops: re.Pattern[str]
    files: re.Pattern[str]


_OF_ONE_WRITE = r"(\.[^/]+)?\.\d+"
"""The end of the name of a file that a killed process was writing."""

CHECKPOINT = re.compile(r"step-\d{8,}")
CHECKPOINT_FILE = re.compile(r"rank-\d{5,}\.pt|manifest\.json|note-\d+\.json|\.note-\d+\.new|failed-\d+-\d+")
_CHECKPOINT_PATH = rf"checkpoints/\.?{CHECKPOINT.pattern}(\.[0-9a-f]+)?/({CHECKPOINT_FILE.pattern})"
_OLD_LOG = r"run-before-step-\d+(-\d+)?\.h5"

_WATCHDOG = r"\.watchdog-[0-9a-f]+"
_RUN_FILES = (
    rf"run\.h5(\.new|\.resumed)?|recipe\.yaml|model\.pt|{_OLD_LOG}"
    rf"|\.(run\.h5|run\.h5\.resumed|recipe\.yaml|model\.pt){_OF_ONE_WRITE}"
)
RUN = Kind(
    "run",
    "recipe.yaml",
    frozenset({"model", "data", "algorithm", "optimizer", "learning_rate", "comm", "evaluate", "log"}),
    re.compile(rf"{_RUN_FILES}|checkpoints|{_WATCHDOG}"),
    re.compile(rf"{_RUN_FILES}|{_CHECKPOINT_PATH}|{_WATCHDOG}/waits-\d+"),
)

_TRIAL = r"\d+/(metadata\.json|measurements\.csv)"
_GROUP = r"\d+-\d+"
_STUDY_FILES = (
    r"study\.yaml|provenance\.json|plan\.json"
    rf"|\.(study\.yaml|provenance\.json|plan\.json){_OF_ONE_WRITE}"
)
STUDY = Kind(
    "study",
    "study.yaml",
    frozenset({"model", "data", "optimizer", "space", "goal", "stop", "evaluate", "comm"}),
    re.compile(rf"{_STUDY_FILES}|archive|groups|\.work|\.committed|{_WATCHDOG}"),
    re.compile(
        rf"{_STUDY_FILES}|{_WATCHDOG}/waits-\d+"
        rf"|archive/[^/]+/[^/]+/[^/]+/\d+/({_TRIAL}|study\.json|\.study\.json{_OF_ONE_WRITE})"
        rf"|groups/{_GROUP}\.json"
        rf"|\.work/[0-9a-f]+/({_GROUP}|stop|{_GROUP}\.files/({_TRIAL}|group\.json))"
        rf"|\.committed/{_GROUP}/({_TRIAL}|group\.json)"
    ),
)


def present(path: Path, kind: Kind) -> list[str]:
    """The names in ``path`` that a directory of this kind has, sorted; nothing where there is no such directory.

    Raises:
        OSError: it cannot be looked at.
    """
    try:
        return sorted(name for name in os.listdir(path) if kind.tops.fullmatch(name))
    except FileNotFoundError:
        return []


def is_ours(path: Path, kind: Kind) -> bool:
    """Whether ``path`` holds one of this kind: a recipe as only hpcsgd writes it, with all its sections."""
    try:
        recipe = read_recipe(path / kind.recipe)
    except UsageError:
        return False
    return all(isinstance(recipe.get(section), dict) for section in kind.sections)


def check_ours(path: Path, kind: Kind, names: list[str]) -> None:
    """Refuse to touch ``names`` in ``path`` where they are not of a run or study of ours; raises ``UsageError``."""
    if not is_ours(path, kind):
        why = f"has no {kind.recipe} of a {kind.name}"
        if (path / kind.recipe).exists():
            why = f"has a {kind.recipe} that is none of a {kind.name}"
        raise UsageError(
            f"{path} holds {_some(names)}, but {why}: nothing there is touched; choose another {kind.name}_dir, or "
            "move them away"
        )


def check_removable(path: Path, kind: Kind, names: list[str]) -> None:
    """Refuse to remove files among ``names`` that no run or study makes; raises ``UsageError``."""
    foreign = [file for name in names for file in _walk(path, name) if not kind.files.fullmatch(file)]
    if foreign:
        raise UsageError(f"{path} holds {_some(foreign)}, which no {kind.name} makes: nothing is removed; move it away")


def remove(path: Path, names: list[str], kind: Kind) -> None:
    """Remove what :func:`check_removable` has looked at, but for the recipe.

    Raises:
        OSError: something cannot be removed.
    """
    for name in names:
        if name != kind.recipe:
            _remove(path / name)


def remove_checkpoint(path: Path) -> None:
    """Remove a directory of one checkpoint, whole or unfinished, unless there is something in it that is not ours.

    Raises:
        OSError: it cannot be removed.
    """
    if path.is_dir() and not path.is_symlink() and all(CHECKPOINT_FILE.fullmatch(name) for name in os.listdir(path)):
        _remove(path)


def make_way(path: Path) -> None:
    """Let a new checkpoint have the name ``path``: what is there is removed, or renamed if not all of it is ours.

    Raises:
        OSError: neither can be done.
    """
    remove_checkpoint(path)
    if os.path.lexists(path):
        names = (path.with_name(f"kept-{number}-{path.name}") for number in itertools.count(1))
        path.rename(next(name for name in names if not os.path.lexists(name)))


def _walk(path: Path, name: str) -> Iterator[str]:
    """The files of ``path / name``, relative to ``path``; a link is a file."""
    place = path / name
    if place.is_symlink() or not place.is_dir():
        yield name
        return
    for below in sorted(os.listdir(place)):
        yield from _walk(path, f"{name}/{below}")


def _remove(place: Path) -> None:
    """Remove a file, or a directory from the bottom."""
    if place.is_symlink() or not place.is_dir():
        place.unlink(missing_ok=True)
        return
    for below in sorted(os.listdir(place)):
        _remove(place / below)
    place.rmdir()


def _some(names: list[str]) -> str:
    """A few names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
