"""The files of an archive, from a directory or straight out of a packed one; and a packed one made of a directory."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Container, Iterator
from pathlib import Path

from hpcsgd.errors import UsageError, told_as
from hpcsgd.files import Finder, write_whole

PACKED = (".tar.xz", ".tar.gz", ".zip")
"""Endings that :func:`pack` writes."""

READ_ONLY = (".tar.bz2", ".tgz")
"""Endings that are read too; the authors' own archive is a ``.tar.bz2``. A bare ``.tar`` has no checksum: not read."""

Parts = tuple[str, ...]
"""The parts of a path within an archive."""

_FIRST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError)


def read_files(source: Path, names: Container[str]) -> dict[Parts, bytes]:
    """The content of all files of certain names, by the parts of their paths below ``source``.

    Files and directories whose names begin with a dot are what a killed writer left: they do not exist here.

    Args:
        source: a directory, or a packed archive, which is read where it lies; nothing is unpacked to disk.
        names: the files' own names, without directories.

    Raises:
        UsageError: there is no such directory or archive, or it cannot be read.
    """
    if source.is_dir():
        return dict(_of_directory(source, names))
    if not source.is_file():
        raise UsageError(f"{source}: no such directory or archive")
    endings = PACKED + READ_ONLY
    if not source.name.endswith(endings):
        raise UsageError(f"{source} is neither a directory nor an archive ({', '.join(endings)})")
    of_kind = _of_zip if source.name.endswith(".zip") else _of_tar
    try:
        return dict(of_kind(source, names))
    except _DAMAGED as error:
        # Of an error of tarfile, the first line says it; the others say of each compression that it is none.
        why = str(error).partition(":\n")[0]
        raise UsageError(f"{source} cannot be read: {why}: it is damaged or cut short") from error


def _is_wanted(parts: Parts, names: Container[str]) -> bool:
    return parts[-1] in names and not any(part.startswith(".") for part in parts)


def _of_directory(source: Path, names: Container[str]) -> Iterator[tuple[Parts, bytes]]:
    """The files below a directory; links are followed."""
    finder = Finder()
    for folder, entries in finder.walk(source, hidden=False):
        wanted = [entry.name for entry in entries if entry.name in names and not entry.name.startswith(".")]
        parts = folder.relative_to(source).parts
        for name in wanted:
            try:
                yield (*parts, name), (folder / name).read_bytes()
            except OSError as error:
                raise UsageError(f"{error.filename} cannot be read: {error.strerror}") from error
    if finder.problems:
        raise UsageError("; ".join(finder.problems))


def _of_tar(source: Path, names: Container[str]) -> Iterator[tuple[Parts, bytes]]:
    """The files of a tar archive, however it is compressed."""
    with tarfile.open(source, "r:*") as packed:
        for member in packed:
            parts = tuple(part for part in member.name.split("/") if part not in ("", "."))
            if member.isfile() and _is_wanted(parts, names):
                file = packed.extractfile(member)
                assert file is not None, member.name
                yield parts, file.read()


def _of_zip(source: Path, names: Container[str]) -> Iterator[tuple[Parts, bytes]]:
    """The files of a zip archive."""
    with zipfile.ZipFile(source) as packed:
        for member in packed.infolist():
            parts = tuple(part for part in member.filename.split("/") if part not in ("", "."))
            if not member.is_dir() and _is_wanted(parts, names):
                yield parts, packed.read(member)


def pack(directory: Path, target: Path) -> None:
    """Pack all files below a directory, the same bytes for the same content whenever and by whomever it is done.

    Files and directories whose names begin with a dot are left out. Everything lies below the directory's own name.

    Args:
        directory: what to pack: an archive, or the directory of a study with its archive in it.
        target: file to write, whole or not at all; its ending (``PACKED``) says how.

    Raises:
        UsageError: no such directory, or another ending.
        DiskError: the file cannot be written.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory}: no such directory")
    if not target.name.endswith(PACKED):
        raise UsageError(f"{target}: the ending says how to pack: {', '.join(PACKED)}")
    name = directory.resolve().name
    files = {"/".join((name, *parts)): path for parts, path in sorted(_all_files(directory))}
    content = _packed_zip(files) if target.name.endswith(".zip") else _packed_tar(files, target.name.endswith(".xz"))
    with told_as(target):
        write_whole(target, content)


def _all_files(directory: Path) -> Iterator[tuple[Parts, Path]]:
    """All files below a directory, but hidden ones."""
    for folder, entries in Finder().walk(directory, hidden=False):
        for entry in entries:
            if entry.is_file() and not entry.name.startswith("."):
                yield (*folder.relative_to(directory).parts, entry.name), folder / entry.name


def _packed_zip(files: dict[str, Path]) -> bytes:
    """A zip archive, every file of the same date and rights."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, path in files.items():
            info = zipfile.ZipInfo(name, _FIRST_ZIP_DATE)
            info.create_system, info.external_attr = 3, 0o100644 << 16
            packed.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()


def _packed_tar(files: dict[str, Path], by_xz: bool) -> bytes:
    """A tar archive, every file of the same date, owner and rights."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as packed:
        for name, path in files.items():
            content = path.read_bytes()
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            packed.addfile(info, io.BytesIO(content))
    whole = buffer.getvalue()
    return lzma.compress(whole, preset=9 | lzma.PRESET_EXTREME) if by_xz else gzip.compress(whole, 9, mtime=0)
