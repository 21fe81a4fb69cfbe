"""Batches on a device against a plain numpy account of the same recipe."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hpcsgd.config import DataConfig
from hpcsgd.data.arrays import labelled
from hpcsgd.data.batches import Loader
from hpcsgd.data.dataset import Dataset
from hpcsgd.data.make import make_loader as make
from hpcsgd.data.make import make_split
from hpcsgd.data.shards import epoch_augmentation, epoch_permutation, learner_batch
from hpcsgd.errors import UsageError

CPU = torch.device("cpu")
SEED = 4


def make_dataset(channels: int = 3, num_samples: int = 50, pixel: Any = np.uint8) -> Dataset:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (num_samples, channels, 6, 7)).astype(pixel)
    split = labelled(images, generator.integers(0, 10, num_samples))
    mean, std = (100.0, 120.5, 90.25)[:channels], (50.0, 60.5, 70.25)[:channels]
    return Dataset("test", split, labelled(images[:20], split.targets[:20]), 10, mean, std)


def make_loader(dataset: Dataset, learner: int = 0, num_learners: int = 1, local: int = 8, **options: Any) -> Loader:
    order = {"dtype": torch.float64, "channels_last": False} | {
        key: options.pop(key) for key in ("dtype", "channels_last") if key in options
    }
    return make(
        dataset,
        DataConfig(**options),
        seed=SEED,
        learner=learner,
        num_learners=num_learners,
        local_batch_size=local,
        device=CPU,
        **order,  # type: ignore[arg-type]
    )


def reference(dataset: Dataset, samples: np.ndarray, epoch: int, flip: bool, padding: int) -> np.ndarray:
    """Crop, mirror and normalise ``samples`` one by one."""
    flips, offsets = epoch_augmentation(SEED, epoch, len(dataset.train.targets), padding)
    frame = ((0, 0), (padding, padding), (padding, padding))
    _, height, width = dataset.shape
    images = []
    for sample in samples:
        row, column = offsets[sample]
        image = np.pad(dataset.train.inputs[sample], frame)[:, row : row + height, column : column + width]
        images.append(image[:, :, ::-1] if flip and flips[sample] else image)
    mean, std = (np.array(values).reshape(-1, 1, 1) for values in (dataset.mean, dataset.std))
    return (np.stack(images) - mean) / std


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("flip", "padding"), [(False, 0), (True, 0), (False, 2), (True, 3)])
@pytest.mark.parametrize(("channels", "pixel"), [(1, np.uint8), (3, np.uint8), (3, np.float32)])
def test_batches_follow_the_recipe(channels: int, pixel: Any, flip: bool, padding: int, channels_last: bool) -> None:
    dataset = make_dataset(channels, pixel=pixel)
    options = {"flip": flip, "crop_padding": padding, "channels_last": channels_last}
    loader = make_loader(dataset, learner=1, num_learners=2, **options)
    assert loader.steps_per_epoch == 3
    for step in (0, 2, 4):
        epoch, step_in_epoch = divmod(step, 3)
        samples = learner_batch(epoch_permutation(SEED, epoch, 50), step_in_epoch, 1, 2, 8, "drop")
        batch = loader.batch(step)
        images, labels = batch.inputs, batch.targets
        assert batch.sizes == [8]
        np.testing.assert_allclose(images.numpy(), reference(dataset, samples, epoch, flip, padding), rtol=1e-14)
        np.testing.assert_array_equal(labels.numpy(), dataset.train.targets[samples])
        assert images.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def test_types_of_a_batch() -> None:
    batch = make_loader(make_dataset(), dtype=torch.float32).batch(0)
    images, labels = batch.inputs, batch.targets
    assert (images.dtype, labels.dtype, images.shape, labels.shape) == (torch.float32, torch.int64, (8, 3, 6, 7), (8,))
    exact = make_loader(make_dataset(), dtype=torch.float64).batch(0).inputs
    torch.testing.assert_close(images.double(), exact, rtol=1e-5, atol=1e-6)


def test_steps_may_be_asked_for_in_any_order() -> None:
    dataset = make_dataset()
    one, other = (make_loader(dataset, flip=True, crop_padding=2) for _ in range(2))
    forward = {step: one.batch(step) for step in range(20)}
    for step in (19, 3, 3, 12, 0):
        again = other.batch(step)
        assert torch.equal(again.inputs, forward[step].inputs)
        assert torch.equal(again.targets, forward[step].targets)
    assert not torch.equal(forward[0].inputs, forward[6].inputs)  # another epoch, another order


@pytest.mark.parametrize("tail", ["drop", "wrap", "keep"])
def test_the_global_batch_does_not_depend_on_the_number_of_learners(tail: str) -> None:
    dataset = make_dataset()
    options: dict[str, Any] = {"flip": True, "crop_padding": 2, "tail": tail}
    alone = make_loader(dataset, local=12, **options)
    for num_learners in (2, 3, 4):
        ranks = [
            make_loader(dataset, rank, num_learners, 12 // num_learners, **options) for rank in range(num_learners)
        ]
        for step in range(2 * alone.steps_per_epoch):
            whole = alone.batch(step)
            parts = [rank.batch(step) for rank in ranks]
            assert torch.equal(torch.cat([part.inputs for part in parts]), whole.inputs)
            assert torch.equal(torch.cat([part.targets for part in parts]), whole.targets)


@pytest.mark.parametrize("augment", [{}, {"flip": True, "crop_padding": 1}])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_kept_tail_may_leave_a_learner_without_samples(augment: dict[str, Any], channels_last: bool) -> None:
    dataset = make_dataset(num_samples=10)
    ranks = [make_loader(dataset, rank, 4, 2, tail="keep", channels_last=channels_last, **augment) for rank in range(4)]
    assert ranks[0].steps_per_epoch == 2
    assert [len(rank.batch(1)) for rank in ranks] == [1, 1, 0, 0]
    assert ranks[3].batch(1).inputs.shape == (0, 3, 6, 7)


def test_a_batch_is_not_a_view_of_the_data() -> None:
    dataset = make_dataset(pixel=np.float32)
    before = dataset.train.inputs.copy()
    for loader in (make_loader(dataset, dtype=torch.float32), make_loader(dataset, dtype=torch.float32, flip=True)):
        loader.batch(0).inputs.zero_()
    split = make_split(dataset, dataset.train, device=CPU, dtype=torch.float32, channels_last=False)
    next(iter(split.batches(0, 8, 8)))[0].zero_()
    np.testing.assert_array_equal(dataset.train.inputs, before)


def test_too_few_samples_for_one_step() -> None:
    with pytest.raises(UsageError, match="takes 64 samples, but the training split has only 50"):
        make_loader(make_dataset(), num_learners=8)


@pytest.mark.parametrize("channels_last", [False, True])
def test_evaluation_batches_keep_the_stored_order(channels_last: bool) -> None:
    dataset = make_dataset()
    split = make_split(dataset, dataset.test, device=CPU, dtype=torch.float64, channels_last=channels_last)
    assert len(split) == 20
    batches = list(split.batches(3, 18, 6))
    assert [len(labels) for _, labels in batches] == [6, 6, 3]
    images = torch.cat([images for images, _ in batches]).numpy()
    mean, std = (np.array(values).reshape(-1, 1, 1) for values in (dataset.mean, dataset.std))
    np.testing.assert_allclose(images, (dataset.test.inputs[3:18] - mean) / std, rtol=1e-14)
    assert torch.cat([labels for _, labels in batches]).tolist() == dataset.test.targets[3:18].tolist()
    assert list(split.batches(5, 5, 6)) == []
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    assert batches[0][0].is_contiguous(memory_format=memory_format)


def test_read_only_arrays_are_copied() -> None:
    dataset = make_dataset()
    dataset.train.inputs.setflags(write=False)
    expected = make_loader(make_dataset()).batch(0).inputs
    assert torch.equal(make_loader(dataset).batch(0).inputs, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_batches() -> None:
    dataset = make_dataset()
    config = DataConfig(flip=True, crop_padding=2)
    for channels_last in (False, True):
        cpu, gpu = (
            make(
                dataset,
                config,
                seed=SEED,
                learner=0,
                num_learners=1,
                local_batch_size=8,
                device=torch.device(kind),
                dtype=torch.float64,
                channels_last=channels_last,
            )
            for kind in ("cpu", "cuda")
        )
        for step in (0, 5, 7):
            torch.testing.assert_close(gpu.batch(step).inputs.cpu(), cpu.batch(step).inputs, rtol=1e-14, atol=0)
