"""Staging: one copy of a pack on the node's own disk, made by the first rank of the node."""

from __future__ import annotations

import shutil
from pathlib import Path

from hpcsgd.errors import UsageError, reason
from hpcsgd.files import whole


def staged_path(source: Path, directory: Path) -> Path:
    """The name of the copy of the pack ``source`` in ``directory``: its content is in it.

    Raises:
        UsageError: ``source`` is no pack.
    """
    # HDF5 takes long to import, and help texts come by here.
    from hpcsgd.record.pack import open_pack

    digest = open_pack(source).digest.rpartition(":")[2]
    return directory / f"{source.stem}-{digest[:16]}{source.suffix}"


def stage(source: Path, directory: Path) -> Path:
    """Copy the pack ``source`` into ``directory``, unless a copy of the same content is there; the copy.

    A copy that is there is read to the end before it is trusted: the disk of a node keeps what another job has left,
    cut or altered since. A pack of version 1 does not say what its images are, and is copied each time. The copy gets
    its name when it is whole, so that another job on the node finds all of it or none.

    Raises:
        UsageError: there is no such pack, it is not what was packed, or there is no room for it.
    """
    from hpcsgd.record.pack import open_pack

    target, pack = staged_path(source, directory), open_pack(source)
    if _holds(target, pack.digest):
        return target
    try:
        directory.mkdir(parents=True, exist_ok=True)
        size, free = source.stat().st_size, shutil.disk_usage(directory).free
        if free < size:
            raise UsageError(
                f"data.stage_dir {directory} has {free / 1e9:.1f} GB left, and {source} needs {size / 1e9:.1f}"
            )
        with whole(target) as unfinished:
            shutil.copyfile(source, unfinished)
            if pack.sha256 and not _holds(unfinished, pack.digest):
                raise UsageError(f"{source} was altered: its images are not those that were packed; pack them again")
    except OSError as error:
        raise UsageError(f"cannot stage {source} in {directory}: {reason(error)}") from error
    return target


def _holds(path: Path, digest: str) -> bool:
    """Whether a file is a pack of this content, all of which is read."""
    from hpcsgd.record.pack import open_pack

    try:
        found = open_pack(path)
    except UsageError:
        return False
    return found.digest == digest and found.is_whole()
