"""Packs of images: in which order they are read, and what becomes of an image on its way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcsgd.config import DataConfig, ModelConfig, RunConfig
from hpcsgd.data.blocks import WINDOW_BLOCKS, block_permutation
from hpcsgd.data.dataset import load_dataset
from hpcsgd.data.make import make_loader
from hpcsgd.data.stream import Raw, StreamLoader, StreamSplit
from hpcsgd.train import run

CPU = torch.device("cpu")


def loader_of(packed: Path, learner: int = 0, num_learners: int = 1, batch: int = 4, **changes: object) -> StreamLoader:
    config = DataConfig(name="pack", dir=str(packed), **{"block_size": 3, **changes})  # type: ignore[arg-type]
    loader = make_loader(
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
    assert isinstance(loader, StreamLoader)
    return loader


@settings(deadline=None)
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
        seen += [samples for step in range(4) for samples in np.concatenate(loader._order.samples(step))]
        loader.close()
    assert sorted(seen) == list(range(24))


AUGMENTED = {"random_resized_crop": True, "flip": True, "image_size": 12}


@pytest.mark.parametrize("changes", [{}, AUGMENTED, AUGMENTED | {"antialias": True}])
def test_a_batch_is_a_function_of_its_step(packed: Path, changes: dict[str, object]) -> None:
    loader, other = loader_of(packed, **changes), loader_of(packed, **changes)
    forward = [loader.batch(step) for step in range(9)]
    for step in (8, 2, 3, 0, 7):
        again = other.batch(step)
        assert torch.equal(again.inputs, forward[step].inputs)
        assert torch.equal(again.targets, forward[step].targets)
    assert forward[0].inputs.shape == (4, 3, *([12, 12] if changes else [16, 16]))
    assert not torch.equal(forward[0].inputs, forward[6].inputs), "another epoch"
    loader.close()
    other.close()


def test_without_augmentation_a_batch_is_the_stored_images(packed: Path) -> None:
    loader = loader_of(packed)
    data = load_dataset(DataConfig(name="pack", dir=str(packed)))
    batch = loader.batch(1)
    (samples,) = loader._order.samples(1)
    stored = torch.from_numpy(np.array(data.train.inputs[samples])).double()
    mean, std = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (data.mean, data.std))
    torch.testing.assert_close(batch.inputs, (stored - mean) / std, rtol=1e-9, atol=1e-9)
    assert batch.targets.tolist() == data.train.targets[samples].tolist()
    loader.close()


def test_a_failure_of_the_reader_reaches_the_training(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = loader_of(packed)
    read = loader.read

    def fail(step: int) -> Raw:
        if step == 1:
            raise OSError("the disk is gone")
        return read(step)

    monkeypatch.setattr(loader, "read", fail)
    loader.batch(0)
    with pytest.raises(OSError, match="the disk is gone"):
        loader.batch(1)
    loader.close()


def test_a_split_gives_the_middle_of_its_images(packed: Path) -> None:
    data = load_dataset(DataConfig(name="pack", dir=str(packed), image_size=10, validation_samples=4))
    assert data.val is not None and len(data.val.targets) == 4 and len(data.train.targets) == 20
    split = StreamSplit(data, data.test, device=CPU, dtype=torch.float32, channels_last=True)
    batches = list(split.batches(1, 6, 2))
    assert [tuple(images.shape) for images, _ in batches] == [(2, 3, 10, 10), (2, 3, 10, 10), (1, 3, 10, 10)]
    stored = torch.from_numpy(np.array(data.test.inputs[1, :, 3:13, 3:13])).float()
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
    assert run(config).metrics["test"].values["accuracy"] == 1.0
    (staged,) = (tmp_path / "node").iterdir()
    assert staged.read_bytes() == packed.read_bytes()
