"""What resnet18.yaml names: Fashion-MNIST as torch Datasets, which worker processes read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset


class FashionMNIST:
    """The splits, and the number of classes."""

    classes = 10

    def __init__(self, root: str = "~/.cache/hpcsgd/data/fashion_mnist") -> None:
        self.train = Images(Path(root).expanduser(), "train", flip=True)
        self.test = Images(Path(root).expanduser(), "t10k")


class Images(Dataset[tuple[Tensor, int]]):
    """Images [3, 28, 28] and their classes; what is drawn at random repeats, whichever worker reads a sample."""

    def __init__(self, root: Path, split: str, flip: bool = False) -> None:
        self.images = np.fromfile(root / f"{split}-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 28, 28)
        self.labels = np.fromfile(root / f"{split}-labels-idx1-ubyte", np.uint8, offset=8)
        self.flip = flip

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        image = torch.from_numpy(self.images[number]) / 255 - 0.5
        if self.flip and torch.rand(()) < 0.5:
            image = image.flip(1)
        return image.expand(3, 28, 28), int(self.labels[number])
