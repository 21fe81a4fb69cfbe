"""Files that are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcsgd import files
from hpcsgd.errors import DiskError, reason, told_as


def test_a_file_is_replaced_by_the_whole_new_one(tmp_path: Path) -> None:
    files.write_whole(tmp_path / "a", b"old")
    files.write_whole(tmp_path / "a", b"new")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"new"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("x"), KeyboardInterrupt()])
def test_what_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, error: BaseException) -> None:
    files.write_whole(tmp_path / "a", b"old")
    with pytest.raises(type(error)), files.whole(tmp_path / "a") as unfinished:
        unfinished.write_bytes(b"half")
        raise error
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"old"}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (
            RuntimeError("Problems closing file (file write failed: filename = 'x', errno = 28, error message = 'No s"),
            "No space left on device",
        ),
        (RuntimeError("Unspecified error\n in H5Dset_extent"), "Unspecified error in H5Dset_extent"),
    ],
)
def test_a_failure_is_the_disks_with_the_systems_word(tmp_path: Path, error: Exception, said: str) -> None:
    assert reason(error) == said
    with pytest.raises(DiskError, match=said), told_as(tmp_path / "a"):
        raise error
