"""Training batches of iterable data with a state, which may end at another step on each rank."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from hpcsgd.comm.communicator import Communicator
from hpcsgd.data.batches import Batch, checksum
from hpcsgd.data.own.items import Collated, SampleError, form, kept_generators, seed_generators
from hpcsgd.data.own.kinds import Stream
from hpcsgd.data.own.reading import Reader
from hpcsgd.errors import UsageError, name_ranks


class FlowLoader:
    """Training batches of the learners of a rank, each of ``local_batch_size`` samples of its own source.

    They are read by the training process, in order; a batch that is not full is left out. What a source draws from
    ``random``, NumPy's and torch's generators follows from (seed, step, learner).

    Attributes:
        steps_per_epoch: steps that are called an epoch.
    """

    may_end = True

    def __init__(
        self,
        stream: Stream,
        reader: Reader,
        *,
        steps_per_epoch: int,
        local_batch_size: int,
        learner: int,
        num_learners: int,
        own_learners: int = 1,
    ) -> None:
        """
        Args:
            stream: the samples.
            reader: how batches are made of them.
            steps_per_epoch: as the recipe says.
            local_batch_size: samples of a learner.
            learner: the first learner here, counted over all ranks.
            num_learners: learners of all ranks.
            own_learners: learners here.

        Raises:
            UsageError: there are several learners here, and the data has no ``shard``.
        """
        self.steps_per_epoch = steps_per_epoch
        self._name = stream.name
        self._reader = reader
        self._collate = Collated(stream.name, reader.collate)
        self._local_batch_size = local_batch_size
        self._learners = learner, num_learners, own_learners
        self._sources = _shards(stream, learner, num_learners, own_learners)
        self._iterators: list[Iterator[Any]] | None = None
        self._fetched = 0
        self._ready: dict[int, Batch | None] = {}
        self._before: dict[int, list[Any]] = {}

    def share(self, learner: int, num_learners: int, own_learners: int) -> None:
        """See that the learners stay those of the start.

        Raises:
            UsageError: they are others: what they have taken already cannot be told.
        """
        if (learner, num_learners, own_learners) != self._learners:
            raise UsageError("iterable data cannot be shared anew by another number of learners")

    def has(self, step: int) -> bool:
        """Whether there is a full batch of ``step`` for each learner here; it is read then."""
        while self._fetched <= step:
            self._before = {kept: state for kept, state in self._before.items() if kept >= step - 1}
            self._before[self._fetched] = self._states()
            self._ready[self._fetched] = self._fetch(self._fetched)
            self._fetched += 1
        return self._ready.get(step) is not None

    def batch(self, step: int) -> Batch:
        """The batch of ``step``, on the device; steps come in order, and the last may be asked for again.

        Raises:
            SampleError: the data fails, or no batch can be made of its samples.
        """
        assert self.has(step), f"there is no batch of step {step}"
        self._ready = {kept: batch for kept, batch in self._ready.items() if kept >= step}
        found = self._ready[step]
        assert found is not None
        return found

    def close(self) -> None:
        """There is nothing to end."""

    def state_dict(self, step: int) -> list[Any]:
        """The states of the sources before ``step``."""
        return self._before[step] if step in self._before else self._states()

    def load_state_dict(self, state: Any, step: int) -> None:
        """Go on with ``step`` from a state.

        Raises:
            UsageError: there is none, or a source does not take it.
        """
        if not isinstance(state, list) or len(state) != len(self._sources):
            raise UsageError("the checkpoint has no state of the iterable data for these learners: begin anew")
        for source, kept in zip(self._sources, state, strict=True):
            source.load_state_dict(kept)
        self._iterators, self._fetched = None, step
        self._ready, self._before = {}, {}

    def _fetch(self, step: int) -> Batch | None:
        """The next batch; None: a source has no more samples for it."""
        if self._ready.get(step - 1, True) is None:
            return None
        first, local = self._learners[0], self._local_batch_size
        items: list[Any] = []
        with kept_generators():
            try:
                if self._iterators is None:
                    # Wherever it goes on: an order that is drawn here is the same again.
                    seed_generators(self._reader.seed, 0, 0)
                    self._iterators = [iter(source) for source in self._sources]
                for number, iterator in enumerate(self._iterators):
                    # All draw alike at first, so that learners with the same samples are seen to have them.
                    seed_generators(self._reader.seed, step, first + number if step else 0)
                    items += itertools.islice(iterator, local)
                    if len(items) < local * (number + 1):
                        return None
            except Exception as error:  # a user's code may fail in any way
                raise SampleError(f"the split {self._name} cannot be read at step {step}") from error
            inputs, targets = self._collate([(local * step + place, item) for place, item in enumerate(items)])
        return Batch(*self._reader.on_device(inputs, targets), [local] * len(self._sources))

    def _states(self) -> list[Any]:
        """Copies of the states of the sources."""
        states = [copy.deepcopy(source.state_dict()) for source in self._sources]
        if not self._fetched:
            for state in states:
                _check_plain(state, self._name)
        return states


def _shards(stream: Stream, learner: int, num_learners: int, own_learners: int) -> list[Any]:
    """The source of each learner here."""
    shard = getattr(stream.source, "shard", None)
    if shard is None:
        if own_learners > 1:
            raise UsageError(
                f"the split {stream.name} of the data is iterable, and learners_per_rank is {own_learners}: give it a "
                "method shard(index, count), which gives the part of one learner"
            )
        return [stream.source]
    found = [shard(number, num_learners) for number in range(learner, learner + own_learners)]
    for part in found:
        if not all(hasattr(part, method) for method in ("__iter__", "state_dict", "load_state_dict")):
            raise UsageError(
                f"shard of the split {stream.name} gives {form(part)}: it must give an iterable with state_dict and "
                "load_state_dict"
            )
    return found


def _check_plain(state: Any, name: str) -> None:
    """Refuse a state of which a checkpoint would need a user's code to be read."""
    if isinstance(state, dict):
        for key, value in state.items():
            _check_plain(key, name)
            _check_plain(value, name)
    elif isinstance(state, list | tuple) and type(state) in (list, tuple):
        for value in state:
            _check_plain(value, name)
    elif not (state is None or isinstance(state, Tensor) or type(state) in (bool, int, float, str, bytes)):
        raise UsageError(
            f"state_dict of the split {name} has a {type(state).__name__}: checkpoints hold numbers, texts, tensors, "
            "lists and dicts only"
        )


def check_first_batches(loader: Any, comm: Communicator) -> None:
    """See that data that may end has a first batch, another one for each learner. Collective.

    Raises:
        UsageError: on all ranks, naming those that have none, or the same.
    """
    if not loader.may_end:
        return
    own = loader.batch(0).learners() if loader.has(0) else None
    found = comm.allgather_object(None if own is None else [checksum((part.inputs, part.targets)) for part in own])
    empty = [rank for rank, marks in enumerate(found) if marks is None]
    if empty:
        raise UsageError(f"the split train of the data ends before the first batch on {name_ranks(empty)}")
    seen: dict[int, int] = {}
    for rank, marks in enumerate(found):
        for mark in marks or []:
            if mark in seen:
                both = f"{name_ranks([seen[mark], rank])} begin" if seen[mark] != rank else f"two of rank {rank} begin"
                raise UsageError(
                    f"the learners of {both} with the same batch: all would be trained on the same samples; give the "
                    "split train a method shard(index, count), which gives the part of one learner"
                )
            seen[mark] = rank
