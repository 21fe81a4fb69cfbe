"""Sound inputs, made once: a run with checkpoints, a study, folders of images, a pack, IDX and CIFAR files."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from tests.fuzz.case import Command, options, train
from tests.fuzz.execute import execute

SIDE = 8
STUDY = {
    "batch_sizes": "[4,8]",
    "trials": "2",
    "fuse": "1",
    "threads": "1",
    "device": "cpu",
    "model.name": "fully_connected",
    "model.widths": "[4]",
    "data.name": "synthetic",
    "data.synthetic_shape": "[1,4,4]",
    "data.synthetic_train_samples": "64",
    "data.synthetic_test_samples": "8",
    "data.validation_samples": "16",
    "space.learning_rate.points": "[0.01,0.1]",
    "stop.steps": "2",
    "evaluate.every_steps": "1",
    "progress": "lines",
}
"""Keys of a study that takes a second."""


ON = {
    "images": {"data__name": "image_folder", "data__dir": "images", "data__image_size": str(SIDE)},
    "images.h5": {"data__name": "pack", "data__dir": "images.h5"},
    "idx": {"data__name": "mnist", "data__dir": "idx"},
    "cifar/bin": {"data__name": "cifar10", "data__dir": "cifar/bin"},
    "cifar/py": {"data__name": "cifar10", "data__dir": "cifar/py"},
}
"""Keys of a run on each of the inputs."""


def make_sound(place: Path) -> Path:
    """Make all of them in ``place``/work, and give that folder."""
    for name in ("work", "home", "tmp"):
        (place / name).mkdir(parents=True)
    folder = place / "work"
    write_images(folder / "images")
    write_idx(folder / "idx")
    write_cifar(folder / "cifar")
    for words in (
        train(max_steps="4", checkpoint__every_steps="2", checkpoint__background="false"),
        ("hpcsgd", "study", "run", "--study_dir", "study", *options(STUDY)),
        ("hpcsgd", "data", "pack", "images", "images.h5", "--size", str(SIDE)),
        *(train(f"on_{folder.replace('/', '_')}", **ON[folder]) for folder in ON),
    ):
        ending = execute(Command(words), place)
        assert ending.code == 0, ending.err
    return folder


def write_images(folder: Path) -> None:
    """``train`` and ``val`` of two classes, five images each."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("ant", "bee"):
            (folder / split / name).mkdir(parents=True)
            for number in range(5):
                pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.{'png' if number else 'jpg'}")


def idx_bytes(array: np.ndarray) -> bytes:
    """``array`` of uint8 as an IDX file."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder: Path) -> None:
    """The four files of MNIST, with 24 and 8 images of 6x5 pixels."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("t10k", 8)):
        images = rng.integers(0, 256, (count, 6, 5), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / f"{split}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))


def write_cifar(folder: Path) -> None:
    """Both versions of CIFAR-10, with 4 images a file."""
    rng = np.random.default_rng(0)
    for version, ending in (("bin", ".bin"), ("py", "")):
        (folder / version).mkdir(parents=True)
        for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
            pixels = rng.integers(0, 256, (4, 3072), dtype=np.uint8)
            labels = np.arange(4, dtype=np.uint8)
            records = np.concatenate([labels[:, np.newaxis], pixels], axis=1).tobytes()
            table = pickle.dumps({b"data": pixels, b"labels": labels.tolist()}, protocol=2)
            (folder / version / f"{name}{ending}").write_bytes(records if version == "bin" else table)
