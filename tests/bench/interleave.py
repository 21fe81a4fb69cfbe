"""Time variants of one thing side by side in one set of processes: in rounds, in rotating order.

The time of a repetition is the maximum over the ranks. Whatever slows the machine for a while slows all variants of a
round alike, so that the ratio of two variants in the same round says more than the times do.
"""

from __future__ import annotations

import csv
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hpcsgd.comm.communicator import Communicator
from hpcsgd.data.batches import Batch, Loader

Gate = Callable[[], None]
Times = NDArray[np.float64]


class Variant(Protocol):
    """One way of doing it. All methods are collective."""

    name: str
    steps: int
    """What a repetition does so many times."""

    def prepare(self) -> None:
        """What comes before each repetition, not timed."""

    def run(self) -> float:
        """One repetition; its seconds."""

    def rest(self) -> None:
        """What comes after it, not timed."""


class Closed(Exception):
    """Raised in a lane's loop when it is no longer needed."""


class Lane:
    """A training loop as a variant: it runs in a thread of its own, and only for as many steps as it is given.

    So the product's whole loop is timed as it is, with nothing taken out of it. All loops, the peers' too, run in
    such threads; exactly one thread of a process is ever awake.
    """

    def __init__(
        self,
        name: str,
        loop: Callable[[Gate], None],
        block: int,
        *,
        warm_steps: int = 0,
        wake: Callable[[], None] | None = None,
        sleep: Callable[[], None] | None = None,
    ) -> None:
        """Start ``loop`` and hold it before its first step. Collective.

        Args:
            name: of the variant.
            loop: calls what it is given at the start of every step.
            block: steps of a repetition.
            warm_steps: steps before each repetition that are not timed.
            wake: called before them, for what must not run beside the other variants; not before the first time.
            sleep: called after the repetition, and at once.
        """
        self.name = name
        self._loop = loop
        self.steps = block
        self._warm_steps = warm_steps
        self._wake = wake
        self._sleep = sleep
        self._left = 0
        self._begin = self._end = 0.0
        self._closing = False
        self._error: BaseException | None = None
        self._go = threading.Semaphore(0)
        self._idle = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()
        self._await()
        self.rest()

    def prepare(self) -> None:
        """Wake it, and let it get warm."""
        if self._wake is not None:
            self._wake()
        if self._warm_steps:
            self.advance(self._warm_steps)

    def run(self) -> float:
        """A block of steps."""
        return self.advance(self.steps)

    def rest(self) -> None:
        """Send what the others would hear to sleep."""
        if self._sleep is not None:
            self._sleep()

    def advance(self, steps: int) -> float:
        """Let the loop do ``steps`` steps; the seconds that they took."""
        self._left = steps
        self._go.release()
        self._await()
        return self._end - self._begin

    def close(self) -> None:
        """End the loop."""
        self._closing = True
        self._go.release()
        self._thread.join()

    def _await(self) -> None:
        """Wait until the loop stands at its gate; its exception is raised here."""
        self._idle.acquire()
        if self._error is not None:
            raise self._error

    def _gate(self) -> None:
        """The start of a step."""
        if self._left == 0:
            self._end = time.perf_counter()
            self._idle.release()
            self._go.acquire()
            if self._closing:
                raise Closed
            self._begin = time.perf_counter()
        self._left -= 1

    def _serve(self) -> None:
        """The thread."""
        try:
            self._loop(self._gate)
        except Closed:
            pass
        except BaseException as error:  # raised again where the lane is driven
            self._error = error
            self._idle.release()


class GatedLoader:
    """The product's loader with a gate before each batch: there a lane can hold the loop."""

    def __init__(self, loader: Loader, gate: Gate) -> None:
        """Pass ``loader`` on."""
        self._loader = loader
        self._gate = gate
        self.may_end = loader.may_end

    def batch(self, step: int) -> Batch:
        """The loader's batch."""
        self._gate()
        return self._loader.batch(step)


def order_of(round_: int, count: int) -> list[int]:
    """The order of ``count`` variants in a round: over some rounds, each follows every other equally often.

    What a variant leaves in the caches, or still running, is then no variant's burden alone (Williams 1949).
    """
    first = [0]
    for i in range(1, count):
        first.append(count - i // 2 if i % 2 == 0 else (i + 1) // 2)
    order = [(round_ + i) % count for i in first]
    return order[::-1] if count % 2 and round_ // count % 2 else order


def interleave(comm: Communicator, variants: Sequence[Variant], seconds: float, path: Path) -> None:
    """Repeat rounds of all ``variants`` for ``seconds``, at least five; rank 0 writes all times to ``path``."""
    for variant in variants:
        _repeat(comm, variant)
    rows: list[list[float]] = []
    places: list[list[int]] = []
    end = time.perf_counter() + seconds
    while comm.broadcast_object(len(rows) < 5 or time.perf_counter() < end):
        order = order_of(len(rows), len(variants))
        times = {index: _repeat(comm, variants[index]) for index in order}
        rows.append([times[index] for index in range(len(variants))])
        places.append([order.index(index) for index in range(len(variants))])
    gathered = comm.gather(np.array(rows))
    if gathered is not None:
        _write(path, variants, gathered, places)


def _repeat(comm: Communicator, variant: Variant) -> float:
    """One repetition, begun by all ranks together."""
    variant.prepare()
    comm.barrier()
    seconds = variant.run()
    comm.barrier()
    variant.rest()
    return seconds


def _write(path: Path, variants: Sequence[Variant], times: Times, places: list[list[int]]) -> None:
    """Write times ``[ranks, rounds, variants]``, one row a repetition."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ranks = range(len(times))
    columns = [f"rank{rank}_seconds" for rank in ranks]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["round", "position", "variant", "steps", "seconds", *columns])
        for round_, row in enumerate(times.max(axis=0)):
            for index in np.argsort(places[round_]):
                own = [f"{times[rank, round_, index]:.7f}" for rank in ranks]
                variant = variants[index]
                place = places[round_][index]
                writer.writerow([round_, place, variant.name, variant.steps, f"{row[index]:.7f}", *own])
