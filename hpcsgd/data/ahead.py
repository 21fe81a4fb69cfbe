"""Images on their way from the disk to a device: by one copy into memory, and one more to a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BUFFERS = 2
"""One that is read into while the one before it is looked at."""


class ImageReader(Protocol):
    """Reads images of a split, stored in any way."""

    def read(self, samples: NDArray[np.int64]) -> Tensor:
        """The images of ``samples``, uint8 [n, H, W, C]. To be called by one thread at a time."""

    def close(self) -> None:
        """End what works for it."""


class Memory:
    """Memory for images that is used again: fresh memory would cost as much as the reading.

    On a CPU, images are valid until those after the next ones are read. For a GPU the memory is page-locked, from
    torch's allocator: it keeps what is given back, and hands it out again when the copies out of it are done.
    """

    def __init__(self, shape: Sequence[int], device: torch.device) -> None:
        """``shape``: of an image; ``device``: where images go."""
        self._shape = tuple(shape)
        self._pinned = device.type == "cuda"
        self._buffers: list[Tensor] = []

    def take(self, count: int) -> Tensor:
        """Room for ``count`` images, uint8 [count, ...]."""
        if self._pinned:
            return torch.empty((count, *self._shape), dtype=torch.uint8, pin_memory=True)
        old = len(self._buffers) == BUFFERS
        buffer = self._buffers.pop(0) if old else torch.empty((0, *self._shape), dtype=torch.uint8)
        if len(buffer) < count:
            buffer = torch.empty((count, *self._shape), dtype=torch.uint8)
        self._buffers.append(buffer)
        return buffer[:count]


class PixelReader:
    """Reads images that are stored as pixels, by one copy."""

    def __init__(self, images: NDArray[np.uint8], device: torch.device) -> None:
        """``images``: [N, H, W, C], contiguous: a memory map; ``device``: where they go."""
        assert images.flags.c_contiguous, "the map itself is read, not a copy of it"
        self._images = images
        self._memory = Memory(images.shape[1:], device)

    def read(self, samples: NDArray[np.int64]) -> Tensor:
        """The images of ``samples``, uint8 [n, H, W, C]."""
        pixels = self._memory.take(len(samples))
        # The mode that checks no index, which all are sound here, is the one that has no copy of its own.
        np.take(self._images, samples, axis=0, out=pixels.numpy(), mode="clip")
        return pixels

    def close(self) -> None:
        """There is nothing to end."""


@dataclass(frozen=True)
class Sent:
    """Tensors that are on their way to a device, or there.

    Attributes:
        tensors: on the device.
        copied: behind the copies, in the stream that does them; None: they are there.
    """

    tensors: tuple[Tensor, ...]
    copied: Any = None

    def take(self) -> tuple[Tensor, ...]:
        """The tensors, for the current stream, which goes on after the copies; the host does not wait."""
        if self.copied is not None:
            here = torch.cuda.current_stream(self.tensors[0].device)
            here.wait_event(self.copied)
            for tensor in self.tensors:
                # Made in the stream of the copies: their memory must not be given out again before this one is done.
                tensor.record_stream(here)
        return self.tensors


class Sender:
    """Copies from page-locked memory to a GPU in a stream of its own, beside what the GPU computes."""

    def __init__(self, device: torch.device) -> None:
        """``device``: where to; on a CPU nothing is copied."""
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def send(self, *tensors: Tensor) -> Sent:
        """Begin to copy."""
        if self._stream is None:
            return Sent(tensors)
        there = []
        with torch.cuda.stream(self._stream):
            for tensor in tensors:
                there.append(tensor.to(self._device, non_blocking=True))
            return Sent(tuple(there), self._stream.record_event())
