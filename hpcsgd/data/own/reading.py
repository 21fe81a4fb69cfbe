"""Batches of a torch ``Dataset``, read by worker processes in an order that is given."""

from __future__ import annotations

import atexit
import itertools
import pickle
import warnings
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader

from hpcsgd.config import DataConfig
from hpcsgd.config.imports import find_object, in_words
from hpcsgd.data.batches import Batch, OfSteps
from hpcsgd.data.order import Order
from hpcsgd.data.own.items import Collate, Collated, Items, Request, SampleError, kept_generators
from hpcsgd.data.own.kinds import MapSplit
from hpcsgd.data.own.workers import begin_worker, worker_context
from hpcsgd.data.store import brought, in_memory_order
from hpcsgd.data.trees import Tree, map_tree, stretch
from hpcsgd.data.workers import num_workers
from hpcsgd.errors import UsageError


@dataclass(frozen=True)
class Reader:
    """How a rank reads.

    Attributes:
        seed: of what is random in samples.
        workers: processes; 0: this one.
        prefetch: batches that each reads ahead.
        pin: bring batches into page-locked memory.
        collate: of the user's; None: torch's.
        device: where batches are brought.
        dtype: of what is floating-point in them.
        channels_last: memory order of what has four axes.
    """

    seed: int
    workers: int
    prefetch: int
    pin: bool
    collate: Collate | None
    device: torch.device
    dtype: torch.dtype
    channels_last: bool

    def on_device(self, inputs: Tree, targets: Tree) -> tuple[Tree, Tree]:
        """A batch as the learners take it."""
        inputs, targets = (
            map_tree(lambda leaf: brought(leaf, self.device, self.dtype), tree) for tree in (inputs, targets)
        )
        return in_memory_order(inputs, self.channels_last), targets


def make_reader(config: DataConfig, seed: int, device: torch.device, dtype: torch.dtype, channels_last: bool) -> Reader:
    """The reader that a recipe asks for, on this rank.

    Raises:
        UsageError: there is no such collate function.
    """
    collate = None if config.collate is None else find_object(config.collate, "data.collate")
    if collate is not None and not callable(collate):
        raise UsageError(f"data.collate names {config.collate}, which cannot be called")
    pin = device.type == "cuda" if config.pin_memory is None else config.pin_memory
    return Reader(seed, num_workers(config), config.prefetch, pin, collate, device, dtype, channels_last)


class Reading:
    """Batches of some requests, one after another, until it is closed."""

    def __init__(self, split: MapSplit, requests: Iterable[list[Request]], reader: Reader) -> None:
        """Start the workers.

        Args:
            split: the samples.
            requests: of each batch, in order.
            reader: how.

        Raises:
            UsageError: the data set cannot be sent to a worker.
        """
        self._name = split.name
        self._in_process = reader.workers == 0
        several: dict[str, Any] = {}
        if not self._in_process:
            several = {
                "num_workers": reader.workers,
                "prefetch_factor": reader.prefetch,
                "multiprocessing_context": worker_context(),
                "worker_init_fn": begin_worker,
            }
        loader: DataLoader[Any] = DataLoader(
            Items(split, reader.seed),  # type: ignore[arg-type]
            batch_sampler=requests,
            collate_fn=Collated(split.name, reader.collate),
            pin_memory=reader.pin,
            # Its seed would be drawn from the training's generator.
            generator=torch.Generator(),
            **several,
        )
        try:
            with warnings.catch_warnings():
                # More workers than cores may be what the user wants: of samples that wait for a network.
                warnings.filterwarnings("ignore", "This DataLoader will create")
                # It is told better below.
                warnings.filterwarnings("ignore", "Got pickle error")
                self._batches: Iterator[tuple[Tree, Tree]] | None = iter(loader)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UsageError(
                f"the data set of the split {split.name} cannot be sent to worker processes ({in_words(error)}): let "
                "it be one that can be pickled, or set data.workers: 0"
            ) from error
        _open.add(self)

    def __next__(self) -> tuple[Tree, Tree]:
        """The next batch, on the CPU.

        Raises:
            SampleError: a sample cannot be read, no batch can be made, or a worker is gone.
        """
        assert self._batches is not None
        if self._in_process:
            with kept_generators():
                return next(self._batches)
        try:
            return next(self._batches)
        except (RuntimeError, EOFError, OSError) as error:
            # What a user's code raises comes as a SampleError; the others are of a connection to a worker.
            if isinstance(error, RuntimeError) and "exited unexpectedly" not in str(error):
                raise
            raise SampleError(
                f"a worker that reads the split {self._name} is gone: it was killed (perhaps memory ran out: try fewer "
                "data.workers), or its own code ended it"
            ) from error

    def close(self) -> None:
        """End the workers; again: nothing."""
        batches, self._batches = self._batches, None
        workers = getattr(batches, "_workers", [])
        if batches is not None and workers:
            batches._shutdown_workers()  # type: ignore
        for worker in workers:
            if worker.is_alive():
                # It is in the midst of a user's code, and its signals are blocked.
                worker.kill()
            worker.join()


_open: weakref.WeakSet[Reading] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """At the end of the process, whatever ended it: multiprocessing would wait for workers for ever."""
    for reading in list(_open):
        reading.close()


class MapLoader(OfSteps):
    """Training batches of the learners of a rank: see ``DeviceLoader``, which is used alike.

    What is asked for in order is read ahead; asked for out of order, the reading starts anew.

    Attributes:
        steps_per_epoch: steps of an epoch.
    """

    def __init__(self, split: MapSplit, order: Order, reader: Reader) -> None:
        """
        Args:
            split: the samples.
            order: which of them the learners here take.
            reader: how they are read.
        """
        self._split = split
        self._reader = reader
        self._reading: Reading | None = None
        self._next = -1
        self._last: tuple[int, Batch] | None = None
        self._order = order
        self.steps_per_epoch = order.steps_per_epoch

    def share(self, learner: int, num_learners: int, own_learners: int) -> None:
        """Take the parts of ``own_learners`` from ``learner`` on, of so many, from now on.

        Raises:
            UsageError: the split does not fill one global batch and ``data.tail`` is drop.
        """
        self.close()
        self._order = self._order.shared(learner, num_learners, own_learners)
        self.steps_per_epoch = self._order.steps_per_epoch
        self._last = None

    def batch(self, step: int) -> Batch:
        """The batch of global step ``step``, on the device.

        Raises:
            SampleError: a sample cannot be read, or a batch cannot be made; from a worker, with its traceback.
            DataError: the data set has another length than at the start.
        """
        if self._last is None or self._last[0] != step:
            if step % self.steps_per_epoch == 0:
                self._split.check_length()
            if self._reading is None or self._next != step:
                self.close()
                self._reading = Reading(self._split, self._requests(step), self._reader)
            inputs, targets = next(self._reading)
            self._next = step + 1
            sizes = [len(part) for part in self._order.samples(step)]
            if not sum(sizes):
                inputs, targets = (stretch(tree, 0, 0) for tree in (inputs, targets))
            self._last = step, Batch(*self._reader.on_device(inputs, targets), sizes)
        return self._last[1]

    def close(self) -> None:
        """End the workers."""
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    def _requests(self, first: int) -> Iterator[list[Request]]:
        """What is read for each step from ``first`` on."""
        for step in itertools.count(first):
            epoch = step // self.steps_per_epoch
            found = [(epoch, int(sample)) for part in self._order.samples(step) for sample in part]
            # Where no learner has a sample, one shows the form of an empty batch.
            yield found or [(epoch, 0)]


class MapEvaluation:
    """A split of a ``Dataset`` in its stored order, for evaluation."""

    def __init__(self, split: MapSplit, reader: Reader) -> None:
        """``split``, and how it is read."""
        self._split = split
        self._reader = reader

    def __len__(self) -> int:
        return len(self._split)

    def batches(self, start: int, stop: int, batch_size: int) -> Iterator[tuple[Tree, Tree]]:
        """Samples ``start`` to ``stop`` - 1 in batches; what is random in them is the same each time.

        Raises:
            SampleError, DataError: see :class:`MapLoader`.
        """
        assert 0 <= start <= stop <= len(self)
        self._split.check_length()
        firsts = range(start, stop, batch_size)
        requests = [[(0, s) for s in range(first, min(first + batch_size, stop))] for first in firsts]
        if not requests:
            return
        reading = Reading(self._split, requests, self._reader)
        try:
            for _ in requests:
                yield self._reader.on_device(*next(reading))
        finally:
            reading.close()
