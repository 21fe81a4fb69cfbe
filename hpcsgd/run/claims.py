"""The lock of a directory: of one job at a time, and without a trace where nothing comes of it."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcsgd.errors import UsageError, reason
from hpcsgd.record.provenance import scheduler_job
from hpcsgd.run.leftovers import Kind

LOCK = ".lock"


@dataclass
class Changes:
    """What becomes of a directory, decided but not done.

    Attributes:
        recipe: the file that says what is there.
        first: done before anything else is written.
        last: done when all else is there.
    """

    recipe: Path = Path()
    first: Callable[[], None] | None = None
    last: Callable[[], None] | None = None


class Claim:
    """A directory that no other job may use until :meth:`close`.

    Attributes:
        path: the directory; None where nothing is locked.
        before: dotted keys and values of the recipe of what is there and is gone on with; None: it begins anew.
    """

    def __init__(self, descriptor: int | None) -> None:
        """``descriptor``: of the locked file; None locks nothing."""
        self._descriptor = descriptor
        self.path: Path | None = None
        self._made: list[Path] = []
        self._directories: list[Path] = []
        self._changes = Changes()
        self.before: Mapping[str, Any] | None = None

    def take_over(self, path: Path, kind: str = "run") -> None:
        """Claim the directory of a rank that died, unless it is claimed by this one already.

        Raises:
            UsageError: another job was faster.
        """
        if self._descriptor is None:
            self._descriptor, _ = _lock(path, kind)
            self.path = path

    @property
    def holds(self) -> bool:
        """Whether a directory is locked."""
        return self._descriptor is not None

    @property
    def descriptors(self) -> list[int]:
        """The lock's file, for a process that is to hold it too; none where nothing is locked."""
        return [] if self._descriptor is None else [self._descriptor]

    def begin(self) -> None:
        """Before the log is made: replace what is to be replaced, and write the recipe of what begins anew.

        Until then nothing in the directory is changed; and until :meth:`settle`, :meth:`close` removes what was made.

        Raises:
            UsageError: it cannot be written.
        """
        change, self._changes.first = self._changes.first, None
        self._do(change)

    def settle(self) -> None:
        """When the log is there: write the recipe of what is gone on with. What was made stays.

        Raises:
            UsageError: it cannot be written.
        """
        change, self._changes.last = self._changes.last, None
        self._do(change)
        self._made, self._directories = [], []

    def _do(self, change: Callable[[], None] | None) -> None:
        """Change files."""
        try:
            if change is not None:
                change()
        except OSError as error:
            raise UsageError(f"cannot write {self._changes.recipe}: {reason(error)}") from error

    def close(self) -> None:
        """Let others use the directory."""
        for path in self._made:
            path.unlink(missing_ok=True)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        # The innermost first. Another job may be in them by now.
        for path in self._directories:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        self._made, self._directories = [], []

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @classmethod
    def make(cls, path: Path, kind: Kind, decide: Callable[[Claim], Changes], *, new: bool = False) -> Claim:
        """Make a directory and keep other jobs from it.

        Args:
            path: the directory.
            kind: what it holds.
            decide: looks at what is there, changing nothing, and gives what there is to change.
            new: it must not be there yet.

        Raises:
            FileExistsError: it is there, and must not.
            UsageError: from ``decide``, or another job is using it, or it cannot be written. Nothing is left behind.
        """
        claimed = cls(None)
        try:
            missing = [parent for parent in (path, *path.parents) if not parent.exists()]
            claimed._directories = missing[1:]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(exist_ok=not new)
            claimed._directories = missing
            claimed.path = path
            claimed._descriptor, is_new = _lock(path, kind.name)
            if is_new:
                claimed._made.append(path / LOCK)
            claimed._changes = decide(claimed)
            if not claimed._changes.recipe.exists():
                claimed._made.append(claimed._changes.recipe)
        except (OSError, UsageError) as error:
            claimed.close()
            is_taken = new and isinstance(error, FileExistsError) and os.path.lexists(path)
            if is_taken or isinstance(error, UsageError):
                raise
            raise UsageError(f"cannot write the {kind.name} directory {_short(path)}: {reason(error)}") from error
        return claimed


def _lock(path: Path, kind: str) -> tuple[int, bool]:
    """Lock the directory; the lock's file tells others who has it. Whether that was made now, too."""
    is_new = not (path / LOCK).exists()
    descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _take(descriptor, path, kind)
        job = scheduler_job(os.environ)
        os.ftruncate(descriptor, 0)
        holder = f"process {os.getpid()} on {socket.gethostname()}{f' (job {job})' if job else ''}"
        os.pwrite(descriptor, holder.encode(), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, is_new


def _take(descriptor: int, path: Path, kind: str) -> None:
    """Get the lock.

    Raises:
        UsageError: another job has it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 200).decode(errors="replace") or "another job"
        raise UsageError(f"{path} is in use by {holder}: wait for it, or choose another {kind}_dir") from error
    except OSError as error:
        # Some parallel file systems are mounted without locks.
        print(f"hpcsgd: {path} cannot be locked ({error.strerror}): see that no other job uses it", file=sys.stderr)
        return
    # A job that came to nothing removes the lock that it made: this one may have opened it just before.
    try:
        is_there = os.path.samestat(os.fstat(descriptor), os.stat(path / LOCK))
    except FileNotFoundError:
        is_there = False
    if not is_there:
        raise UsageError(f"{path} was in use by another job until now: start again")


def _short(path: Path) -> str:
    """A path that fits in a message."""
    text = str(path)
    return text if len(text) <= 200 else f"{text[:100]}...{text[-50:]}"
