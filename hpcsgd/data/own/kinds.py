"""The kinds of splits that a user's own data may have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, TensorDataset

from hpcsgd.data.arrays import ArraySplit
from hpcsgd.data.trees import leaves
from hpcsgd.errors import DataError, UsageError


@dataclass(frozen=True)
class MapSplit:
    """Samples of a torch ``Dataset``.

    Attributes:
        name: of the split.
        dataset: gives a sample for a number from 0 to ``size`` - 1.
        size: its samples.
        places: those that belong to the split, in order; None: all.
    """

    name: str
    dataset: Any
    size: int
    places: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return self.size if self.places is None else len(self.places)

    def part(self, samples: slice | NDArray[np.int64]) -> MapSplit:
        """Those of some samples; nothing is read."""
        places = np.arange(self.size) if self.places is None else self.places
        return replace(self, places=places[samples])

    def place(self, sample: int) -> int:
        """The number in the data set of a sample of the split."""
        return sample if self.places is None else int(self.places[sample])

    def check_length(self) -> None:
        """See that the data set has as many samples as at the start.

        Raises:
            DataError: it has not.
        """
        if len(self.dataset) != self.size:
            raise DataError(
                f"the data set of the split {self.name} had {self.size} samples, and has {len(self.dataset)} now: its "
                "length must stay, as the order of its samples is drawn for all ranks"
            )


@dataclass(frozen=True)
class Stream:
    """Iterable data with a state.

    Attributes:
        name: of the split.
        source: gives samples, in an order of its own.
    """

    name: str
    source: Any


OwnSplit = ArraySplit | MapSplit | Stream


def as_split(name: str, given: Any) -> OwnSplit:
    """The split that a user gives.

    Raises:
        UsageError: it is of no kind that can be used, or has no samples.
    """
    if isinstance(given, TensorDataset) and len(given.tensors) == 2:
        given = given.tensors
    if isinstance(given, tuple):
        split: ArraySplit | MapSplit = _as_arrays(name, given)
    elif not isinstance(given, IterableDataset) and hasattr(given, "__getitem__") and hasattr(given, "__len__"):
        split = MapSplit(name, given, len(given))
    elif hasattr(given, "__iter__"):
        return _as_stream(name, given)
    else:
        raise UsageError(
            f"the split {name} of the data is {_kind(given)}: give a tuple of inputs and targets, a torch Dataset, or "
            "an iterable with state_dict and load_state_dict"
        )
    if len(split) == 0:
        raise UsageError(f"the split {name} of the data has no samples")
    return split


def _as_arrays(name: str, given: tuple[Any, ...]) -> ArraySplit:
    """Inputs and targets in memory."""
    if len(given) != 2:
        raise UsageError(
            f"the split {name} of the data is a tuple of {len(given)}: it must be one of inputs and targets"
        )
    for what, tree in zip(("inputs", "targets"), given, strict=True):
        if next(leaves(tree), None) is None:
            raise UsageError(
                f"the {what} of the split {name} are {_kind(tree)}: give arrays or tensors, or a tree of them"
            )
    try:
        return ArraySplit(*given)
    except UsageError as error:
        raise UsageError(f"the split {name} of the data: {error}") from error


def _as_stream(name: str, given: Any) -> Stream:
    """Iterable data, which is for training alone."""
    if name != "train":
        raise UsageError(
            f"the split {name} of the data is iterable: an evaluation is of all samples, each once, so that it must be "
            "arrays or a torch Dataset"
        )
    for method in ("state_dict", "load_state_dict"):
        if not callable(getattr(given, method, None)):
            raise UsageError(
                f"the split {name} of the data is iterable, but {_kind(given)} has no {method}: a run could not be "
                "gone on with; or give a torch Dataset, with __getitem__ and __len__"
            )
    return Stream(name, given)


def _kind(given: Any) -> str:
    """The type of something, for messages."""
    return "nothing" if given is None else f"of type {type(given).__name__}"
