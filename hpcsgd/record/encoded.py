"""Images of a pack as their files have them: the bytes of one after another, and where each ends.

Nothing here decodes: an image is its bytes, and the form that all have once they are decoded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CHANNELS = 3
"""Of an image that is decoded."""


@dataclass(frozen=True)
class EncodedImages:
    """Some images of a split, which stand where arrays of images stand.

    Attributes:
        path: the pack.
        split: the split.
        content: bytes of all its images, uint8 [B], as memory that is read from the file when it is looked at.
        bounds: where each image of the split begins and ends, int64 [N + 1].
        numbers: those that are meant, int64 [n].
        side: height and width once they are decoded.
    """

    path: Path
    split: str
    content: NDArray[np.uint8]
    bounds: NDArray[np.int64]
    numbers: NDArray[np.int64]
    side: int

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, samples: slice | NDArray[np.int64]) -> EncodedImages:
        """Some of them; nothing is read."""
        return replace(self, numbers=self.numbers[samples])

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """As they are decoded, [n, C, H, W]."""
        return len(self.numbers), CHANNELS, self.side, self.side

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """As they are decoded."""
        return np.dtype(np.uint8)

    @property
    def nbytes(self) -> int:
        """Bytes of these, as they are stored."""
        return int((self.bounds[self.numbers + 1] - self.bounds[self.numbers]).sum())

    def read(self, sample: int) -> bytes:
        """The bytes of an image."""
        number = int(self.numbers[sample])
        # NumPy copies without the lock of the interpreter: who waits for the disk here stops no other thread.
        return self.content[self.bounds[number] : self.bounds[number + 1]].copy().data.tobytes()

    def name(self, sample: int) -> str:
        """An image, for messages."""
        return f"{self.path}: image {self.numbers[sample]} of {self.split}"
