"""Staging: one copy of a file on the node's own disk, made by the first rank of the node."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from hpcsgd.errors import UsageError


def stage(source: Path, directory: Path) -> Path:
    """Copy ``source`` into ``directory``, unless it is there already; the copy.

    The copy gets its name when it is whole, so that another job on the node finds all of it or none. One of the same
    size and a later time is taken for the same.

    Raises:
        UsageError: there is no such file, or no room for it.
    """
    target = directory / source.name
    unfinished = directory / f".{source.name}-{os.getpid()}"
    try:
        size, changed = source.stat().st_size, source.stat().st_mtime
        if target.exists() and target.stat().st_size == size and target.stat().st_mtime >= changed:
            return target
        directory.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(directory).free
        if free < size:
            raise UsageError(
                f"data.stage_dir {directory} has {free / 1e9:.1f} GB left, and {source} needs {size / 1e9:.1f}"
            )
        try:
            shutil.copyfile(source, unfinished)
            os.replace(unfinished, target)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot stage {source} in {directory}: {error.strerror or error}") from error
    return target
