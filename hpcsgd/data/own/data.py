"""From what a user gives to splits that fit together."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hpcsgd.config import DataConfig
from hpcsgd.config.imports import build, call, in_words
from hpcsgd.data.arrays import ArraySplit
from hpcsgd.data.dataset import hold_out, share_of
from hpcsgd.data.identity import Identity, checksum, known_classes
from hpcsgd.data.own.items import Items, SampleError, kept_generators
from hpcsgd.data.own.kinds import MapSplit, OwnSplit, Stream, as_split
from hpcsgd.data.store import as_tensor
from hpcsgd.data.trees import Tree, leaves, map_tree, stretch
from hpcsgd.errors import UsageError

SPLITS = ("train", "test", "val")

LOOKED_AT = 16
"""Samples of a ``Dataset``, spread over each split, that its checksum is of."""


@dataclass(frozen=True)
class OwnData:
    """A user's splits, without what is held out, and what is known of them.

    Attributes:
        name: what made them.
        splits: by their names.
        num_classes: classes; None where that is not known.
        shape: of an input, where it is one tensor; else None.
        example: the inputs of one sample, a tree of tensors [1, ...]; None: they are not known before they are read.
        identity: what the data is, in values that JSON holds.
        remarks: lines for the user.
    """

    name: str
    splits: dict[str, OwnSplit]
    num_classes: int | None
    shape: tuple[int, ...] | None
    example: Tree | None
    identity: Identity
    remarks: tuple[str, ...] = ()

    @property
    def train(self) -> OwnSplit:
        """What is trained on."""
        return self.splits["train"]

    @property
    def num_train(self) -> int | None:
        """Training samples; None: nobody knows."""
        return None if isinstance(self.train, Stream) else len(self.train)


def open_own(config: DataConfig, given: Any = None) -> OwnData:
    """The data that ``config`` names, or that a program brings with it.

    Args:
        config: the recipe's section.
        given: the splits, or a function that makes them; None: ``data.name`` is the import path of one.

    Raises:
        UsageError: it cannot be imported, made or used.
    """
    if given is None:
        if config.name == "given":
            raise UsageError("data.name is 'given', but no data was: name a data set, or an import path of your own")
        given = build(config.name, config.init_args, "data")
    elif callable(given) and not _has_splits(given):
        given = call(given, {}, "data")
    splits = _held_out(_splits_of(given), config)
    _check_lengths(splits["train"], config)
    names, number = _classes_of(given, splits)
    example = _example(splits["train"])
    only = example if isinstance(example, torch.Tensor) else None
    identity: Identity = {
        "samples": {name: len(split) for name, split in splits.items() if not isinstance(split, Stream)},
        "classes": known_classes(names, number) if number is not None else 0,
        "checksum": _checksum(splits),
    }
    shape = tuple(only.shape[1:]) if only is not None else None
    return OwnData(config.name, splits, number, shape, example, identity)


def _has_splits(given: Any) -> bool:
    """Whether it has a training split, by its key or as an attribute."""
    return "train" in given if isinstance(given, Mapping) else hasattr(given, "train")


def _splits_of(given: Any) -> dict[str, OwnSplit]:
    """The splits by their names.

    Raises:
        UsageError: there is none for training, or another one cannot be used.
    """
    if not _has_splits(given):
        what = f"a mapping of {', '.join(map(str, given))}" if isinstance(given, Mapping) else type(given).__name__
        raise UsageError(f"the data is {what}: it must have a split train, as a key or an attribute")
    found = {n: given.get(n) if isinstance(given, Mapping) else getattr(given, n, None) for n in SPLITS}
    if isinstance(given, Mapping):
        unknown = [str(name) for name in given if name not in (*SPLITS, "classes")]
        if unknown:
            raise UsageError(f"the data has a split {unknown[0]}: splits are called {', '.join(SPLITS)}")
    return {name: as_split(name, split) for name, split in found.items() if split is not None}


def _held_out(splits: dict[str, OwnSplit], config: DataConfig) -> dict[str, OwnSplit]:
    """The splits as the recipe cuts them: indices, and no copies of samples that are not in memory."""
    train, changed = splits["train"], dict(splits)
    if config.validation_samples == 0 and config.train_fraction == 1:
        return changed
    if isinstance(train, Stream):
        raise UsageError(
            "data.validation_samples and data.train_fraction are of data whose samples have numbers, and the split "
            "train is iterable: leave them out"
        )
    if config.validation_samples and "val" in splits:
        raise UsageError("data.validation_samples holds samples out as the split val, which the data has: leave it out")
    left, val = hold_out(train, config.validation_samples)
    changed["train"] = share_of(left, config.train_fraction)
    return changed if val is None else changed | {"val": val}


def _check_lengths(train: OwnSplit, config: DataConfig) -> None:
    """Whether the recipe must say how long an epoch is."""
    if isinstance(train, Stream) and config.steps_per_epoch is None:
        raise UsageError("the split train is iterable, and nothing says how long an epoch is: set data.steps_per_epoch")
    if not isinstance(train, Stream) and config.steps_per_epoch is not None:
        raise UsageError(
            f"data.steps_per_epoch is for iterable data, and the split train has {len(train)} samples: leave it out"
        )


def _classes_of(given: Any, splits: Mapping[str, OwnSplit]) -> tuple[Sequence[str], int | None]:
    """The names of the classes, if any, and their number, if it is known."""
    train = splits["train"]
    source = {ArraySplit: None, MapSplit: getattr(train, "dataset", None), Stream: getattr(train, "source", None)}
    for owner in (given, source[type(train)]):
        classes = owner.get("classes") if isinstance(owner, Mapping) else getattr(owner, "classes", None)
        if classes is not None and not callable(classes):
            return _named(classes)
    numbers = [split.targets for split in splits.values() if isinstance(split, ArraySplit)]
    if len(numbers) < len(splits) or not all(_are_numbers(targets) for targets in numbers):
        return (), None
    return (), max(int(targets.max()) for targets in numbers) + 1


def _named(classes: Any) -> tuple[Sequence[str], int]:
    """Classes by their names, or their number alone."""
    try:
        number = operator.index(classes)
    except TypeError:
        names = [str(name) for name in classes]
        return names, len(names)
    return (), number


def _are_numbers(targets: Tree) -> bool:
    """Whether targets can be classes: whole numbers [N]."""
    if not hasattr(targets, "dtype") or len(targets.shape) != 1:
        return False
    if isinstance(targets, torch.Tensor):
        return not (targets.is_floating_point() or targets.is_complex()) and targets.dtype is not torch.bool
    return bool(np.issubdtype(targets.dtype, np.integer))


def _example(train: OwnSplit) -> Tree | None:
    """The inputs of a training sample, [1, ...]."""
    if isinstance(train, Stream):
        return None
    if isinstance(train, ArraySplit):
        return map_tree(_as_seen, stretch(train.inputs, 0, 1))
    item = _read(train, 0)
    if not isinstance(item, tuple | list) or len(item) != 2:
        # A collate function of the user's makes something of it.
        return None
    return map_tree(lambda leaf: _as_seen(leaf)[None], item[0])


def _as_seen(leaf: Any) -> torch.Tensor:
    """An input as a network that is just made can take it."""
    tensor = as_tensor(leaf)
    return tensor.float() if tensor.is_floating_point() else tensor


def _read(split: MapSplit, sample: int) -> Any:
    """One sample, as it is whichever run reads it.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with kept_generators():
            return Items(split, 0)[0, sample][1]
    except SampleError as error:
        assert error.__cause__ is not None
        raise UsageError(f"data: {error}: {in_words(error.__cause__)}") from error


def _checksum(splits: Mapping[str, OwnSplit]) -> int | str:
    """Of what the splits hold: of arrays all of it, of a ``Dataset`` some samples, unless it says it itself."""
    found, said = 0, []
    for split in splits.values():
        source = {ArraySplit: None, MapSplit: "dataset", Stream: "source"}[type(split)]
        own = getattr(getattr(split, source), "checksum", None) if source else None
        if own is not None:
            said.append(str(own() if callable(own) else own))
        elif isinstance(split, ArraySplit):
            found = _checksum_of((split.inputs, split.targets), found)
        elif isinstance(split, MapSplit):
            for sample in np.unique(np.linspace(0, len(split) - 1, LOOKED_AT).astype(np.int64)):
                found = _checksum_of(_read(split, int(sample)), found)
    return " ".join([*said, f"{found:08x}"]) if said else found


def _checksum_of(tree: Tree, start: int) -> int:
    """The checksum of all that is in a tree; numbers that are no arrays count too."""
    arrays = [_bytes_of(leaf) for leaf in leaves(tree)]
    numbers = [repr(value).encode() for value in _plain(tree)]
    return checksum([*arrays, *(np.frombuffer(text, np.uint8) for text in numbers)], start, floats=True)


def _plain(tree: Tree) -> list[Any]:
    """The numbers and texts in a tree beside its arrays."""
    if isinstance(tree, dict):
        return [value for part in tree.values() for value in _plain(part)]
    if isinstance(tree, list | tuple):
        return [value for part in tree for value in _plain(part)]
    return [tree] if isinstance(tree, bool | int | float | str | bytes) else []


def _bytes_of(leaf: Any) -> np.ndarray[Any, Any]:
    """An array of what a tensor or an array holds."""
    if not isinstance(leaf, torch.Tensor):
        return np.atleast_1d(np.asarray(leaf))
    whole = leaf.detach().cpu().contiguous()
    return whole.reshape(-1).view(torch.uint8).numpy()
