"""One sample of a torch ``Dataset``, and a batch of them: what runs in worker processes.

Whichever process reads a sample, its generators begin at a place that follows from (seed, epoch, sample).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

from hpcsgd.data.own.kinds import MapSplit
from hpcsgd.data.store import as_tensor
from hpcsgd.data.trees import Tree, leaves, map_tree

_ITEM_STREAM = 8
"""First word of the seeds, in the count of ``hpcsgd.data.shards``."""

Request = tuple[int, int]
"""Epoch and sample of the split."""

Collate = Callable[[list[Any]], Any]


class SampleError(RuntimeError):
    """A user's data set, or collate function, fails; the text names the split and the samples."""


def seed_generators(seed: int, epoch: int, sample: int) -> None:
    """Let ``random``, NumPy's and torch's generators begin at the place of a sample."""
    words = np.random.SeedSequence([_ITEM_STREAM, seed, epoch, sample]).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    # Not torch.manual_seed: that would seed GPUs too.
    torch.default_generator.manual_seed(int(words[2]) << 32 | int(words[3]))


@contextmanager
def kept_generators() -> Iterator[None]:
    """Inside, samples are read by the training process: its own generators go on afterwards as if none had been."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@dataclass(frozen=True)
class Items:
    """Samples by epoch and number, as a ``Dataset`` for torch's ``DataLoader``.

    Attributes:
        split: the samples.
        seed: of what is random in them.
    """

    split: MapSplit
    seed: int

    def __getitem__(self, request: Request) -> tuple[int, Any]:
        """The number in the user's data set, and the sample.

        Raises:
            SampleError: it cannot be read.
        """
        epoch, sample = request
        place = self.split.place(sample)
        seed_generators(self.seed, epoch, place)
        try:
            return place, self.split.dataset[place]
        except Exception as error:  # a user's code may fail in any way
            raise SampleError(f"sample {place} of the split {self.split.name} cannot be read") from error


@dataclass(frozen=True)
class Collated:
    """Makes inputs and targets [n, ...] of samples.

    Attributes:
        name: of the split.
        function: of the user's; None: torch's ``default_collate``.
    """

    name: str
    function: Collate | None = None

    def __call__(self, found: Sequence[tuple[int, Any]]) -> tuple[Tree, Tree]:
        """From samples with their numbers to a batch.

        Raises:
            SampleError: they do not fit together, or what is made of them is no batch.
        """
        places, items = [place for place, _ in found], [item for _, item in found]
        where = f"samples {', '.join(map(str, places[:8]))}{', ...' * (len(places) > 8)} of the split {self.name}"
        if self.function is None:
            self._check_pairs(places, items)
        try:
            made = default_collate(items) if self.function is None else self.function(items)
        except Exception as error:  # as above
            odd = _odd_one(places, items)
            raise SampleError(f"{where} cannot be put together{f': {odd}' if odd else ''}") from error
        return self._as_batch(made, len(items), where)

    def _check_pairs(self, places: Sequence[int], items: Sequence[Any]) -> None:
        """Each sample must be inputs and targets."""
        for place, item in zip(places, items, strict=True):
            if not isinstance(item, tuple | list) or len(item) != 2:
                raise SampleError(
                    f"sample {place} of the split {self.name} is {form(item)}: it must be a pair of inputs and targets "
                    "(or give data.collate, a function of a list of samples)"
                )

    def _as_batch(self, made: Any, count: int, where: str) -> tuple[Tree, Tree]:
        """Inputs and targets, as tensors."""
        if not isinstance(made, tuple | list) or len(made) != 2:
            raise SampleError(f"data.collate gives {form(made)} for {where}: it must give inputs and targets")
        inputs, targets = (map_tree(as_tensor, tree) for tree in made)
        lengths = {leaf.shape[0] if leaf.dim() else 0 for leaf in leaves((inputs, targets))}
        if lengths != {count}:
            raise SampleError(
                f"{where}: they are put together as {form((inputs, targets))}: inputs and targets must be tensors "
                f"[{count}, ...], one row a sample"
            )
        return inputs, targets


def _odd_one(places: Sequence[int], items: Sequence[Any]) -> str:
    """The first sample that has another form than the first; empty: none has."""
    first = form(items[0]) if items else ""
    for place, item in zip(places, items, strict=True):
        if form(item) != first:
            return f"sample {place} is {form(item)}, sample {places[0]} is {first}"
    return ""


def form(tree: Any) -> str:
    """The form of a sample in words: ``(float32 [3, 8, 8], int)``."""
    if hasattr(tree, "dtype") and hasattr(tree, "shape"):
        return f"{str(tree.dtype).removeprefix('torch.')} {list(tree.shape)}"
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key}: {form(part)}" for key, part in tree.items()) + "}"
    if isinstance(tree, list | tuple):
        return "(" + ", ".join(map(form, tree)) + ")"
    return type(tree).__name__
