"""Packs of encoded images: the pixels are those of the folder, whoever decodes them."""

from __future__ import annotations

import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from hpcsgd.cli import main
from hpcsgd.config import DataConfig, EvaluateConfig, ModelConfig, RunConfig
from hpcsgd.data.dataset import Dataset, load_dataset
from hpcsgd.data.decoding import DecodingReader
from hpcsgd.data.make import make_loader, make_split
from hpcsgd.data.workers import num_workers, with_workers
from hpcsgd.errors import DataError
from hpcsgd.train import run
from tests.single.data.image_files import make_folders, pixels

CPU = torch.device("cpu")
SIZE = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of all kinds that are read, and of several shapes."""
    root = make_folders(tmp_path_factory.mktemp("data") / "images", train=4, test=2)
    dark, colours = root / "train" / "dark", Image.fromarray(pixels(30, 17))
    turned = Image.Exif()
    turned[0x0112] = 6
    colours.convert("CMYK").save(dark / "cmyk.jpg")
    colours.convert("L").save(dark / "gray.jpg")
    colours.save(dark / "progressive.jpg", progressive=True, quality=60)
    colours.save(dark / "turned.jpg", exif=turned)
    colours.convert("P").save(dark / "palette.png")
    Image.fromarray(pixels(9, 40, 4)).save(dark / "transparent.png")
    colours.save(dark / "lossless.webp", lossless=True)
    Image.fromarray(pixels(500, 3)).save(dark / "long.bmp")
    (dark / "wide.ppm").write_bytes(b"P6 2 2 65535\n" + np.arange(12).astype(">u2").tobytes())
    return root


@pytest.fixture(scope="module")
def packs(folder: Path) -> dict[str, Path]:
    """The folder, packed both ways."""
    found = {"encoded": folder.parent / "encoded.h5", "decoded": folder.parent / "decoded.h5"}
    for name, path in found.items():
        words = ["--encoded"] if name == "encoded" else []
        assert main(["data", "pack", str(folder), str(path), "--size", str(SIZE), *words]) == 0
    return found


def data_of(path: Path, **changes: object) -> tuple[Dataset, DataConfig]:
    config = DataConfig(name="pack", dir=str(path), block_size=3, **changes)  # type: ignore[arg-type]
    return load_dataset(config), config


def test_the_pixels_are_those_of_the_folder(folder: Path, packs: dict[str, Path]) -> None:
    whole = load_dataset(DataConfig(name="image_folder", dir=str(folder), image_size=SIZE))
    decoded, _ = data_of(packs["decoded"])
    data, _ = data_of(packs["encoded"])
    assert (data.mean, data.std, data.classes) == (decoded.mean, decoded.std, decoded.classes)
    for name in ("train", "test"):
        images = data.splits[name].inputs
        read = DecodingReader(images, CPU, 0).read(np.arange(len(images)))
        assert (read.numpy().transpose(0, 3, 1, 2) == decoded.splits[name].inputs).all()
        assert data.splits[name].targets.tolist() == decoded.splits[name].targets.tolist()
    # The test split is in the order of the folder.
    assert (read.numpy().transpose(0, 3, 1, 2) == whole.test.inputs).all()
    contents = {images.read(number) for number in range(len(images))}
    assert contents == {file.read_bytes() for file in (folder / "val").glob("*/*")}


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_are_the_same_bits_whoever_decodes(packs: dict[str, Path], workers: int) -> None:
    changes = {"random_resized_crop": True, "flip": True, "image_size": 8, "validation_samples": 5, "workers": workers}
    form = {"seed": 1, "device": CPU, "dtype": torch.float32, "channels_last": False}
    loaders, splits = [], []
    for path in packs.values():
        data, config = data_of(path, **changes)
        loaders.append(make_loader(data, config, learner=0, num_learners=1, local_batch_size=6, **form))  # type: ignore
        splits.append([make_split(data, split, config, **form) for split in (data.val, data.test)])  # type: ignore
    for step in (0, 1, 4, 2):
        one, other = (loader.batch(step) for loader in loaders)
        assert torch.equal(one.inputs, other.inputs) and torch.equal(one.targets, other.targets)
    for one, other in zip(*splits, strict=True):
        for (images, labels), (others, other_labels) in zip(
            one.batches(1, len(one), 2), other.batches(1, len(other), 2), strict=True
        ):
            assert torch.equal(images, others) and torch.equal(labels, other_labels)
    for loader in loaders:
        loader.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("decoder", "reader"))]


def test_training_is_the_same_to_the_last_bit(packs: dict[str, Path], tmp_path: Path) -> None:
    found = []
    for name, path in packs.items():
        _, data = data_of(path, random_resized_crop=True, antialias=True, flip=True, image_size=8, workers=2)
        config = RunConfig(
            epochs=2,
            local_batch_size=6,
            progress="none",
            threads=1,
            run_dir=str(tmp_path / name),
            model=ModelConfig(widths=(8,)),
            evaluate=EvaluateConfig(splits=("train", "test")),
            data=data,
        )
        found.append((run(config).metrics, torch.load(tmp_path / name / "model.pt")))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(one, other) for one, other in zip(*(each[1].values() for each in found), strict=True))


@pytest.mark.parametrize("workers", [0, 4])
def test_an_image_that_cannot_be_decoded_is_named(packs: dict[str, Path], tmp_path: Path, workers: int) -> None:
    path = tmp_path / "bad.h5"
    path.write_bytes(packs["encoded"].read_bytes())
    data, _ = data_of(path)
    bounds = data.train.inputs.bounds
    with h5py.File(path, "r+") as file:
        file["train/bytes"][bounds[11] : bounds[12]] = 7
        file["train/bytes"][bounds[2] : bounds[3]] = 7
    # It is read as it is, as one that is too large to be looked through at each start.
    images = data.train.inputs
    reader = DecodingReader(images[1:], CPU, workers)
    with pytest.raises(DataError) as caught:
        reader.read(np.array([0, 3, 10, 1, 4, 5, 6, 7, 8, 9, 2, 0]))
    assert str(caught.value) == (
        f"cannot decode an image, {path}: image 11 of train: it is in no format that Pillow knows"
    )
    assert len(reader.read(np.array([0, 2]))) == 2, "it goes on"
    reader.close()


def test_workers_are_the_cores_of_the_rank_but_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads, processes in ((1, 1, 1), (2, 1, 1), (5, 4, 4), (9, 8, 4), (64, 16, 4)):
        monkeypatch.setattr("os.sched_getaffinity", lambda pid, cores=cores: range(cores))
        for name, most in (("pack", threads), ("given", processes)):
            config = DataConfig(name=name)
            assert num_workers(config) == most == with_workers(config, cores).workers
            assert with_workers(config, 2).workers == 1, "others share the rest"
            for asked in (0, 40):
                assert with_workers(DataConfig(name=name, workers=asked), cores).workers == asked
    assert with_workers(DataConfig(), 9) == DataConfig()
