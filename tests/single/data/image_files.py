"""Folders of images for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def make_folders(root: Path, train: int = 12, test: int = 3, side: int = 20) -> Path:
    """Images of two classes, dark and bright, of several shapes and both formats."""
    generator = np.random.default_rng(0)
    for split, count in (("train", train), ("val", test)):
        for name, level in (("bright", 200), ("dark", 40)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(level - 30, level + 30, (side + number % 3, side + number % 5, 3))
                ending = "png" if number % 2 else "jpg"
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:03}.{ending}")
    return root


def pixels(height: int = 8, width: int = 8, channels: int = 3) -> np.ndarray:
    """Random pixels, the same at each call."""
    return np.random.default_rng(1).integers(0, 256, (height, width, channels)).astype(np.uint8)


def save(path: Path, **options: object) -> Path:
    """A small image in the format of its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels()).save(path, **options)  # type: ignore[arg-type]
    return path
