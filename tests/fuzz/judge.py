"""The invariant: no traceback, no hang, nothing left behind, and one message for what is not valid."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from tests.fuzz.case import Command
from tests.fuzz.execute import Ending

FOLDERS = ("work", "home", "tmp")
CRASHES = ("Traceback (most recent call last)", "Fatal Python error", "Segmentation fault", "Warning: ")
NOTES = (
    r"step \d+/\d+: ",
    r"trial \d+/\d+",
    r"tuner: ",
    r"libgomp: Invalid value",
    r" *\d+%\|.*\]$",
    r"hpcsgd: the (run|study) is in ",
    r"hpcsgd: not used: ",
    r"hpcsgd: (?!.* (must be|holds no images) ).*\bleft out\b",
    r"hpcsgd: .* is not there: a new log begins",
    r"hpcsgd: .* has no images of classes that ",
    r"hpcsgd: .* converted by Pillow",
    r"hpcsgd: .*: taken as your own$",
    r"hpcsgd: .* is complete: there is nothing to go on with",
)
"""Lines on stderr of runs in which nothing is wrong."""

MPI_FILES = "tmp/ompi.*"
"""What Open MPI itself leaves."""

MPI_BANNER = re.compile(r"^-{70,}\n.*?^-{70,}\n", re.DOTALL | re.MULTILINE)
"""What Open MPI itself says."""

BEGUN = r"not finite|diverge|cannot write"
"""What may end a run that has begun."""

Snapshot = Mapping[str, str]


def snapshot(place: Path) -> Snapshot:
    """Every path in the case's folders, with what is there."""
    return {os.fsdecode(path): _content(path) for path in _paths(place)}


def _paths(place: Path) -> Iterator[bytes]:
    """Names are bytes: not all are text."""
    for name in FOLDERS:
        for folder, folders, files in os.walk(os.fsencode(place / name)):
            yield from (os.path.join(folder, entry) for entry in folders + files)


def _content(path: bytes) -> str:
    """Type and content of what is at ``path``."""
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return f"link to {os.fsdecode(os.readlink(path))}"
    if not stat.S_ISREG(mode):
        return f"type {stat.S_IFMT(mode):o}"
    if path.endswith(b"/.lock"):
        return "lock"
    with open(path, "rb") as file:
        return f"file {hashlib.file_digest(file, 'sha256').hexdigest()}"


def faults(command: Command, ending: Ending, place: Path, before: Snapshot, after: Snapshot) -> list[str]:
    """What is wrong with the ending of a command; one line each."""
    if ending.code is None:
        return ["it hangs"]
    found = [f"it was ended by signal {-ending.code}"] if ending.code < 0 else []
    if ending.code >= 0 and ending.code not in command.codes:
        found.append(f"exit code {ending.code}, not {' or '.join(map(str, command.codes))}")
    elif ending.code == 1 and not re.search(BEGUN, ending.err):
        found.append(f"exit code 1 is for what fails on the way: {_last_line(ending.err)}")
    if ending.left:
        found.append("it leaves processes behind")
    said = ending.out + ending.err
    crash = next((word for word in CRASHES if word in said), None)
    if crash:
        found.append(f"{crash.rstrip(' :')}: {_last_line(ending.err)}")
    else:
        found += _messages(command, ending)
    found += [f"{text!r} is not shown" for text in command.shows if text not in said]
    return found + _left_behind(command, ending.code, place, before, after)


def _messages(command: Command, ending: Ending) -> list[str]:
    """One message line for a mistake, none without."""
    notes = (*NOTES, *command.notes)
    lines = [line for line in re.split(r"[\r\n]+", re.sub(MPI_BANNER, "", ending.err)) if line.strip()]
    said = [line for line in lines if not any(re.match(note, line) for note in notes)]
    wanted = int(ending.code != 0)
    if command.quiet and not said:
        return []
    if len(said) == wanted and all(line.startswith("hpcsgd: ") for line in said):
        return []
    return [f"{len(said)} lines in the place of {wanted} message: {' | '.join(line[:200] for line in said[:4])}"]


def _left_behind(command: Command, code: int, place: Path, before: Snapshot, after: Snapshot) -> list[str]:
    """What is new, changed or gone, and should not be."""
    makes = () if code == 2 else command.makes
    changes = [
        f"{path}: {'gone' if path not in after else 'changed' if path in before else 'left behind'}"
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path) and not _may_make(path, place, makes)
    ]
    return [f"{changes[0]}{f' (and {len(changes) - 1} more)' if changes[1:] else ''}"] if changes else []


def _may_make(path: str, place: Path, makes: Sequence[str]) -> bool:
    """Whether a pattern has the path; patterns are below ``work``, those with ``~/`` below ``home``."""
    patterns = [f"home{name[1:]}" if name.startswith("~/") else f"work/{name}" for name in makes]
    return any(fnmatchcase(os.path.relpath(path, place), pattern) for pattern in (*patterns, MPI_FILES))


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "(nothing is said)"
