"""Packs of images: what is in them, in which order they are read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hpcsgd.cli import main
from hpcsgd.config import DataConfig, ModelConfig, RunConfig
from hpcsgd.data.blocks import WINDOW_BLOCKS, block_permutation
from hpcsgd.data.dataset import load_dataset
from hpcsgd.data.stage import stage
from hpcsgd.data.stream import StreamLoader, StreamSplit, crop_draws, cut, random_boxes
from hpcsgd.errors import UsageError
from hpcsgd.train import run

CPU = torch.device("cpu")


def make_folders(root: Path, train: int = 12, test: int = 3, side: int = 20) -> Path:
    """Images of two classes, dark and bright, of several shapes and both formats."""
    generator = np.random.default_rng(0)
    for split, count in (("train", train), ("val", test)):
        for name, level in (("bright", 200), ("dark", 40)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(level - 30, level + 30, (side + number % 3, side + number % 5, 3))
                ending = "png" if number % 2 else "jpg"
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:03}.{ending}")
    return root


@pytest.fixture
def packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A pack of such images."""
    target = tmp_path / "out.h5"
    assert main(["data", "pack", str(make_folders(tmp_path / "images")), str(target), "--size", "16"]) == 0
    assert "24 training and 6 test images of 2 classes" in capsys.readouterr().out
    return target


def loader_of(packed: Path, learner: int = 0, num_learners: int = 1, batch: int = 4, **changes: object) -> StreamLoader:
    config = DataConfig(name="pack", dir=str(packed), **{"block_size": 3, **changes})  # type: ignore[arg-type]
    return StreamLoader(
        load_dataset(config),
        config,
        seed=1,
        learner=learner,
        num_learners=num_learners,
        local_batch_size=batch,
        device=CPU,
        dtype=torch.float64,
        channels_last=False,
    )


def test_a_pack_is_contiguous_and_holds_what_was_packed(packed: Path) -> None:
    with h5py.File(packed, "r") as file:
        for split, count in (("train", 24), ("test", 6)):
            assert file[f"{split}/images"].shape == (count, 16, 16, 3)
            assert file[f"{split}/images"].chunks is None
        assert list(file.attrs["classes"]) == ["bright", "dark"]
        images, labels = file["train/images"][:], file["train/labels"][:]
    assert sorted(labels) == [0] * 12 + [1] * 12
    assert labels.tolist() != sorted(labels), "mixed"
    assert ((images.mean(axis=(1, 2, 3)) < 120) == (labels == 1)).all()
    data = load_dataset(DataConfig(name="pack", dir=str(packed)))
    np.testing.assert_allclose(data.mean, images.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(data.std, images.std(axis=(0, 1, 2)))
    assert isinstance(data.train.images.base, np.memmap)
    assert (data.train.images.transpose(0, 2, 3, 1) == images).all()


def test_an_image_is_its_middle_at_the_size_asked_for(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "images", train=2, test=2)
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 10:30] = 255
    Image.fromarray(pixels).save(root / "train" / "dark" / "wide.png")
    data = load_dataset(DataConfig(name="image_folder", dir=str(root), image_size=20))
    assert data.train.images.shape == (5, 3, 20, 20)
    assert (data.train.images[-1] == 255).all()
    assert data.train.labels.tolist() == [0, 0, 1, 1, 1]


@given(st.integers(1, 3000), st.integers(1, 40), st.integers(0, 3))
def test_an_epoch_is_a_permutation_of_near_blocks(size: int, block: int, epoch: int) -> None:
    order = block_permutation(7, epoch, size, block)
    assert sorted(order) == list(range(size))
    assert (order == block_permutation(7, epoch, size, block)).all()
    window = WINDOW_BLOCKS * block
    for first in range(0, size, window):
        # Of a window, only so many blocks are read; after a short block, it takes some samples of the next window too.
        assert len(set(order[first : first + window] // block)) <= WINDOW_BLOCKS + block - 1


def test_ranks_share_an_epoch(packed: Path) -> None:
    seen = []
    for learner in range(3):
        loader = loader_of(packed, learner, 3, 2)
        assert loader.steps_per_epoch == 4
        seen += [samples for step in range(4) for samples in np.concatenate(loader._samples(step))]
        loader.close()
    assert sorted(seen) == list(range(24))


@pytest.mark.parametrize("augmented", [False, True])
def test_a_batch_is_a_function_of_its_step(packed: Path, augmented: bool) -> None:
    changes = {"random_resized_crop": True, "flip": True, "image_size": 12} if augmented else {}
    loader, other = loader_of(packed, **changes), loader_of(packed, **changes)
    forward = [loader.batch(step) for step in range(9)]
    for step in (8, 2, 3, 0, 7):
        images, labels = other.batch(step)
        assert torch.equal(images, forward[step][0])
        assert torch.equal(labels, forward[step][1])
    assert forward[0][0].shape == (4, 3, *([12, 12] if augmented else [16, 16]))
    assert not torch.equal(forward[0][0], forward[6][0]), "another epoch"
    loader.close()
    other.close()


def test_without_augmentation_a_batch_is_the_stored_images(packed: Path) -> None:
    loader = loader_of(packed)
    data = load_dataset(DataConfig(name="pack", dir=str(packed)))
    images, labels = loader.batch(1)
    (samples,) = loader._samples(1)
    stored = torch.from_numpy(np.array(data.train.images[samples])).double()
    mean, std = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (data.mean, data.std))
    torch.testing.assert_close(images, (stored - mean) / std, rtol=1e-9, atol=1e-9)
    assert labels.tolist() == data.train.labels[samples].tolist()
    loader.close()


def test_a_failure_of_the_reader_reaches_the_training(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = loader_of(packed)
    read = loader._read

    def fail(step: int) -> torch.Tensor:
        if step == 1:
            raise OSError("the disk is gone")
        return read(step)

    monkeypatch.setattr(loader, "_read", fail)
    loader.batch(0)
    with pytest.raises(OSError, match="the disk is gone"):
        loader.batch(1)
    loader.close()


def test_boxes_have_the_areas_and_shapes_that_are_drawn() -> None:
    boxes = random_boxes(crop_draws(0, 0, 5000))
    sides, places = boxes[:, :2], boxes[:, 2:]
    assert (sides <= 1).all() and (np.abs(places) + sides <= 1 + 1e-12).all(), "within the image"
    whole = (sides < 1).all(axis=1)
    area, ratio = sides[whole].prod(axis=1), sides[whole, 0] / sides[whole, 1]
    assert area.min() >= 0.08 - 1e-12 and area.max() <= 1
    assert ratio.min() >= 0.75 - 1e-12 and ratio.max() <= 4 / 3 + 1e-12


def test_cutting_by_hand() -> None:
    images = torch.arange(16.0).view(1, 1, 4, 4)
    whole, mirrored = [1.0, 1.0, 0.0, 0.0], [-1.0, 1.0, 0.0, 0.0]
    assert torch.allclose(cut(images, torch.tensor([whole]), 4), images)
    assert torch.allclose(cut(images, torch.tensor([mirrored]), 4), images.flip(3))
    corner = torch.tensor([[0.5, 0.5, -0.5, -0.5]])
    assert torch.allclose(cut(images, corner, 2), images[:, :, :2, :2])


def test_a_split_gives_the_middle_of_its_images(packed: Path) -> None:
    data = load_dataset(DataConfig(name="pack", dir=str(packed), image_size=10, validation_samples=4))
    assert data.val is not None and len(data.val.labels) == 4 and len(data.train.labels) == 20
    split = StreamSplit(data, data.test, device=CPU, dtype=torch.float32, channels_last=True)
    batches = list(split.batches(1, 6, 2))
    assert [tuple(images.shape) for images, _ in batches] == [(2, 3, 10, 10), (2, 3, 10, 10), (1, 3, 10, 10)]
    stored = torch.from_numpy(np.array(data.test.images[1, :, 3:13, 3:13])).float()
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
    torch.testing.assert_close(batches[0][0][0], (stored - mean) / std)


def test_a_run_on_a_pack_learns(packed: Path, tmp_path: Path) -> None:
    config = RunConfig(
        epochs=3,
        local_batch_size=6,
        progress="none",
        threads=1,
        run_dir=str(tmp_path / "run"),
        model=ModelConfig(widths=(8,)),
        data=DataConfig(
            name="pack",
            dir=str(packed),
            random_resized_crop=True,
            flip=True,
            image_size=8,
            stage_dir=str(tmp_path / "node"),
        ),
    )
    assert run(config).metrics["test"].accuracy == 1.0
    assert (tmp_path / "node" / "out.h5").read_bytes() == packed.read_bytes()


def test_staging_copies_once_and_again_what_changed(tmp_path: Path) -> None:
    source, node = tmp_path / "a.h5", tmp_path / "node"
    source.write_bytes(b"one")
    target = stage(source, node)
    made = target.stat().st_mtime_ns
    assert stage(source, node).stat().st_mtime_ns == made
    source.write_bytes(b"other")
    assert stage(source, node).read_bytes() == b"other"
    assert [path.name for path in node.iterdir()] == ["a.h5"]


def test_staging_says_where_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a.h5"
    source.write_bytes(b"one")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 2})())
    with pytest.raises(UsageError, match=r"node has 0.0 GB left, and .*a.h5 needs 0.0"):
        stage(source, tmp_path / "node")
    with pytest.raises(UsageError, match="cannot stage .*none.h5 in .*: No such file"):
        stage(tmp_path / "none.h5", tmp_path / "node")


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


def test_large_folders_are_to_be_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcsgd.data.dataset.MOST_BYTES", 1000)
    with pytest.raises(UsageError, match=r"pack it \(hpcsgd data pack\), and set data.name to pack"):
        load_dataset(DataConfig(name="image_folder", dir=str(make_folders(tmp_path, 2, 1))))
