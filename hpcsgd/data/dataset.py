"""Data sets as numpy arrays, as a run takes them: what is held out, the share that is trained on, the moments."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from hpcsgd.config import DataConfig
from hpcsgd.data.arrays import ArraySplit, check_finite, check_labels
from hpcsgd.data.identity import Identity, checksum, known_classes
from hpcsgd.data.sets import SETS
from hpcsgd.errors import UsageError

__all__ = ["ArraySplit", "Dataset", "load_dataset", "num_kept", "num_train_samples", "share_of"]

SHARE_SEED = 0  # fixed: what a fraction of a data set is must not depend on a run's seed
_CHUNK = 1024  # images whose float64 copy is alive at once in _moments


class Samples(Protocol):
    """A split whose samples have numbers."""

    def __len__(self) -> int: ...

    def part(self, samples: slice | NDArray[np.int64]) -> Self:
        """Some of them."""


S = TypeVar("S", bound=Samples)


@dataclass(frozen=True)
class Dataset:
    """A training and a test split, and perhaps a validation split, that fit together.

    Attributes:
        name: data set.
        train: training split, without what is held out.
        test: test split.
        num_classes: classes; every label is below.
        mean: of the training pixels as stored, by channel; empty: nothing is normalised.
        std: standard deviation likewise; 1 for a channel that is constant.
        crop: height and width that images are cut to when they are read from the disk; None: they are in memory, as
            they are.
        val: what ``data.validation_samples`` holds out of the training split; None where that is 0.
        classes: names of the classes; empty: they have none.
        digest: checksum of what the splits were read from; None: the arrays themselves are summed when it is asked for.
        remarks: what of the files was left out or not kept, a line each, for the user.

    Raises:
        UsageError: a split is empty, has labels that are no classes, or other images than the training split.
    """

    name: str
    train: ArraySplit
    test: ArraySplit
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    val: ArraySplit | None = None
    crop: int | None = None
    remarks: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    digest: int | str | None = None

    @cached_property
    def identity(self) -> Identity:
        """What the data is, in values that JSON holds: equal on every machine for equal data."""
        there = self.splits
        found = self.digest
        if found is None:
            # The labels of a text are its tokens again: of each sequence, the last one alone is new.
            parts = ((s.inputs, s.targets if s.targets.ndim == 1 else s.targets[:, -1]) for s in there.values())
            found = checksum([array for part in parts for array in part])
        return {
            "samples": {name: len(split) for name, split in there.items()},
            "classes": known_classes(self.classes, self.num_classes),
            "checksum": found,
        }

    def __post_init__(self) -> None:
        first = self.train.inputs
        for name, split in self.splits.items():
            if len(split) == 0:
                raise UsageError(f"{self.name}: the {name} split has no samples")
            if 0 in split.inputs.shape:
                raise UsageError(
                    f"{self.name}: the {name} images are {split.inputs.shape[1:]}: there is nothing in them"
                )
            check_labels(split.targets, self.num_classes, f"{self.name}, {name} split")
            for what, own, other in (
                ("of shape", split.inputs.shape[1:], first.shape[1:]),
                ("of type", split.inputs.dtype, first.dtype),
            ):
                if own != other:
                    raise UsageError(f"{self.name}: the training images are {what} {other}, the {name} images {own}")

    @cached_property
    def splits(self) -> dict[str, ArraySplit]:
        """Those that there are, by name."""
        named = {"train": self.train, "test": self.test, "val": self.val}
        return {name: split for name, split in named.items() if split is not None}

    @property
    def num_train(self) -> int:
        """Training samples."""
        return len(self.train)

    @property
    def example(self) -> NDArray[np.float32]:
        """An input, of which the form alone counts, [1, ...]."""
        return np.zeros((1, *self.shape), np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of an image; of a text, the tokens of a sequence."""
        stored = self.train.inputs.shape[1:]
        return stored if self.crop is None else (stored[0], self.crop, self.crop)


def load_dataset(config: DataConfig, seed: int = 0) -> Dataset:
    """Read or make the data set that ``config`` names.

    Args:
        config: name, directory, and the sizes of ``synthetic``.
        seed: of ``synthetic``; the others ignore it.

    Returns:
        The whole data set in memory, its training split as far as ``train_fraction`` says.

    Raises:
        UsageError: files are missing, truncated, of a wrong format, or contradict each other; or all training samples
            would be held out.
    """
    loaded = SETS[config.name].load(config, seed)
    for name, images in (("train", loaded.train.inputs), ("test", loaded.test.inputs)):
        check_finite(images, f"{config.name}, {name} split")
    left, val = hold_out(loaded.train, config.validation_samples)
    train = share_of(left, config.train_fraction)
    mean, std = _moments(train.inputs) if loaded.moments is None else loaded.moments
    return Dataset(
        config.name,
        train,
        loaded.test,
        loaded.num_classes,
        mean,
        std,
        val,
        loaded.crop,
        loaded.remarks,
        loaded.classes,
        loaded.digest,
    )


def num_train_samples(config: DataConfig) -> int | None:
    """Samples that a run would train on: of the data where it is here, else as published; None where neither is known.

    Raises:
        UsageError: what is here cannot be read, or all samples would be held out.
    """
    # A user's code is imported where a run is started, and nowhere else.
    whole = None if config.is_own else SETS[config.name].num_train_samples(config)
    if whole is None:
        return None
    return num_kept(_left(whole, config.validation_samples), config.train_fraction)


def hold_out(split: S, count: int) -> tuple[S, S | None]:
    """What is left of a training split, and its last ``count`` samples; None where none are held out."""
    if count == 0:
        return split, None
    left = _left(len(split), count)
    return split.part(slice(0, left)), split.part(slice(left, None))


def _left(size: int, count: int) -> int:
    """What is left of a training split of ``size`` samples when the last ``count`` are held out."""
    if count >= size:
        raise UsageError(
            f"data.validation_samples is {count}, but the training split has {size}: choose {size - 1} or less"
        )
    return size - count


def share_of(split: S, fraction: float) -> S:
    """The samples that ``train_fraction`` leaves of a split, in their order; the split itself where it leaves all.

    Drawn without replacement, by a generator of its own: the first ones of one permutation, whatever the fraction.
    """
    places = share_places(len(split), fraction)
    return split if places is None else split.part(places)


def share_places(num_samples: int, fraction: float) -> NDArray[np.int64] | None:
    """Which of so many samples :func:`share_of` leaves, in their order; None: all."""
    count = num_kept(num_samples, fraction)
    if count == num_samples:
        return None
    return np.sort(np.random.default_rng(SHARE_SEED).permutation(num_samples)[:count])


def num_kept(num_samples: int, fraction: float) -> int:
    """How many samples ``train_fraction`` leaves of so many: the nearest whole number, at least 1."""
    return max(1, round(fraction * num_samples))


def _moments(images: NDArray[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation by channel, in float64 (the sums of uint8 pixels are exact)."""
    channels = images.shape[1]
    total, squares = np.zeros(channels), np.zeros(channels)
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK].reshape(-1, channels, images[0, 0].size).astype(np.float64)
        total += chunk.sum(axis=(0, 2))
        squares += np.einsum("ncp,ncp->c", chunk, chunk)
    count = images.size // channels
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    std[std == 0] = 1.0
    return tuple(mean.tolist()), tuple(std.tolist())
