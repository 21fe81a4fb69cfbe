"""The files that some cases read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hpcsgd.config import DataConfig
from hpcsgd.record.pack_writer import PackWriter
from tests.pretend_gpu.cases import Keys

SIDE = 24
SAMPLES = {"train": 64, "test": 16}


def with_files(keys: Keys, folder: Path) -> dict[str, Any]:
    """``keys`` with data of ``folder`` where they name ``pack`` or ``text`` alone."""
    data = {"pack": packed, "text": text}.get(keys.get("data", "")) if isinstance(keys.get("data"), str) else None
    return {**keys, "data": data(folder)} if data is not None else dict(keys)


def packed(folder: Path) -> DataConfig:
    """A pack of random pictures."""
    path = folder / "pictures.h5"
    if not path.exists():
        random = np.random.default_rng(0)
        writer = PackWriter(path, SAMPLES, (SIDE, SIDE, 3), ["a", "b"])
        for split, count in SAMPLES.items():
            pictures = random.integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8)
            writer.write(split, [(picture, number % 2) for number, picture in enumerate(pictures)])
        writer.finish()
    return DataConfig(name="pack", dir=str(path), image_size=16, random_resized_crop=True, flip=True, block_size=8)


def text(folder: Path) -> DataConfig:
    """Letters in no order."""
    path = folder / "letters.txt"
    if not path.exists():
        path.write_bytes(bytes(np.random.default_rng(0).integers(97, 110, 3000).astype(np.uint8)))
    return DataConfig(name="text", dir=str(path), sequence_length=16)
