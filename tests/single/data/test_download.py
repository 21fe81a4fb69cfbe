"""Downloads: what arrives whole is kept, what does not is named and taken away."""

from __future__ import annotations

import hashlib
import http.server
import io
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hpcsgd.data.download import download, from_web, open_url, run_command, unpack
from hpcsgd.data.published import Published
from hpcsgd.errors import UsageError

Web = Callable[[dict[str, bytes]], Callable[[str], AbstractContextManager[Any]]]


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without a log."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address under which this machine serves it to itself."""
    folder = tmp_path / "served"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def test_from_a_real_server(served: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, address = served
    content = bytes(range(256)) * 10000
    (folder / "file").write_bytes(content)
    download(address + "file", tmp_path / "got", hashlib.md5(content).hexdigest(), open_url)
    assert (tmp_path / "got").read_bytes() == content
    assert capsys.readouterr().err == f"{address}file: 2.6 of 2.6 MB\n"
    with pytest.raises(UsageError, match="/absent: HTTP Error 404"):
        download(address + "absent", tmp_path / "none", "", open_url)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("content", "md5", "words"),
    [(b"12<cut>", "", "broke off after 7 of 8 bytes"), (b"12", "0" * 32, "its MD5 is c20ad4d7.*, expected 0000")],
)
def test_what_does_not_arrive_whole_is_taken_away(
    tmp_path: Path, fake_web: Web, content: bytes, md5: str, words: str
) -> None:
    with pytest.raises(UsageError, match=f"http://x/a: {words}"):
        download("http://x/a", tmp_path / "a", md5, fake_web({"http://x/a": content}))
    assert list(tmp_path.iterdir()) == []


def test_the_second_address_is_tried(tmp_path: Path, fake_web: Web) -> None:
    published = Published("x", 1, (1, 1), (), ("http://one/", "http://two/"), {"a": "", "b": ""})
    pages = {"http://one/a": b"1", "http://two/a": b"2", "http://two/b": b"2"}
    from_web(published, tmp_path, fake_web(pages))
    assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"2", b"2"]
    del pages["http://two/b"]
    with pytest.raises(UsageError, match="http://one/b: no such page.*; http://two/b: no such page"):
        from_web(published, tmp_path, fake_web(pages))


def tar_of(*members: tuple[str, bytes | None]) -> bytes:
    """A gzipped tar archive; a member without content is a symbolic link to /etc."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc"
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def test_an_archive_cannot_write_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    folder.mkdir(parents=True)
    (folder / "x.tar.gz").write_bytes(
        tar_of(("set/a.bin", b"1"), ("../../b.bin", b"2"), ("/c.bin", b"3"), ("link", None))
    )
    unpack(folder / "x.tar.gz")
    files = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"deep/folder/a.bin": b"1", "deep/folder/b.bin": b"2", "deep/folder/c.bin": b"3"}


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(tar_of(("a", bytes(5000)))[:-20])
    with pytest.raises(UsageError, match=r"x\.tar\.gz cannot be unpacked"):
        unpack(archive)


def test_a_command_that_fails_gives_its_reason(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no-such-command is not on this machine"):
        run_command(["no-such-command", "x"], tmp_path)
    text = "import sys; sys.exit('N: a note\\nE: the reason\\nN: another')"
    with pytest.raises(UsageError, match="E: the reason$"):
        run_command([sys.executable, "-c", text], tmp_path)
    with pytest.raises(UsageError, match="exit code 3"):
        run_command([sys.executable, "-c", "raise SystemExit(3)"], tmp_path)
