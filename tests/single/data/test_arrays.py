"""Arrays become samples as they are, or are refused: nothing is rounded, wrapped around or left out in silence."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from hpcsgd.config import DataConfig
from hpcsgd.data.arrays import labelled
from hpcsgd.data.dataset import Dataset, load_dataset
from hpcsgd.data.device import Normaliser, to_device
from hpcsgd.data.sets import SETS
from hpcsgd.data.sets.base import Loaded
from hpcsgd.data.sets.synthetic import Synthetic
from hpcsgd.errors import UsageError

CPU = torch.device("cpu")
IMAGES = np.arange(4 * 12, dtype=np.uint8).reshape(4, 1, 3, 4)
LABELS = np.array([0, 1, 2, 1])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "complex64", "U1", "O", "datetime64[s]"])
def test_labels_that_are_no_whole_numbers_are_refused_with_their_type(dtype: str) -> None:
    labels: Any = np.array([0, 1, 2, 1]).astype(dtype)
    with pytest.raises(
        UsageError, match=f"labels are {np.dtype(dtype)!s}.*classes are whole numbers".replace("[", r"\[")
    ):
        labelled(IMAGES, labels)


@pytest.mark.parametrize("dtype", ["int8", "uint8", ">i4", "int64", "uint64", "uint16", "bool"])
def test_whole_numbers_of_any_type_are_kept(dtype: str) -> None:
    labels: Any = np.array([0, 1, 1, 0]).astype(dtype)
    split = labelled(IMAGES, labels)
    assert split.targets.dtype == np.int64 and split.targets.tolist() == [0, 1, 1, 0]
    assert to_device(split, CPU, channels_last=False)[1].tolist() == [0, 1, 1, 0]


def test_labels_beyond_int64_are_refused() -> None:
    large: Any = np.array([0, 1, 2, 2**63], np.uint64)
    with pytest.raises(UsageError, match="labels go up to 9223372036854775808, which uint64 holds, but int64 does not"):
        labelled(IMAGES, large)


def test_labels_share_their_memory_with_the_device() -> None:
    split = labelled(IMAGES, LABELS)
    assert split.targets is LABELS
    assert to_device(split, CPU, channels_last=False)[1].data_ptr() == LABELS.ctypes.data


@pytest.mark.parametrize("dtype", ["complex64", "U1", "O"])
def test_images_that_are_no_real_numbers_are_refused(dtype: str) -> None:
    with pytest.raises(UsageError, match=f"images are {np.dtype(dtype)!s}: they must be real numbers"):
        labelled(IMAGES.astype(dtype), LABELS)


def test_images_of_the_other_byte_order_are_kept() -> None:
    split = labelled(IMAGES.astype(">f4"), LABELS)
    np.testing.assert_array_equal(to_device(split, CPU, channels_last=False)[0].numpy(), IMAGES)


def test_as_many_labels_as_images() -> None:
    with pytest.raises(UsageError, match="there are 4 images, but 3 labels"):
        labelled(IMAGES, LABELS[:3])


def dataset(images: np.ndarray[Any, Any] = IMAGES, **changes: Any) -> Dataset:
    split = labelled(images, LABELS)
    return dataclasses.replace(Dataset("own", split, split, 3, (0.0,), (1.0,)), **changes)


@pytest.mark.parametrize(
    ("stored", "wanted", "said"),
    [
        ("float64", "float32", "images are float64, and would be rounded to float32: set dtype: float64, or convert"),
        ("int32", "float32", "images are int32, and would be rounded to float32: set dtype: float64, or convert"),
        ("int64", "float32", "images are int64, and would be rounded to float32"),
        ("uint8", "float32", None),
        ("bool", "float32", None),
        ("int16", "float32", None),
        ("float16", "float32", None),
        ("float64", "float64", None),
        ("int32", "float64", None),
    ],
)
def test_images_are_never_rounded(stored: str, wanted: str, said: str | None) -> None:
    images = (IMAGES % 2).astype(stored)
    if said is None:
        normalise = Normaliser(dataset(images), CPU, getattr(torch, wanted), channels_last=False)
        taken = to_device(labelled(images, LABELS), CPU, channels_last=False)[0]
        np.testing.assert_array_equal(normalise(taken).numpy(), IMAGES % 2)
    else:
        with pytest.raises(UsageError, match=said):
            Normaliser(dataset(images), CPU, getattr(torch, wanted), channels_last=False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_classes": 2}, "own, train split: labels go from 0 to 2, expected 0 to 1"),
        ({"test": labelled(IMAGES, LABELS - 1)}, "own, test split: labels go from -1 to 1, expected 0 to 2"),
        ({"val": labelled(IMAGES, LABELS + 1)}, "own, val split: labels go from 1 to 3, expected 0 to 2"),
        ({"test": labelled(IMAGES[:0], LABELS[:0])}, "own: the test split has no samples"),
        ({"test": labelled(IMAGES[:, :, :0], LABELS)}, r"the test images are \(1, 0, 4\): there is nothing in them"),
        (
            {"test": labelled(IMAGES[:, :, :2], LABELS)},
            r"images are of shape \(1, 3, 4\), the test images \(1, 2, 4\)",
        ),
        ({"val": labelled(IMAGES / 2, LABELS)}, "training images are of type uint8, the val images float64"),
    ],
)
def test_splits_that_do_not_fit_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        dataset(**changes)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("split", ["train", "test"])
def test_images_that_are_not_finite_are_refused(value: float, split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Synthetic):
        def load(self, config: DataConfig, seed: int) -> Loaded:
            loaded = super().load(config, seed)
            getattr(loaded, split).inputs[1030, 0, 2, 1] = value
            return loaded

    monkeypatch.setitem(SETS, "synthetic", Broken())
    config = DataConfig(name="synthetic", synthetic_shape=(1, 4, 4), synthetic_test_samples=1100)
    with pytest.raises(UsageError, match=f"synthetic, {split} split: image 1030 has a value that is NaN or infinite"):
        load_dataset(config)
