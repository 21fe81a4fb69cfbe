"""The recipes of ``jobs/own``, with words that make them small: 40 samples for training, 5 steps an epoch, 2 epochs."""

from __future__ import annotations

import importlib
import struct
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).resolve().parents[3] / "jobs" / "own"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.yaml"))

SYNTHETIC = ("--data.init_args.train=40", "--data.init_args.test=8")
SMALL = {
    "unet": (*SYNTHETIC, "--data.init_args.size=16", "--model.init_args.width=4"),
    "tabular": SYNTHETIC,
    # Of 44 sequences 4 are for the test.
    "text": ("--data.dir={folder}/text.txt", "--data.sequence_length=16", "--model.init_args.width=8"),
    "resnet18": ("--data.init_args.root={folder}", "--data.workers=1"),
}
OPERATORS = "nms", "qnms"
"""Those of torchvision that its import asks for."""
LIBRARIES: list[torch.library.Library] = []
"""What must stay alive for them."""


def import_torchvision() -> None:
    """Import torchvision, also that of the package index beside a torch for CPUs.

    That one is built for CUDA: its operators, which no classifier uses, are not there then, and their names are given.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        LIBRARIES.append(torch.library.Library("torchvision", "DEF"))
        for name in OPERATORS:
            LIBRARIES[0].define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
        importlib.import_module("torchvision")


def small_words(recipe: str, folder: Path) -> list[str]:
    """The recipe and words that make it small; its data are in ``folder``, where :func:`write_data` was."""
    words = [word.format(folder=folder) for word in SMALL[recipe]]
    return [str(FOLDER / f"{recipe}.yaml"), "--epochs=2", "--global_batch_size=8", *words]


def write_data(folder: Path) -> None:
    """A text, and images as Fashion-MNIST comes."""
    (folder / "text.txt").write_bytes(b"The quick brown fox jumps over the lazy dog.\n" * 16)
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("t10k", 8)):
        images = struct.pack(">4B3I", 0, 0, 8, 3, count, 28, 28) + rng.bytes(count * 784)
        labels = struct.pack(">4BI", 0, 0, 8, 1, count) + bytes(number % 10 for number in range(count))
        (folder / f"{split}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(labels)
