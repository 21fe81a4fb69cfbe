"""The copy of a pack on a node is the pack that was asked for, whatever is there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcsgd.data.stage import stage, staged_path
from hpcsgd.errors import UsageError
from tests.single.record.pack_files import images_of, write_first_version, write_pack


def test_a_copy_that_is_whole_is_taken(tmp_path: Path) -> None:
    source, node = write_pack(tmp_path / "a.h5"), tmp_path / "node"
    target = stage(source, node)
    assert target == staged_path(source, node)
    made = target.stat()
    os.utime(source)
    assert stage(source, node).stat() == made
    assert list(node.iterdir()) == [target]


@pytest.mark.parametrize("write", [write_pack, write_first_version])
def test_packs_of_one_name_and_size_are_two(tmp_path: Path, write: Callable[..., Path]) -> None:
    sources = []
    for shift in (0, 1):
        (tmp_path / f"{shift}").mkdir()
        sources.append(write(tmp_path / f"{shift}" / "images.h5", shift=shift))
        os.utime(sources[-1], (1e9, 1e9))
    assert sources[0].stat().st_size == sources[1].stat().st_size
    for source in (*sources, *sources):
        assert stage(source, tmp_path / "node").read_bytes() == source.read_bytes()
    assert len(list((tmp_path / "node").iterdir())) == 2


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(images_of(0, 9)[4][0].tobytes())] ^= 1
    path.write_bytes(content)


def _empty(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("write", [write_pack, write_first_version])
@pytest.mark.parametrize("damage", [_cut, _alter, _empty])
def test_a_copy_that_was_damaged_is_made_again(
    tmp_path: Path, damage: Callable[[Path], None], write: Callable[..., Path]
) -> None:
    source = write(tmp_path / "a.h5")
    target = stage(source, tmp_path / "node")
    status = target.stat()
    damage(target)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert stage(source, tmp_path / "node").read_bytes() == source.read_bytes()


def test_a_source_that_was_altered_is_not_staged(tmp_path: Path) -> None:
    source = write_pack(tmp_path / "a.h5")
    _alter(source)
    with pytest.raises(UsageError, match="was altered: its images are not those that were packed"):
        stage(source, tmp_path / "node")
    assert list((tmp_path / "node").iterdir()) == []


def test_two_jobs_may_stage_at_once(tmp_path: Path) -> None:
    source, node = write_pack(tmp_path / "a.h5"), tmp_path / "node"
    words = "import sys, pathlib; from hpcsgd.data.stage import stage; stage(*map(pathlib.Path, sys.argv[1:]))"
    jobs = [subprocess.Popen([sys.executable, "-c", words, str(source), str(node)]) for _ in range(2)]
    assert [job.wait() for job in jobs] == [0, 0]
    assert [path.read_bytes() for path in node.iterdir()] == [source.read_bytes()]


def test_staging_says_where_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_pack(tmp_path / "a.h5")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 2})())
        with pytest.raises(UsageError, match=r"node has 0.0 GB left, and .*a.h5 needs 0.0"):
            stage(source, tmp_path / "node")
    with pytest.raises(UsageError, match="cannot read the pack .*none.h5: there is no such file"):
        stage(tmp_path / "none.h5", tmp_path / "node")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot stage .*a.h5 in .*file: File exists"):
        stage(source, tmp_path / "file")
