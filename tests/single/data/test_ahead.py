"""Images from a map into memory that is used again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hpcsgd.data.ahead import PixelReader

IMAGES = np.arange(7 * 2 * 3 * 2, dtype=np.uint8).reshape(7, 2, 3, 2)


def test_images_stay_until_those_after_the_next_are_read() -> None:
    reader = PixelReader(IMAGES, torch.device("cpu"))
    asked = [np.array(samples, np.int64) for samples in ([6, 0, 6], [1, 2], [5, 4, 3], [3, 2, 1, 0], [2], [])]
    read: list[torch.Tensor] = []
    for samples in asked:
        read.append(reader.read(samples))
        for kept, wanted in zip(read[-2:], asked[: len(read)][-2:], strict=True):
            assert np.array_equal(kept, IMAGES[wanted])
    places = [pixels.data_ptr() for pixels in read]
    assert places[2] == places[0] and places[4] == places[2], "memory that is large enough is used again"


def test_a_copy_of_a_map_is_not_read() -> None:
    with pytest.raises(AssertionError, match="not a copy"):
        PixelReader(IMAGES.transpose(0, 3, 1, 2), torch.device("cpu"))
