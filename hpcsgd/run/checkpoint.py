"""Checkpoints: written beside, fsynced, renamed; checked by checksum before use; read without running code.

``checkpoints/step-00000123/`` holds one ``rank-00000.pt`` for each rank and ``manifest.json``, written last. Every rank
writes its own file and a small note with its checksum; rank 0 makes the manifest when all notes are there and renames
the directory. No communication is needed, so all of it can be done by a thread while the training goes on; where a rank
waits for others' files, the watchdog looks on.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hpcsgd.comm.watchdog import Watchdog
from hpcsgd.errors import CheckpointError, UsageError, reason
from hpcsgd.files import fsync, sync
from hpcsgd.record.manifest import FORMAT, MANIFEST, read_manifest
from hpcsgd.run.leftovers import CHECKPOINT, make_way, remove_checkpoint

FOLDER = "checkpoints"
POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose manifest was read.

    Attributes:
        path: its directory.
        step: optimizer steps done.
        world_size: ranks that wrote it.
    """

    path: Path
    step: int
    world_size: int

    def load(self, rank: int) -> dict[str, Any]:
        """The state of ``rank``; raises ``UsageError`` where its file is missing or damaged."""
        entry = read_manifest(self.path)["ranks"][rank]
        file = self.path / _rank_file(rank)
        try:
            content = file.read_bytes()
        except OSError as error:
            raise UsageError(f"{file}: {reason(error)}") from error
        if len(content) != entry["num_bytes"] or _checksum(content) != entry["sha256"]:
            raise UsageError(f"{file} is damaged: {len(content)} bytes with another checksum than its manifest says")
        try:
            state: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except Exception as error:  # whatever the bytes make torch or pickle raise
            raise UsageError(f"{file} holds no state of a run ({type(error).__name__} when it is read)") from error
        if not (isinstance(state, dict) and state.get("step") == self.step):
            raise UsageError(f"{file} holds no state of a run after {self.step} steps")
        return state


class CheckpointWriter:
    """Writes the checkpoints of one rank, in the background if asked."""

    def __init__(self, run_dir: Path, watchdog: Watchdog, token: str, *, keep: int, background: bool) -> None:
        """
        Args:
            run_dir: the run's directory.
            watchdog: this rank's; it knows its number and how many there are.
            token: the same on all ranks and different at every start, so that nothing of a start before is taken
                for ours.
            keep: checkpoints that are kept, the last ones.
            background: let a thread write.
        """
        self.folder = run_dir / FOLDER
        self.watchdog = watchdog
        self.rank = watchdog.rank
        self.world_size = watchdog.size
        self.token = token
        self.keep = keep
        self.background = background
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._given_up = False
        self.clear()

    def clear(self) -> None:
        """Remove what was begun and never came to be whole; where no rank writes any more."""
        if self.rank == 0:
            for leftover in self.folder.glob(".step-*"):
                _remove_quietly(leftover)
            with contextlib.suppress(OSError):
                self.folder.rmdir()  # if no checkpoint is in it

    def write(self, step: int, state: dict[str, Any]) -> None:
        """Begin to write ``state`` of this rank after ``step`` steps; all ranks do so, after :meth:`finish`.

        With ``background``, tensors of ``state`` must not be changed afterwards: hand over copies.
        """
        assert self._thread is None and self._failure is None
        if self.background:
            arguments = (step, state)
            self._thread = threading.Thread(target=self._write_safely, args=arguments, name="checkpoint", daemon=True)
            self._thread.start()
        else:
            self._write_safely(step, state)

    def give_up(self) -> None:
        """Wait no longer for files of other ranks: some have died."""
        self._given_up = True

    def finish(self) -> None:
        """Wait for what is being written.

        Raises:
            CheckpointError: it could not be written; perhaps this rank alone knows, so the ranks have to agree.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            # Another's failure is told with its rank already.
            where = "" if isinstance(failure, OtherFailedError) or self.world_size == 1 else f" on rank {self.rank}"
            raise CheckpointError(
                f"cannot write a checkpoint in {self.folder}: {reason(failure)}{where}; those before it are whole"
            ) from failure

    def _write_safely(self, step: int, state: dict[str, Any]) -> None:
        """The thread: an error is kept for :meth:`finish`."""
        partial = self.folder / f".step-{step:08d}.{self.token}"
        try:
            self._write_rank(partial, state)
            if self.rank == 0:
                self._complete(partial, step)
            else:
                # It counts when rank 0 has renamed it.
                self._wait_for(self.folder / _name(step) / MANIFEST, partial)
        except OtherFailedError as error:
            self._failure = error
        except OSError as error:
            self._failure = error
            self._tell_failure(partial, error)
        except Exception as error:  # torch's own words for a disk that is full, a state that cannot be kept
            self._failure = error
            self._tell_failure(partial, OSError(errno.EIO, reason(error)))

    def _write_rank(self, partial: Path, state: dict[str, Any]) -> None:
        """Write this rank's file and then the note that it is whole."""
        partial.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        _write_through(partial / _rank_file(self.rank), content)
        note = {"num_bytes": len(content), "sha256": _checksum(content)}
        _write_through(partial / f".note-{self.rank}.new", json.dumps(note).encode())
        os.replace(partial / f".note-{self.rank}.new", partial / f"note-{self.rank}.json")

    def _complete(self, partial: Path, step: int) -> None:
        """Rank 0: wait for all notes, write the manifest, rename, remove what is too old."""
        notes = []
        for rank in range(self.world_size):
            self._wait_for(partial / f"note-{rank}.json", partial)
            notes.append(json.loads((partial / f"note-{rank}.json").read_text()))
        manifest = {"format": FORMAT, "step": step, "world_size": self.world_size, "ranks": notes}
        _write_through(partial / MANIFEST, json.dumps(manifest).encode())
        for rank in range(self.world_size):
            (partial / f"note-{rank}.json").unlink()
        final = self.folder / _name(step)
        make_way(final)
        os.replace(partial, final)
        sync(self.folder)
        # Those of later steps were passed over, or are of a future that this run has left.
        every = _directories(self.folder)
        earlier = [path for path in every if _step_of(path) <= step]
        for old in set(every) - set(earlier[-self.keep :]):
            _remove_quietly(old)

    def _wait_for(self, file: Path, partial: Path) -> None:
        """Wait until another rank has made ``file``; raise ``OtherFailedError`` if one cannot write."""
        with self.watchdog.watch("checkpoint"):
            while not file.exists():
                if self._given_up:
                    raise OtherFailedError("ranks have died, and the run goes on without them")
                # The directory gets its last name at any moment.
                with contextlib.suppress(FileNotFoundError):
                    failed = sorted(name for name in os.listdir(partial) if name.startswith("failed-"))
                    if failed:
                        _, rank, number = failed[0].split("-")
                        raise OtherFailedError(f"{os.strerror(int(number))} on rank {rank}")
                time.sleep(POLL_SECONDS)

    def _tell_failure(self, partial: Path, error: OSError) -> None:
        """Let the other ranks know, by a name: on a full disk it needs the room of what could not be written."""
        with contextlib.suppress(OSError):
            (partial / _rank_file(self.rank)).unlink(missing_ok=True)
            # This rank may be the first to come by here.
            (partial / f"failed-{self.rank}-{error.errno or errno.EIO}").mkdir(parents=True)


class OtherFailedError(Exception):
    """Another rank cannot write its part of a checkpoint."""


def remove_later(run_dir: Path, step: int) -> None:
    """Remove the checkpoints of more than ``step`` steps, of a course that the run does not take."""
    for path in _directories(run_dir / FOLDER):
        if _step_of(path) > step:
            remove_checkpoint(path)


def find_checkpoints(run_dir: Path) -> tuple[list[Checkpoint], list[str]]:
    """The checkpoints of a run, the last one first, and one line for each that has no sound manifest."""
    found, broken = [], []
    for path in reversed(_directories(run_dir / FOLDER)):
        try:
            checkpoint = read_checkpoint(path)
            if checkpoint.step != _step_of(path):
                raise UsageError(f"{path} is no whole checkpoint: its manifest says step {checkpoint.step}")
            found.append(checkpoint)
        except UsageError as error:
            broken.append(str(error))
    return found, broken


def _directories(folder: Path) -> list[Path]:
    """The directories of checkpoints in ``folder``, by step: nothing else is looked at or removed."""
    return sorted((path for path in folder.glob("step-*") if CHECKPOINT.fullmatch(path.name)), key=_step_of)


def _step_of(path: Path) -> int:
    """The step in the name of a checkpoint's directory."""
    return int(path.name.partition("-")[2])


def _remove_quietly(path: Path) -> None:
    """Remove a checkpoint; one that cannot be removed stays, as what is in it that is not ours."""
    with contextlib.suppress(OSError):
        remove_checkpoint(path)


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in a directory.

    Raises:
        UsageError: it has no sound manifest.
    """
    manifest = read_manifest(path)
    return Checkpoint(path, manifest["step"], manifest["world_size"])


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _rank_file(rank: int) -> str:
    return f"rank-{rank:05d}.pt"


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write_through(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        fsync(file.fileno())
