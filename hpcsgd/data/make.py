"""From a recipe's data to what training and evaluation take of it, on a rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.config import DataConfig
from hpcsgd.data.arrays import ArraySplit
from hpcsgd.data.batches import Loader, Split
from hpcsgd.data.blocks import block_permutation
from hpcsgd.data.dataset import Dataset
from hpcsgd.data.loader import DeviceLoader, DeviceSplit
from hpcsgd.data.order import Order, cached, shuffled
from hpcsgd.data.stage import stage, staged_path
from hpcsgd.data.store import Pictures
from hpcsgd.data.stream import StreamLoader, StreamSplit


def staged(data: DataConfig, comm: Communicator, local_rank: int) -> DataConfig:
    """``data`` with its file on the node's own disk, where that is asked for. Collective."""
    if data.stage_dir is None or data.dir is None:
        return data
    source, directory = Path(data.dir), Path(data.stage_dir)
    found = agree(comm, lambda: staged_path(source, directory) if comm.rank == 0 else None)
    target = comm.broadcast_object(found)
    assert target is not None
    agree(comm, lambda: stage(source, directory) if local_rank == 0 else None)
    return replace(data, dir=str(target))


def make_loader(
    dataset: Dataset,
    config: DataConfig,
    *,
    seed: int,
    learner: int,
    num_learners: int,
    local_batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
    channels_last: bool,
    own_learners: int = 1,
) -> Loader:
    """The training batches of the learners of a rank.

    Args:
        dataset: its training split.
        config: augmentation and the rule for the tail of an epoch.
        seed: of the permutations and the augmentation.
        learner: the first learner here, counted over all ranks.
        num_learners: learners of all ranks.
        local_batch_size: samples of a full batch.
        device: where batches are made, and the split is held if it is in memory.
        dtype: of what is floating-point in a batch.
        channels_last: memory order of the images in a batch.
        own_learners: learners here: ``learner`` and those that follow it.

    Raises:
        UsageError: the split does not fill one global batch and ``config.tail`` is drop.
    """
    size = len(dataset.train)
    from_disk = dataset.crop is not None
    permutation = (
        cached(lambda epoch: block_permutation(seed, epoch, size, config.block_size))
        if from_disk
        else shuffled(seed, size)
    )
    order = Order(permutation, size, local_batch_size, config.tail, learner, num_learners, own_learners)
    if from_disk:
        return StreamLoader(dataset, config, order, seed=seed, device=device, dtype=dtype, channels_last=channels_last)
    store = Pictures(dataset, dataset.train, device, dtype, channels_last, config)
    return DeviceLoader(store, order, config, seed)


def make_split(
    dataset: Dataset, split: ArraySplit, *, device: torch.device, dtype: torch.dtype, channels_last: bool
) -> Split:
    """``split`` of ``dataset`` in its stored order, for evaluation; the others as for :func:`make_loader`."""
    if dataset.crop is not None:
        return StreamSplit(dataset, split, device=device, dtype=dtype, channels_last=channels_last)
    return DeviceSplit(Pictures(dataset, split, device, dtype, channels_last))


def make_splits(dataset: Dataset, names: Sequence[str], **options: Any) -> dict[str, Split]:
    """The splits to evaluate, by name; ``options`` are those of :func:`make_split`."""
    return {name: make_split(dataset, getattr(dataset, name), **options) for name in names}
