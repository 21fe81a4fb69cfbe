"""``hpcsgd data pack``: what is in a pack, what it leaves out, and that nothing is left where it fails."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from hpcsgd.cli import main
from hpcsgd.config import DataConfig
from hpcsgd.data.dataset import load_dataset
from hpcsgd.errors import UsageError
from hpcsgd.record.pack import open_pack
from hpcsgd.record.pack_writer import PackWriter
from tests.single.data.image_files import make_folders, save

Pack = Callable[..., tuple[int, str, str]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of three training and one test image."""
    return make_folders(tmp_path / "images", 3, 1)


@pytest.fixture
def pack(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Pack:
    """A function that packs ``root`` into out.h5: the exit code, what was printed, and the lines for the user."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["data", "pack", str(root), str(tmp_path / "out.h5"), "--size", "8", *words])
        captured = capsys.readouterr()
        return code, captured.out, "\n".join(line for line in captured.err.splitlines() if line.startswith("hpcsgd: "))

    return run


def left(folder: Path) -> list[str]:
    """What is in a folder beside the images."""
    return sorted(path.name for path in folder.iterdir() if path.name != "images")


def test_a_pack_is_contiguous_and_holds_what_was_packed(packed: Path) -> None:
    with h5py.File(packed, "r") as file:
        for split, count in (("train", 24), ("test", 6)):
            assert file[f"{split}/images"].shape == (count, 16, 16, 3)
            assert file[f"{split}/images"].chunks is None
        assert list(file["classes"]) == [b"bright", b"dark"]
        images, labels = file["train/images"][:], file["train/labels"][:]
    assert sorted(labels) == [0] * 12 + [1] * 12
    assert labels.tolist() != sorted(labels), "mixed"
    assert ((images.mean(axis=(1, 2, 3)) < 120) == (labels == 1)).all()
    data = load_dataset(DataConfig(name="pack", dir=str(packed)))
    np.testing.assert_allclose(data.mean, images.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(data.std, images.std(axis=(0, 1, 2)))
    assert isinstance(data.train.inputs.base, np.memmap)
    assert (data.train.inputs.transpose(0, 2, 3, 1) == images).all()


def test_what_cannot_be_packed_or_read_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, target = make_folders(tmp_path / "images", 2, 1), tmp_path / "out.h5"

    def said(*words: str) -> str:
        assert main(["data", "pack", *words]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert "has no folder train" in said(str(tmp_path), str(target))
    (root / "train" / "dark" / "bad.png").write_text("no image")
    assert "cannot read the image" in said(str(root), str(target)) and not list(tmp_path.glob("out*"))
    (root / "train" / "dark" / "bad.png").unlink()
    (root / "val" / "green").mkdir()
    assert "has the class green, which" in said(str(root), str(target))
    (root / "val" / "green").rmdir()
    assert "exists: give another name" in said(str(root), str(tmp_path), "--overwrite")
    target.write_text("something")
    assert "exists: give another name, or --overwrite" in said(str(root), str(target))
    with pytest.raises(UsageError, match="cannot read the pack"):
        load_dataset(DataConfig(name="pack", dir=str(target)))
    assert main(["data", "pack", str(root), str(target), "--overwrite", "--size", "8"]) == 0
    target.write_bytes(target.read_bytes()[:-200])
    with pytest.raises(UsageError, match="cannot read the pack"):
        load_dataset(DataConfig(name="pack", dir=str(target)))
    with pytest.raises(UsageError, match="no data.dir is given: name the file of hpcsgd data pack"):
        load_dataset(DataConfig(name="pack"))


def test_a_bad_file_need_not_cost_the_pack(root: Path, tmp_path: Path, pack: Pack) -> None:
    for name in ("a.png", "b.png", "c.png", "d.png"):
        (root / "train" / "dark" / name).write_text("no image")
    (root / "val" / "bright" / "a.jpg").touch()
    code, _, told = pack()
    assert code == 2 and told.endswith("(--skip_bad leaves such files out)") and left(tmp_path) == []
    code, printed, told = pack("--skip_bad")
    assert code == 0
    assert printed.endswith("out.h5: 6 training and 2 test images of 2 classes, 5 skipped\n")
    assert told.startswith("hpcsgd: skipped files that cannot be read: 5 (") and told.endswith(", ...)")
    assert "in no format that Pillow knows" in told
    found = open_pack(tmp_path / "out.h5")
    assert found.is_whole()
    assert sorted(found.labels["train"]) == [0, 0, 0, 1, 1, 1] and found.labels["test"].tolist() == [0, 1]
    dark = found.labels["train"] == 1
    assert (found.images["train"][dark].mean(axis=(1, 2, 3)) < 120).all()
    assert (found.images["train"][~dark].mean(axis=(1, 2, 3)) > 120).all()
    data = load_dataset(DataConfig(name="pack", dir=str(tmp_path / "out.h5")))
    assert len(data.train.targets) == 6


def test_without_skips_the_pack_is_the_same(tmp_path: Path, pack: Pack) -> None:
    assert pack()[0] == 0
    digest = open_pack(tmp_path / "out.h5").digest
    assert pack("--overwrite", "--skip_bad")[1].endswith("2 classes, 0 skipped\n")
    assert open_pack(tmp_path / "out.h5").digest == digest


def test_files_are_packed_as_they_are(root: Path, tmp_path: Path, pack: Pack) -> None:
    (root / "train" / "dark" / "bad.png").write_text("no image")
    assert pack("--encoded")[0] == 2 and left(tmp_path) == []
    code, printed, told = pack("--encoded", "--skip_bad")
    files = [file.read_bytes() for file in root.glob("*/*/*") if file.name != "bad.png"]
    assert code == 0 and "6 training and 2 test images of 2 classes, 1 skipped, " in printed
    assert told.startswith("hpcsgd: skipped files that cannot be read: 1 (")
    found = open_pack(tmp_path / "out.h5")
    assert found.is_whole() and found.labels["test"].tolist() == [0, 1]
    kept = [images.read(number) for images in found.images.values() for number in range(len(images))]  # type: ignore
    assert sorted(kept) == sorted(files)
    assert f"{(sum(map(len, files)) + 10) / 9e3:.1f} kB an image" in printed


@pytest.mark.parametrize(
    ("split", "said"),
    [("train", r"classes without a training image that can be read: 1 (dark)"), ("val", "no test image can")],
)
def test_a_class_or_a_split_that_is_lost_is_refused(
    root: Path, tmp_path: Path, pack: Pack, split: str, said: str
) -> None:
    for file in (root / split).glob("dark/*" if split == "train" else "*/*"):
        file.write_bytes(b"")
    code, _, told = pack("--skip_bad")
    assert code == 2 and said in told and left(tmp_path) == []


def test_what_is_left_out_is_said_once(root: Path, pack: Pack) -> None:
    save(root / "train" / ".ipynb_checkpoints" / "0.png")
    save(
        root / "train" / "dark" / "turned.jpg",
        exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0",
    )
    code, printed, told = pack()
    assert code == 0 and "7 training" in printed
    assert told.splitlines() == [
        f"hpcsgd: {root}: left out: hidden or of the system: 1 (train/.ipynb_checkpoints)",
        "hpcsgd: images 1 with an EXIF orientation, which is not applied",
    ]


def test_names_of_classes_are_bytes(root: Path, tmp_path: Path, pack: Pack) -> None:
    for split in ("train", "val"):
        os.rename(bytes(root / split / "dark"), bytes(root / split) + b"/caf\xe9")
    assert pack()[0] == 0
    assert open_pack(tmp_path / "out.h5").classes == ["bright", "caf\udce9"]


def test_a_full_disk_is_said_in_one_line_and_leaves_nothing(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "new" / "folder" / "out.h5"

    def said() -> str:
        assert main(["data", "pack", str(root), str(target)]) in (1, 2)
        assert left(tmp_path) == []
        return capsys.readouterr().err.splitlines()[-1]

    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 2})())
        assert "new/folder has 2e-09 GB left, and the pack needs 0.00164: name another place" in said()

    def full(*_: object) -> None:
        raise RuntimeError("Can't decrement id ref count (errno = 28, error message = 'No space left on device')")

    def fuller(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name, failure in (("finish", full), ("write", fuller), ("__init__", full)):
        with monkeypatch.context() as patch:
            patch.setattr(PackWriter, name, failure)
            assert said().endswith("out.h5: No space left on device; what was kept before is whole")


def test_a_pack_that_fails_leaves_the_one_before(root: Path, tmp_path: Path, pack: Pack) -> None:
    assert pack()[0] == 0
    before = (tmp_path / "out.h5").read_bytes()
    (root / "train" / "dark" / "bad.png").touch()
    assert pack("--overwrite")[0] == 2
    assert (tmp_path / "out.h5").read_bytes() == before and left(tmp_path) == ["out.h5"]


def test_a_job_that_ends_leaves_nothing(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(PackWriter, "finish", lambda writer: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit, match="143"):
        pack()
    assert left(tmp_path) == [] and signal.getsignal(signal.SIGTERM) is before
