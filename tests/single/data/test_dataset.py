"""Whole data sets: contents, moments, and files that contradict each other."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hpcsgd.config import DataConfig
from hpcsgd.data.dataset import load_dataset, num_kept, num_train_samples
from hpcsgd.errors import UsageError

Write = Callable[[Path, dict[str, bytes]], Path]
Files = dict[str, bytes]


def test_idx_data_set(tmp_path: Path, idx_files: Files, write_files: Write) -> None:
    write_files(tmp_path, idx_files)
    dataset = load_dataset(DataConfig(name="mnist", dir=str(tmp_path)))
    assert dataset.name == "mnist"
    assert dataset.shape == (1, 6, 5)
    assert dataset.num_classes == 10
    assert (dataset.train.inputs.shape, dataset.test.inputs.shape) == ((60, 1, 6, 5), (20, 1, 6, 5))
    assert dataset.train.inputs.tobytes() == idx_files["train-images-idx3-ubyte"][16:]
    assert dataset.test.targets.tolist() == [*range(10), *range(10)]
    assert (dataset.train.inputs.dtype, dataset.train.targets.dtype) == (np.uint8, np.int64)
    assert dataset.mean == pytest.approx([dataset.train.inputs.mean()], rel=1e-14)
    assert dataset.std == pytest.approx([dataset.train.inputs.std()], rel=1e-12)


def test_a_fraction_is_the_same_samples_and_part_of_a_larger_one(
    tmp_path: Path, idx_files: Files, write_files: Write
) -> None:
    write_files(tmp_path, idx_files)
    whole, half, tenth = (
        load_dataset(DataConfig(name="mnist", dir=str(tmp_path), train_fraction=fraction), seed=seed)
        for seed, fraction in enumerate((1.0, 0.5, 0.1))
    )
    assert [len(part.train.targets) for part in (whole, half, tenth)] == [60, 30, 6]
    rows = [[image.tobytes() for image in part.train.inputs] for part in (whole, half, tenth)]
    places = [[rows[0].index(row) for row in part] for part in rows[1:]]
    assert set(places[1]) < set(places[0]) and places == [sorted(part) for part in places]
    assert half.train.targets.tolist() == whole.train.targets[places[0]].tolist()
    assert len(half.test.targets) == 20
    assert half.mean == pytest.approx([half.train.inputs.mean()], rel=1e-14)


def test_what_is_held_out_is_the_same_whatever_the_fraction(
    tmp_path: Path, idx_files: Files, write_files: Write
) -> None:
    write_files(tmp_path, idx_files)
    options = {"name": "mnist", "dir": str(tmp_path), "validation_samples": 10}
    whole, half = (load_dataset(DataConfig(train_fraction=fraction, **options)) for fraction in (1.0, 0.5))  # type: ignore[arg-type]
    assert whole.val is not None and half.val is not None
    assert whole.val.inputs.tobytes() == half.val.inputs.tobytes()
    assert (len(half.train.targets), len(half.val.targets)) == (25, 10)


@pytest.mark.parametrize(("fraction", "count"), [(1.0, 60), (0.2, 12), (1e-9, 1), (0.999, 60)])
def test_how_many_samples_a_fraction_leaves(fraction: float, count: int) -> None:
    assert num_kept(60, fraction) == count


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5])
def test_no_fraction_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"data.train_fraction is .*: it must be in \(0, 1\]"):
        DataConfig(train_fraction=fraction)


def test_gzipped_and_plain_files_may_be_mixed(tmp_path: Path, idx_files: Files, write_files: Write) -> None:
    zipped = {f"{name}.gz": gzip.compress(content) for name, content in idx_files.items() if "images" in name}
    write_files(tmp_path, zipped | {name: content for name, content in idx_files.items() if "labels" in name})
    plain = load_dataset(DataConfig(name="fashion_mnist", dir=str(write_files(tmp_path / "plain", idx_files))))
    mixed = load_dataset(DataConfig(name="fashion_mnist", dir=str(tmp_path)))
    np.testing.assert_array_equal(mixed.train.inputs, plain.train.inputs)
    assert mixed.mean == plain.mean


def test_images_and_labels_that_do_not_match(tmp_path: Path, idx_files: Files, write_files: Write) -> None:
    idx_files["t10k-labels-idx1-ubyte"] = idx_files["train-labels-idx1-ubyte"]
    write_files(tmp_path, idx_files)
    with pytest.raises(UsageError, match="t10k-images-idx3-ubyte has 20 images, but .*t10k-labels.* has 60 labels"):
        load_dataset(DataConfig(name="mnist", dir=str(tmp_path)))


def test_a_label_out_of_range(tmp_path: Path, idx_files: Files, write_files: Write) -> None:
    idx_files["train-labels-idx1-ubyte"] = idx_files["train-labels-idx1-ubyte"][:-1] + b"\x0a"
    write_files(tmp_path, idx_files)
    with pytest.raises(UsageError, match="train-labels-idx1-ubyte: labels go from 0 to 10, expected 0 to 9"):
        load_dataset(DataConfig(name="mnist", dir=str(tmp_path)))


def test_a_truncated_file_is_named(tmp_path: Path, idx_files: Files, write_files: Write) -> None:
    idx_files["train-images-idx3-ubyte"] = idx_files["train-images-idx3-ubyte"][:-100]
    write_files(tmp_path, idx_files)
    with pytest.raises(
        UsageError, match="train-images-idx3-ubyte is truncated: 1700 bytes of data, its header says 1800"
    ):
        load_dataset(DataConfig(name="mnist", dir=str(tmp_path)))


def test_splits_of_different_shapes(tmp_path: Path, idx_files: Files, write_files: Write) -> None:
    content = idx_files["t10k-images-idx3-ubyte"]
    idx_files["t10k-images-idx3-ubyte"] = content[:8] + content[12:16] + content[8:12] + content[16:]
    write_files(tmp_path, idx_files)
    with pytest.raises(UsageError, match=r"training images are \(1, 6, 5\), test images \(1, 5, 6\)"):
        load_dataset(DataConfig(name="mnist", dir=str(tmp_path)))


def test_an_empty_split(tmp_path: Path, idx_files: Files, write_files: Write) -> None:
    for kind, size in (("images-idx3", 16), ("labels-idx1", 8)):
        header = idx_files[f"train-{kind}-ubyte"][:size]
        idx_files[f"train-{kind}-ubyte"] = header[:4] + bytes(4) + header[8:]
    write_files(tmp_path, idx_files)
    with pytest.raises(UsageError, match="train-images-idx3-ubyte holds no samples"):
        load_dataset(DataConfig(name="mnist", dir=str(tmp_path)))


def test_cifar10_binary_and_python_versions_are_equal(tmp_path: Path, cifar10_files: Files, write_files: Write) -> None:
    write_files(tmp_path / "bin", cifar10_files)
    python = {}
    for name, content in cifar10_files.items():
        records = np.frombuffer(content, np.uint8).reshape(4, 3073)
        table = {b"data": records[:, 1:], b"labels": records[:, 0].tolist()}
        python[name.removesuffix(".bin")] = pickle.dumps(table, 2)
    write_files(tmp_path / "py" / "cifar-10-batches-py", python)
    binary, pickled = (load_dataset(DataConfig(name="cifar10", dir=str(tmp_path / place))) for place in ("bin", "py"))
    assert binary.shape == (3, 32, 32)
    assert binary.train.targets.tolist() == [number % 10 for number in range(20)]
    assert binary.test.inputs[1, 0, 0, :2].tolist() == [21 * 7 % 251, (21 * 7 + 1) % 251]
    np.testing.assert_array_equal(binary.train.inputs, pickled.train.inputs)
    np.testing.assert_array_equal(binary.test.targets, pickled.test.targets)
    channels = binary.train.inputs.transpose(1, 0, 2, 3).reshape(3, -1)
    assert binary.mean == pytest.approx(channels.mean(axis=1), rel=1e-13)
    assert binary.std == pytest.approx(channels.std(axis=1), rel=1e-12)


def test_cifar100_has_100_classes(tmp_path: Path, write_files: Write) -> None:
    record = bytes([4, 99]) + bytes(3072)
    write_files(tmp_path, {"train.bin": record * 2, "test.bin": record})
    dataset = load_dataset(DataConfig(name="cifar100", dir=str(tmp_path)))
    assert (dataset.num_classes, dataset.train.targets.tolist()) == (100, [99, 99])
    assert (dataset.mean, dataset.std) == ((0.0,) * 3, (1.0,) * 3)  # constant pixels are not divided by 0


def test_a_cifar_batch_cut_at_a_record(tmp_path: Path, cifar10_files: Files, write_files: Write) -> None:
    cifar10_files["data_batch_3.bin"] = cifar10_files["data_batch_3.bin"][:-3073]
    write_files(tmp_path, cifar10_files)
    with pytest.raises(UsageError, match=r"data_batch_3\.bin has 3 samples, but .*data_batch_1\.bin has 4"):
        load_dataset(DataConfig(name="cifar10", dir=str(tmp_path)))


def synthetic(num_train: int = 300, num_test: int = 100, shape: tuple[int, int, int] = (2, 9, 6)) -> DataConfig:
    return DataConfig(
        name="synthetic",
        synthetic_shape=shape,
        synthetic_classes=5,
        synthetic_train_samples=num_train,
        synthetic_test_samples=num_test,
    )


def test_synthetic_depends_on_the_seed_alone() -> None:
    first, again, other = (load_dataset(synthetic(), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.train.inputs, again.train.inputs)
    np.testing.assert_array_equal(first.test.targets, again.test.targets)
    assert not np.array_equal(first.train.inputs, other.train.inputs)
    smaller = load_dataset(synthetic(num_train=200), seed=1)
    np.testing.assert_array_equal(first.test.inputs, smaller.test.inputs)


def test_synthetic_is_balanced_and_of_the_asked_shape() -> None:
    dataset = load_dataset(synthetic(num_train=303))
    assert (dataset.shape, dataset.num_classes) == ((2, 9, 6), 5)
    assert dataset.train.inputs.dtype == np.float32
    assert sorted(np.bincount(dataset.train.targets).tolist()) == [60, 60, 61, 61, 61]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 8), (2, 3, 5)])
def test_synthetic_can_be_learned(shape: tuple[int, int, int]) -> None:
    dataset = load_dataset(synthetic(num_train=500, shape=shape))
    train, test = (split.inputs.reshape(len(split), -1) for split in (dataset.train, dataset.test))
    centres = np.stack([train[dataset.train.targets == label].mean(axis=0) for label in range(5)])
    distances = ((test[:, np.newaxis] - centres) ** 2).sum(axis=2)
    assert (distances.argmin(axis=1) == dataset.test.targets).mean() > 0.9


def test_training_samples_are_known_without_the_data_where_they_are_published() -> None:
    assert num_train_samples(DataConfig(name="cifar10", dir="/no/such")) == 50000
    assert num_train_samples(DataConfig(name="cifar10", dir="/no/such", train_fraction=0.2)) == 10000
    held_out = DataConfig(name="cifar10", dir="/no/such", train_fraction=0.2, validation_samples=5000)
    assert num_train_samples(held_out) == 9000
    assert num_train_samples(DataConfig(name="synthetic", synthetic_train_samples=7)) == 7
    for name in ("text", "image_folder", "pack"):
        assert num_train_samples(DataConfig(name=name, dir="/no/such")) is None  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=f"data.name is {name}, but no data.dir is given"):
            num_train_samples(DataConfig(name=name))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="validation_samples is 50000, but the training split has 50000"):
        num_train_samples(DataConfig(name="cifar10", dir="/no/such", validation_samples=50000))


def test_training_samples_are_those_of_the_data_where_it_is(
    tmp_path: Path, idx_files: Files, write_files: Write
) -> None:
    write_files(tmp_path, idx_files)
    (tmp_path / "text").write_bytes(b"some words " * 100)
    for config in (
        DataConfig(name="mnist", dir=str(tmp_path), train_fraction=0.5, validation_samples=10),
        DataConfig(name="text", dir=str(tmp_path / "text"), sequence_length=10),
        synthetic(),
    ):
        assert num_train_samples(config) == len(load_dataset(config).train)


def test_a_file_for_a_directory_and_the_reverse(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for name, place, said in (
        ("pack", tmp_path, "is a directory: name a file of hpcsgd data pack, or set data.name: image_folder"),
        ("image_folder", tmp_path / "file", "is a file: name the folder of train/ and val/, or set data.name: pack"),
        ("mnist", tmp_path / "file", r"file \(a file, not a directory\)"),
    ):
        config = DataConfig(name=name, dir=str(place))  # type: ignore[arg-type]
        for look in (load_dataset, num_train_samples):
            with pytest.raises(UsageError, match=said):
                look(config)
