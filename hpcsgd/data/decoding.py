"""Images of a pack that are decoded as they are read, by threads."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcsgd.data.ahead import ImageReader, Memory, PixelReader
from hpcsgd.data.images import check_pillow, decode, why
from hpcsgd.errors import DataError
from hpcsgd.record.encoded import EncodedImages

_TASK = 8
"""Images that a thread takes at once: few enough for all to end together."""


class DecodingReader:
    """Reads images that are stored as files. Which thread decodes an image changes nothing of it.

    Attributes:
        images: those that it reads.
        num_threads: threads that decode; 0: the one that reads.
    """

    def __init__(self, images: EncodedImages, device: torch.device, workers: int) -> None:
        """
        Args:
            images: those of a split.
            device: where they go.
            workers: threads that decode; 0: the one that reads.

        Raises:
            UsageError: Pillow is missing.
        """
        check_pillow()
        self.images = images
        self._memory = Memory((images.side, images.side, images.shape[1]), device)
        self.num_threads = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decoder") if workers else None
        # They were told as the images were packed. To catch them is not for threads: there is one list of filters.
        warnings.filterwarnings("ignore", module=r"PIL\.")

    def read(self, samples: NDArray[np.int64]) -> Tensor:
        """The images of ``samples``, uint8 [n, H, W, C].

        Raises:
            DataError: one cannot be decoded; names the first.
        """
        return self.decode(samples, self.fetch(samples))

    def fetch(self, samples: NDArray[np.int64]) -> list[bytes]:
        """The bytes of ``samples``."""
        return [self.images.read(int(sample)) for sample in samples]

    def decode(self, samples: NDArray[np.int64], contents: Sequence[bytes]) -> Tensor:
        """The images of ``samples``, of which there are the bytes; see :meth:`read`."""
        pixels = self._memory.take(len(samples))
        into = pixels.numpy()

        def work(first: int) -> None:
            for place in range(first, min(first + _TASK, len(samples))):
                try:
                    into[place] = decode(contents[place], self.images.side)
                except Exception as error:  # as Pillow's readers have it
                    raise DataError(
                        f"cannot decode an image, {self.images.name(int(samples[place]))}: {why(error)}"
                    ) from error

        tasks = range(0, len(samples), _TASK)
        # In order: of several bad images, the first one is told, however many threads there are.
        for _ in map(work, tasks) if self._pool is None else self._pool.map(work, tasks):
            pass
        return pixels

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def make_image_reader(inputs: Any, device: torch.device, workers: int) -> ImageReader:
    """A reader of the images of a pack, [N, C, H, W], as a data set has them.

    Args:
        inputs: a memory map, or encoded images.
        device: where they go.
        workers: as of :class:`DecodingReader`.

    Raises:
        UsageError: Pillow is missing where it is needed.
    """
    if isinstance(inputs, EncodedImages):
        return DecodingReader(inputs, device, workers)
    return PixelReader(inputs.transpose(0, 2, 3, 1), device)
