"""Data sets as numpy arrays: read from their published files, or synthetic."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcsgd.config import DataConfig
from hpcsgd.data import cifar
from hpcsgd.data.folders import find_folders
from hpcsgd.data.idx import read_idx
from hpcsgd.data.images import CHANNELS, check_pillow, read_all
from hpcsgd.data.places import Layout, existing_file, locate
from hpcsgd.data.remarks import tell_changes
from hpcsgd.data.synthetic import make_synthetic
from hpcsgd.data.text import read_text
from hpcsgd.errors import UsageError

_NUM_CLASSES = {"fashion_mnist": 10, "mnist": 10, "cifar10": 10, "cifar100": 100}
FOLDER_SIZE = 224
MOST_BYTES = 4 << 30
"""Of folders of images in memory."""

SHARE_SEED = 0  # fixed: what a fraction of a data set is must not depend on a run's seed
_CHUNK = 1024  # images whose float64 copy is alive at once in _moments


@dataclass(frozen=True)
class ArraySplit:
    """Images and labels of one split.

    Attributes:
        images: [N, C, H, W], uint8 pixels (float32 where synthetic); of a text, tokens [N, T], int64.
        labels: [N], int64; of a text, the next tokens, [N, T].
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """A training and a test split, and perhaps a validation split.

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
        remarks: what of the files was left out or not kept, a line each, for the user.
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

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of an image; of a text, the tokens of a sequence."""
        stored = self.train.images.shape[1:]
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
    if config.name == "pack":
        return _load_pack(config)
    remarks: list[str] = []
    if config.name == "synthetic":
        num_classes = config.synthetic_classes
        sizes = (config.synthetic_train_samples, config.synthetic_test_samples)
        train_arrays, test_arrays = make_synthetic(config.synthetic_shape, num_classes, *sizes, seed)
        splits = ArraySplit(*train_arrays), ArraySplit(*test_arrays)
    elif config.name == "text":
        train_tokens, test_tokens, num_classes = read_text(config)
        splits = ArraySplit(*train_tokens), ArraySplit(*test_tokens)
    elif config.name == "image_folder":
        splits, num_classes, remarks = _load_folders(config)
    else:
        num_classes = _NUM_CLASSES[config.name]
        splits = read_splits(config.name, *locate(config.name, config.dir))
    (left, val), test = _hold_out(splits[0], config.validation_samples), splits[1]
    train = share_of(left, config.train_fraction)
    mean, std = _moments(train.images) if config.name != "text" else ((), ())
    return Dataset(config.name, train, test, num_classes, mean, std, val, remarks=tuple(remarks))


def _load_pack(config: DataConfig) -> Dataset:
    """A data set that stays on the disk."""
    # HDF5 takes long to import, and help texts come by here.
    from hpcsgd.record.pack import SPLITS, open_checked

    if config.dir is None:
        raise UsageError("data.name is pack, but no data.dir is given: name the file of hpcsgd data pack")
    pack = open_checked(Path(config.dir))
    train, test = (ArraySplit(pack.images[name].transpose(0, 3, 1, 2), pack.labels[name]) for name in SPLITS)
    stored = train.images.shape[2]
    crop = config.image_size or stored
    if crop > stored:
        raise UsageError(f"data.image_size is {crop}, but {config.dir} has images of {stored}: choose {stored} or less")
    train, val = _hold_out(train, config.validation_samples)
    return Dataset(config.name, train, test, len(pack.classes), pack.mean, pack.std, val, crop)


def _load_folders(config: DataConfig) -> tuple[tuple[ArraySplit, ArraySplit], int, list[str]]:
    """The training and the test split of folders of images, in memory, the number of classes, and remarks."""
    if config.dir is None:
        raise UsageError("data.name is image_folder, but no data.dir is given: name the folder of train/ and val/")
    check_pillow()
    found, size = find_folders(Path(config.dir)), config.image_size or FOLDER_SIZE
    needed = (len(found.train) + len(found.test)) * CHANNELS * size**2
    if needed > MOST_BYTES:
        raise UsageError(
            f"{config.dir} would take {needed / 1e9:.0f} GB of memory on each rank, at most {MOST_BYTES / 1e9:.0f} are "
            "allowed: pack it (hpcsgd data pack), and set data.name to pack"
        )
    splits = []
    changes: Counter[str] = Counter()
    for samples in (found.train, found.test):
        images = np.stack([image.transpose(2, 0, 1) for image, _ in read_all(samples, size, changes)])
        splits.append(ArraySplit(images, np.array([label for _, label in samples], np.int64)))
    return (splits[0], splits[1]), len(found.classes), found.remarks + tell_changes(changes)


def _hold_out(split: ArraySplit, count: int) -> tuple[ArraySplit, ArraySplit | None]:
    """What is left of a training split, and its last ``count`` samples; None where none are held out."""
    if count == 0:
        return split, None
    size = len(split.labels)
    if count >= size:
        raise UsageError(
            f"data.validation_samples is {count}, but the training split has {size}: choose {size - 1} or less"
        )
    left, held = slice(0, size - count), slice(size - count, None)
    return ArraySplit(split.images[left], split.labels[left]), ArraySplit(split.images[held], split.labels[held])


def share_of(split: ArraySplit, fraction: float) -> ArraySplit:
    """The samples that ``train_fraction`` leaves of a split, in their order; the split itself where it leaves all.

    Drawn without replacement, by a generator of its own: the first ones of one permutation, whatever the fraction.
    """
    count = num_kept(len(split.labels), fraction)
    if count == len(split.labels):
        return split
    places = np.sort(np.random.default_rng(SHARE_SEED).permutation(len(split.labels))[:count])
    return ArraySplit(split.images[places], split.labels[places])


def num_kept(num_samples: int, fraction: float) -> int:
    """How many samples ``train_fraction`` leaves of so many: the nearest whole number, at least 1."""
    return max(1, round(fraction * num_samples))


def read_splits(name: str, folder: Path, layout: Layout) -> tuple[ArraySplit, ArraySplit]:
    """Read and check the training and the test split of data set ``name`` from the files in ``folder``.

    Raises:
        UsageError: a file is truncated, of a wrong format, or contradicts another.
    """
    train, test = (_read_split(folder, layout, files, _NUM_CLASSES[name]) for files in (layout.train, layout.test))
    if train.images.shape[1:] != test.images.shape[1:]:
        raise UsageError(f"{folder}: training images are {train.images.shape[1:]}, test images {test.images.shape[1:]}")
    return train, test


def _read_split(folder: Path, layout: Layout, files: tuple[str, ...], num_classes: int) -> ArraySplit:
    """Read and check one split."""
    paths = [path for file in files if (path := existing_file(folder, file)) is not None]
    assert len(paths) == len(files), "locate() finds folders with every file"
    split = _read_idx_split(*paths) if layout.format == "idx" else _read_cifar_split(paths, layout, num_classes)
    if len(split.labels) == 0:
        raise UsageError(f"{paths[0]} holds no samples")
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= num_classes:
        raise UsageError(f"{paths[-1]}: labels go from {low} to {high}, expected 0 to {num_classes - 1}")
    return split


def _read_idx_split(images_path: Path, labels_path: Path) -> ArraySplit:
    """One split from its two IDX files."""
    images = read_idx(images_path, 3)
    labels = read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise UsageError(f"{images_path} has {len(images)} images, but {labels_path} has {len(labels)} labels")
    return ArraySplit(images[:, np.newaxis], labels.astype(np.int64))


def _read_cifar_split(paths: list[Path], layout: Layout, num_classes: int) -> ArraySplit:
    """One split from its CIFAR batches, in order."""
    fine = num_classes == 100
    if layout.format == "cifar_binary":
        batches = [cifar.read_binary(path, 2 if fine else 1) for path in paths]
    else:
        batches = [cifar.read_python(path, "fine_labels" if fine else "labels") for path in paths]
    for path, (_, labels) in zip(paths, batches, strict=True):
        # The binary version has no header: a file cut at the end of a record shows only beside its siblings.
        if len(labels) != len(batches[0][1]):
            raise UsageError(f"{path} has {len(labels)} samples, but {paths[0]} has {len(batches[0][1])}")
    images, targets = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return ArraySplit(images, targets)


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
