"""``hpcsgd study run`` with a rank that dies: DEATH is ``rank:place:count``. Started by test_study.py.

The rank kills itself when it comes to ``place`` for the ``count``-th time: ``claim``, before it takes a group;
``claimed``, after; ``evaluation``, in the training of a group; ``written``, when a group's files are written and nobody
can see them; ``renamed``, when the group is finished by its one rename; ``moving``, when its first trial is in the
archive; ``published``, when all is there. With no DEATH nobody dies. With STOP it gets SIGUSR1 in place of SIGKILL.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hpcsgd.cli import main
from hpcsgd.trials.directory import COMMITTED, Claims, StudyDirectory
from hpcsgd.trials.groups import Group
from hpcsgd.trials.lookout import Lookout

WHO, PLACE, COUNT = os.environ.get("DEATH", "none:none:0").split(":")
SIGNAL = signal.SIGUSR1 if os.environ.get("STOP") else signal.SIGKILL
passed = 0


def pass_by(place: str) -> None:
    """Die, if this is the place and time."""
    global passed
    if place == PLACE and os.environ.get("OMPI_COMM_WORLD_RANK", "0") == WHO:
        passed += 1
        if passed == int(COUNT):
            os.kill(os.getpid(), SIGNAL)


def wrap(owner: object, name: str, before: str = "", after: str = "") -> None:
    """Let a function pass by places before and after it does its work."""
    sound: Callable[..., object] = getattr(owner, name)

    def wrapped(*args: object, **kwargs: object) -> object:
        pass_by(before)
        result = sound(*args, **kwargs)
        pass_by(after)
        return result

    setattr(owner, name, wrapped)


def hold_others_back() -> None:
    """The other ranks take one group each: all others are for the one that dies, so that it comes to its place."""
    sound, taken = Claims.take, 0

    def take(claims: Claims, groups: list[Group]) -> Group | None:
        nonlocal taken
        taken += 1
        while taken > 1 and str(claims.rank) != WHO and not claims.stop_is_asked():
            time.sleep(0.05)
        return sound(claims, groups)

    Claims.take = take  # type: ignore[method-assign]


def watch_renames() -> None:
    """Tell the renames of a group's way into the archive from each other."""
    sound = Path.rename

    def rename(path: Path, target: Path) -> Path:
        result = sound(path, target)
        pass_by("renamed" if target.parent.name == COMMITTED else "moving")
        return result

    Path.rename = rename  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    if PLACE != "none":
        hold_others_back()
    wrap(Claims, "take", before="claim", after="claimed")
    wrap(Lookout, "look", before="evaluation")
    wrap(StudyDirectory, "commit", before="written", after="published")
    watch_renames()
    sys.exit(main())
