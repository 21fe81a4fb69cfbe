"""The samples of one split, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ArraySplit:
    """Images and labels of one split.

    Attributes:
        images: [N, C, H, W], uint8 pixels (float32 where synthetic); of a text, tokens [N, T], int64.
        labels: [N], int64; of a text, the next tokens, [N, T].
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]
