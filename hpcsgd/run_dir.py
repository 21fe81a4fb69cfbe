"""The directory of a run or a study: made when nothing can be wrong any more, never half-made, of one job at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hpcsgd.config import RunConfig
from hpcsgd.errors import UsageError
from hpcsgd.files import write_whole
from hpcsgd.recipe import dotted, read_recipe, to_dict, to_yaml

FILES = ("run.h5", "recipe.yaml", "model.pt", "checkpoints")
LOCK = ".lock"

FREE_TO_CHANGE = (
    "resume",
    "resume_other_size",
    "overwrite",
    "run_dir",
    "max_steps",
    "progress",
    "threads",
    "device",
    "share_gpu",
    "comm",
    "evaluate",
    "log",
    "checkpoint",
    "faults",
)
"""Keys that a resumed run may have other values of."""


class Claim:
    """A run directory that no other job may use until :meth:`close`."""

    def __init__(self, descriptor: int | None) -> None:
        """``descriptor``: of the locked file; None locks nothing."""
        self._descriptor = descriptor

    def take_over(self, path: Path, kind: str = "run") -> None:
        """Claim the directory of a rank that died, unless it is claimed by this one already.

        Raises:
            UsageError: another job was faster.
        """
        if self._descriptor is None:
            self._descriptor = _lock(path, kind)

    @property
    def holds(self) -> bool:
        """Whether a directory is locked."""
        return self._descriptor is not None

    def close(self) -> None:
        """Let others use the directory."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def claim(path: Path, config: RunConfig) -> Claim:
    """Make the run's directory, with its ``recipe.yaml``, and keep other jobs from it.

    A run that is there already is gone on with (``resume``), replaced (``overwrite``) or left alone.

    Raises:
        UsageError: the directory holds a run and nothing says what becomes of it; or one of another recipe; or another
            job is using it; or it cannot be written. Nothing is left behind, and nothing there is changed.
    """
    return claim_directory(path, "run", lambda: _prepare(path, config))


def claim_directory(path: Path, kind: str, prepare: Callable[[], None]) -> Claim:
    """Make a directory, keep other jobs from it, and then ``prepare`` it.

    Args:
        path: the directory.
        kind: what it holds, a ``run`` or a ``study``.
        prepare: looks at what is there, and writes the first file.

    Raises:
        UsageError: from ``prepare``, or another job is using it, or it cannot be written. Nothing is left behind.
    """
    made = [parent for parent in (path, *path.parents) if not parent.exists()]
    claimed = Claim(None)
    try:
        path.mkdir(parents=True, exist_ok=True)
        claimed.take_over(path, kind)
        prepare()
    except (OSError, UsageError) as error:
        if claimed.holds and path in made:
            (path / LOCK).unlink(missing_ok=True)
        claimed.close()
        _remove(made)
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"cannot write the {kind} directory {path}: {error.strerror}") from error
    return claimed


def _lock(path: Path, kind: str) -> int:
    """Lock the directory; the lock's file tells others who has it."""
    descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 200).decode(errors="replace") or "another job"
        os.close(descriptor)
        raise UsageError(f"{path} is in use by {holder}: wait for it, or choose another {kind}_dir") from error
    except OSError as error:
        # Some parallel file systems are mounted without locks.
        print(f"hpcsgd: {path} cannot be locked ({error.strerror}): see that no other job uses it", file=sys.stderr)
    job = os.environ.get("SLURM_JOB_ID")
    os.ftruncate(descriptor, 0)
    os.pwrite(
        descriptor, f"process {os.getpid()} on {socket.gethostname()}{f' (job {job})' if job else ''}".encode(), 0
    )
    return descriptor


def _prepare(path: Path, config: RunConfig) -> None:
    """Decide what becomes of a run that is there, and write the recipe."""
    present = [name for name in FILES if (path / name).exists()]
    own = (path / "checkpoints").resolve()
    goes_on = config.resume == "auto" or (config.resume != "none" and Path(config.resume).resolve().parent == own)
    if goes_on and "recipe.yaml" in present:
        _check_same(path, config)
    elif present and not config.overwrite and not goes_on:
        raise UsageError(
            f"{path} holds a run already ({', '.join(present)}): choose another run_dir, set resume: auto to go on "
            "with it, or overwrite: true to replace it"
        )
    write_whole(path / "recipe.yaml", to_yaml(config).encode())
    if not goes_on:
        for name in present:
            if name == "checkpoints":
                shutil.rmtree(path / name)
            elif name != "recipe.yaml":
                (path / name).unlink()


def _check_same(path: Path, config: RunConfig) -> None:
    """Refuse to go on with a run of another recipe."""
    check_same(path, path / "recipe.yaml", config, "run", FREE_TO_CHANGE)


def check_same(path: Path, recipe: Path, config: Any, kind: str, free: Sequence[str]) -> None:
    """Refuse to go on in ``path`` with another configuration than that of ``recipe``, but for sections ``free``."""
    before = dict(dotted(read_recipe(recipe)))
    for key, value in dotted(to_dict(config)):
        if key.partition(".")[0] not in free and before.get(key) != value:
            raise UsageError(
                f"{path} holds a {kind} with {key} {before.get(key)!r}, not {value!r}: a {kind} is resumed with the "
                "recipe that it began with"
            )


def _remove(made: list[Path]) -> None:
    """Remove directories that were made in vain, the innermost first."""
    for directory in made:
        if directory.exists() and not any(directory.iterdir()):
            directory.rmdir()


def save_model(path: Path, state: dict[str, Any]) -> None:
    """Write a ``state_dict``; each tensor on its own, not with the flat buffer that it is a view of."""
    import io

    import torch

    content = io.BytesIO()
    torch.save({name: tensor.detach().cpu().clone() for name, tensor in state.items()}, content)
    write_whole(path, content.getvalue())
