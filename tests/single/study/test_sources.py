"""Packed archives: the same bytes every time, read where they lie, and refused when they are damaged."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from hpcsgd.errors import DiskError, UsageError
from hpcsgd.study.archive import read_archive
from hpcsgd.study.sources import PACKED, pack
from tests.single.study.studies import same_trials, study, trial, write_study


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive with two studies, and what a killed writer left."""
    root = tmp_path / "kept" / "archive"
    for size in (8, 16):
        write_study(root, study([trial(i, {1: 0.5, 2: 0.1 / (i + 1)}, rate=0.1 * i) for i in range(12)], size))
    (root / "mnist" / "cnn" / ".left").mkdir()
    (root / "mnist" / "cnn" / ".left" / "metadata.json").write_text("{")
    return root.parent


@pytest.mark.parametrize("ending", PACKED)
def test_a_packed_archive_is_read_as_its_directory(archive: Path, tmp_path: Path, ending: str) -> None:
    target = tmp_path / f"a{ending}"
    pack(archive, target)
    studies, packed = read_archive(archive), read_archive(target)
    assert [(s.workload, s.batch_size, s.settings) for s in studies] == [
        (s.workload, s.batch_size, s.settings) for s in packed
    ]
    assert all(same_trials(one.trials, other.trials) for one, other in zip(studies, packed, strict=True))
    assert not [path for path in tmp_path.iterdir() if path not in (target, archive)]


@pytest.mark.parametrize("ending", PACKED)
def test_packing_gives_the_same_bytes_for_the_same_content(archive: Path, tmp_path: Path, ending: str) -> None:
    one, other = tmp_path / f"one{ending}", tmp_path / f"other{ending}"
    pack(archive, one)
    again = tmp_path / "elsewhere" / "kept"
    # Other inodes, dates, rights and an order of creation from last to first.
    for path in sorted(archive.rglob("*"), reverse=True):
        if path.is_file():
            place = again / path.relative_to(archive)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
            place.chmod(0o600)
            os.utime(place, (1e9, 1e9))
    pack(again, other)
    assert one.read_bytes() == other.read_bytes()
    if ending == ".tar.gz":
        assert one.read_bytes()[4:8] == bytes(4), "the hour of packing"
    (again / "archive" / "mnist" / "cnn" / "nesterov_momentum" / "8" / "study.json").write_text("{}")
    pack(again, other)
    assert one.read_bytes() != other.read_bytes()


def test_an_archive_packed_by_tar_itself_is_read(archive: Path, tmp_path: Path) -> None:
    target = tmp_path / "by_tar.tar.bz2"
    with tarfile.open(target, "w:bz2") as packed:
        packed.add(archive, "./kept")
    assert [item.batch_size for item in read_archive(target)] == [8, 16]


@pytest.mark.parametrize("ending", [".tar.xz", ".tar.gz"])
def test_tar_unpacks_what_is_packed(archive: Path, tmp_path: Path, ending: str) -> None:
    target = tmp_path / f"a{ending}"
    pack(archive, target)
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xf", target, "-C", tmp_path / "out"], check=True, timeout=60)
    assert [item.batch_size for item in read_archive(tmp_path / "out" / "kept")] == [8, 16]
    assert not list((tmp_path / "out").rglob(".left"))


@pytest.mark.parametrize("ending", PACKED)
@pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
def test_a_packed_archive_that_is_cut_short_is_refused(archive: Path, tmp_path: Path, ending: str, part: float) -> None:
    target = tmp_path / f"a{ending}"
    pack(archive, target)
    content = target.read_bytes()
    target.write_bytes(content[: int(part * len(content))])
    with pytest.raises(UsageError, match="a.* cannot be read: .* damaged or cut short"):
        read_archive(target)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere: no such directory or archive"):
        read_archive(tmp_path / "nowhere")
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(UsageError, match=r"neither a directory nor an archive \(.tar.xz, .tar.gz, .zip"):
        read_archive(tmp_path / "a.csv")


def test_packing_is_refused_without_a_trace(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such directory"):
        pack(tmp_path / "nowhere", tmp_path / "a.zip")
    with pytest.raises(UsageError, match="the ending says how to pack: .tar.xz, .tar.gz, .zip"):
        pack(archive, tmp_path / "a.rar")
    with pytest.raises(DiskError, match="cannot write"):
        pack(archive, tmp_path / "nowhere" / "a.zip")
    assert list(tmp_path.iterdir()) == [archive]
