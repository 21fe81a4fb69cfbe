"""Pieces of memory that streams and the host share, and what was last done to each part of them."""

from __future__ import annotations

import functools
import weakref
from collections import Counter
from collections.abc import Sequence

from torch import Tensor

from tests.pretend_gpu.order import Actor, Clock, Order

Span = tuple[int, int]
"""First byte, and the one behind the last."""

MOST_SPANS = 64
"""A tensor in more pieces is taken for one that fills the gaps between them."""


def spans_of(real: Tensor) -> list[Span]:
    """The bytes of its storage that the CPU tensor ``real`` covers."""
    return _spans(tuple(real.shape), real.stride(), real.storage_offset(), real.element_size())


@functools.lru_cache(4096)
def _spans(shape: tuple[int, ...], strides: tuple[int, ...], offset: int, size: int) -> list[Span]:
    """Those of a tensor of elements of ``size`` bytes."""
    if 0 in shape:
        return []
    starts = [offset]
    axes = sorted(((s, n) for s, n in zip(strides, shape, strict=True) if n > 1 and s > 0), reverse=True)
    for index, (stride, number) in enumerate(axes):
        inner = 1 + sum(s * (n - 1) for s, n in axes[index + 1 :])
        if inner >= stride or len(starts) * number > MOST_SPANS:
            extent = inner + stride * (number - 1)
            return [(start * size, (start + extent) * size) for start in starts]
        starts = [start + i * stride for start in starts for i in range(number)]
    return [(start * size, (start + 1) * size) for start in starts]


def numbers_of(tensor: Tensor) -> Tensor:
    """The CPU tensor that has the numbers: of one on the device, or itself."""
    found: Tensor = getattr(tensor, "real_tensor", tensor)
    return found


class Memory:
    """An allocation.

    Attributes:
        made: the line that made it.
        safe_for: streams that its owner waits for before it gives it back (``record_stream``).
    """

    def __init__(self, made: str) -> None:
        self.made = made
        self.safe_for: set[Actor] = set()
        self._era = 0
        self._last: dict[tuple[Actor, int, int, bool], tuple[int, str]] = {}

    def touch(
        self, spans: Sequence[Span], actor: Actor, clock: Clock, what: str, *, write: bool, era: int
    ) -> list[str]:
        """``actor`` reads or writes ``spans`` as the last thing that ``clock`` knows of it; gives the races."""
        if era != self._era:
            self._era = era
            self._last.clear()
        races, settled = [], []
        for key, (tick, did) in self._last.items():
            other, begin, end, wrote = key
            if other == actor or clock.knows(other, tick):
                # Whoever comes after this write comes after that access too.
                if write and any(low <= begin and end <= high for low, high in spans):
                    settled.append(key)
            elif (write or wrote) and not (other.is_host and actor.is_host):
                # Two threads of the host are not what is looked for here.
                if any(low < end and begin < high for low, high in spans):
                    races.append(f"{what} ({actor}) beside {did} ({other}), memory of {self.made}")
        for key in settled:
            del self._last[key]
        for low, high in spans:
            self._last[actor, low, high, write] = (clock[actor], what)
        return races

    def free_late(self, order: Order, home: Actor, races: Counter[str]) -> None:
        """When it is given back to ``home``, the stream it was made in, no other one may still use it."""
        at_end = functools.partial(_look_at_end, self._last, self.safe_for, self.made, order, order.era, home, races)
        weakref.finalize(self, at_end).atexit = False


def _look_at_end(
    last: dict[tuple[Actor, int, int, bool], tuple[int, str]],
    safe_for: set[Actor],
    made: str,
    order: Order,
    era: int,
    home: Actor,
    races: Counter[str],
) -> None:
    """Note what the next owner of the memory would not wait for."""
    with order.lock:
        if order.era != era:
            return
        clock = order.clock(home)
        for (actor, _, _, _), (tick, did) in last.items():
            if not actor.is_host and actor != home and actor not in safe_for and not clock.knows(actor, tick):
                races[f"memory of {made} is free again for {home} while {did} ({actor}) may use it"] += 1
