"""Odd things that can happen to a file of any kind."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

Damage = Callable[[Random, Path], None]


def cut(rng: Random, path: Path) -> None:
    """Its end is missing."""
    content = path.read_bytes()
    path.write_bytes(
        content[: rng.choice([0, 1, 8, len(content) // 2, max(0, len(content) - 1), *_places(rng, content)])]
    )


def flip(rng: Random, path: Path) -> None:
    """Some bits are flipped, the first bytes as often as all others."""
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 3, 30])):
        place = rng.randrange(min(len(content), rng.choice([64, 4096, len(content)]))) if content else 0
        content[place : place + 1] = bytes([(content[place] if content else 0) ^ 1 << rng.randrange(8)])
    path.write_bytes(content)


def zeros(rng: Random, path: Path) -> None:
    """A stretch is zero, as after a crash of the machine."""
    content = bytearray(path.read_bytes())
    first, last = sorted(_places(rng, content))
    content[first:last] = bytes(last - first)
    path.write_bytes(content)


def longer(rng: Random, path: Path) -> None:
    """Something follows."""
    content = path.read_bytes()
    path.write_bytes(content + rng.choice([b"\n", b"\0", content, rng.randbytes(3000)]))


def foreign(rng: Random, path: Path) -> None:
    """It is another sort of file."""
    path.write_bytes(rng.choice(FOREIGN)())


def gone(rng: Random, path: Path) -> None:
    """It is not there."""
    path.unlink()


def folder(rng: Random, path: Path) -> None:
    """A directory has its name."""
    path.unlink()
    path.mkdir()


def dangling(rng: Random, path: Path) -> None:
    """A link to nothing, or to itself."""
    path.unlink()
    path.symlink_to(rng.choice(["nowhere", path.name]))


def pipe(rng: Random, path: Path) -> None:
    """A pipe that nobody writes to."""
    path.unlink()
    os.mkfifo(path)


def swapped(rng: Random, path: Path) -> None:
    """Another file beside or above has its content."""
    others = sorted(other for other in path.parent.parent.rglob("*") if other.is_file() and other != path)
    if not others:
        return gone(rng, path)
    shutil.copyfile(rng.choice(others), path)


def squeezed(rng: Random, path: Path) -> None:
    """It is gzipped under its old name, or named so without being it."""
    if rng.random() < 0.5:
        path.write_bytes(gzip.compress(path.read_bytes()))
    else:
        path.rename(path.with_name(f"{path.name}.gz"))


def _places(rng: Random, content: bytes | bytearray) -> list[int]:
    return [rng.randrange(len(content) + 1) for _ in range(2)]


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": 1}))
    return buffer.getvalue()


FOREIGN: tuple[Callable[[], bytes], ...] = (
    lambda: b"<html><body>404 Not Found</body></html>\n",
    lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    lambda: b"\x89PNG\r\n\x1a\n" + bytes(40),
    lambda: b"\x89HDF\r\n\x1a\n" + bytes(200),
    lambda: gzip.compress(b"hello"),
    lambda: pickle.dumps([1, 2]),
    lambda: pickle.dumps(os.getcwd),
    lambda: json.dumps({"format": 1, "step": -1, "world_size": 1, "ranks": [{"num_bytes": 0, "sha256": ""}]}).encode(),
    lambda: b"[]",
    lambda: b"[" * 100_000,
    lambda: b"null",
    lambda: b"\xff\xfeh\0i\0",
    lambda: "größe: é\n".encode("latin1"),
    _zip,
)

ALL: tuple[Damage, ...] = (cut, flip, flip, zeros, longer, foreign, foreign, gone, folder, dangling, swapped)
"""For files that hpcsgd itself has written."""

INPUT: tuple[Damage, ...] = (*ALL, pipe)
"""For files that come from elsewhere."""


def damage(rng: Random, files: list[Path], choices: tuple[Damage, ...] = ALL) -> str:
    """Do one thing to one file, or, now and then, to two; gives what was done."""
    done = []
    for path in rng.sample(files, min(len(files), rng.choice([1, 1, 1, 2]))):
        how = rng.choice(choices)
        # What was done before may have taken its directory away.
        if path.is_file():
            how(rng, path)
            done.append(f"{path.name}: {how.__name__}")
    return ", ".join(done)


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
