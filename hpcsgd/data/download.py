"""Files of a data set from the web and from Debian's archive, each checked or refused with its reason."""

from __future__ import annotations

import hashlib
import http.client
import os
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from hpcsgd.data.published import Published
from hpcsgd.errors import UsageError

Opener = Callable[[str], AbstractContextManager[Any]]
_CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60
_COMMAND_TIMEOUT_SECONDS = 900


def open_url(url: str) -> AbstractContextManager[Any]:
    """Open ``url`` for reading."""
    response: AbstractContextManager[Any] = urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS)
    return response


def from_web(published: Published, folder: Path, opener: Opener) -> None:
    """Download the files of a data set into ``folder`` and unpack archives; the first address that works is taken.

    Raises:
        UsageError: no address gave all files with their checksums; names each address's reason.
    """
    reasons = []
    for address in published.addresses:
        try:
            for name, md5 in published.downloads.items():
                download(address + name, folder / name, md5, opener)
                if name.endswith(".tar.gz"):
                    unpack(folder / name)
            return
        except UsageError as error:
            reasons.append(str(error))
    raise UsageError("; ".join(reasons))


def download(url: str, path: Path, md5: str, opener: Opener) -> None:
    """Download ``url`` to ``path``, with its progress on stderr.

    Args:
        url: address.
        path: file to write; taken away again where the download fails.
        md5: checksum of the bytes, or "" for none.
        opener: opens an address.

    Raises:
        UsageError: the address cannot be reached, the connection breaks off, or the checksum differs.
    """
    digest = hashlib.md5(usedforsecurity=False)
    received = 0
    try:
        with opener(url) as response, path.open("wb") as file:
            length = int(response.headers.get("Content-Length") or 0)
            while chunk := response.read(_CHUNK_BYTES):
                file.write(chunk)
                digest.update(chunk)
                received += len(chunk)
                _show(url, received, length, last=False)
        _show(url, received, length, last=True)
    except (OSError, http.client.HTTPException, ValueError) as error:
        path.unlink(missing_ok=True)
        raise UsageError(f"{url}: {error}") from None
    if length and received != length:
        path.unlink()
        raise UsageError(f"{url}: broke off after {received} of {length} bytes")
    if md5 and digest.hexdigest() != md5:
        path.unlink()
        raise UsageError(f"{url}: its MD5 is {digest.hexdigest()}, expected {md5}")


def _show(url: str, received: int, length: int, *, last: bool) -> None:
    """Progress of a download on stderr: one changing line on a terminal, else one line at its end."""
    terminal = sys.stderr.isatty()
    if terminal or last:
        total = f" of {length / 1e6:.1f}" if length else ""
        start = "\r" if terminal else ""
        print(f"{start}{url}: {received / 1e6:.1f}{total} MB", end="\n" if last else "", file=sys.stderr, flush=True)


def unpack(archive: Path) -> None:
    """Copy every regular file of a tar archive beside it, without the archive's folders, and remove the archive.

    Names are cut to their last part, and links and devices are left out: an archive cannot write elsewhere.

    Raises:
        UsageError: the archive is damaged.
    """
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is not None:
                    (archive.parent / os.path.basename(member.name)).write_bytes(content.read())
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UsageError(f"{archive.name} cannot be unpacked: {error}") from None
    archive.unlink()


def from_debian_archive(package: str, folder: Path) -> None:
    """Download Debian package ``package`` and unpack it in ``folder``; needs no root and installs nothing.

    Raises:
        UsageError: a command is missing or fails.
    """
    with tempfile.TemporaryDirectory(dir=folder) as work:
        # apt as root downloads as the user _apt where it may; give it a folder that it can write to.
        os.chmod(work, 0o755)
        run_command(["apt-get", "download", package], Path(work))
        files = sorted(Path(work).glob("*.deb"))
        if not files:
            raise UsageError(f"apt-get download {package} left no file")
        run_command(["dpkg", "-x", str(files[-1]), str(folder)], Path(work))


def run_command(command: list[str], folder: Path) -> None:
    """Run ``command`` in ``folder``.

    Raises:
        UsageError: there is no such command, it takes too long, or it fails; gives its last words.
    """
    words = " ".join(command[:3])
    try:
        result = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_SECONDS,
        )
    except FileNotFoundError:
        raise UsageError(f"{command[0]} is not on this machine") from None
    except subprocess.TimeoutExpired:
        raise UsageError(f"{words} took longer than {_COMMAND_TIMEOUT_SECONDS} s") from None
    if result.returncode != 0:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        reason = next((line for line in lines if line.startswith("E:")), lines[-1])
        hint = " (does `apt-get update` help?)" if command[0] == "apt-get" else ""
        raise UsageError(f"{words}: {reason}{hint}")
