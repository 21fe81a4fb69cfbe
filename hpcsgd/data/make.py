"""From a recipe's data to what training and evaluation take of it, on a rank."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.config import DataConfig, EvaluateConfig, RunConfig
from hpcsgd.data.arrays import ArraySplit
from hpcsgd.data.batches import Loader, Split
from hpcsgd.data.blocks import block_permutation
from hpcsgd.data.dataset import Dataset
from hpcsgd.data.loader import DeviceLoader, DeviceSplit
from hpcsgd.data.order import Order, cached, shuffled
from hpcsgd.data.own.data import OwnData
from hpcsgd.data.own.flow import FlowLoader
from hpcsgd.data.own.kinds import MapSplit, OwnSplit, Stream
from hpcsgd.data.own.reading import MapEvaluation, MapLoader, make_reader
from hpcsgd.data.stage import stage, staged_path
from hpcsgd.data.store import Pictures, Store, Trees
from hpcsgd.data.stream import StreamLoader, StreamSplit
from hpcsgd.data.workers import num_workers
from hpcsgd.errors import UsageError

Data = Dataset | OwnData


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


@dataclass(frozen=True)
class Place:
    """Where batches are made, and of what form.

    Attributes:
        device: where batches are made, and a split is held if it is in memory.
        dtype: of what is floating-point.
        channels_last: memory order of images.
    """

    device: torch.device
    dtype: torch.dtype
    channels_last: bool


def open_data(
    data: Data,
    config: RunConfig,
    comm: Communicator,
    local_batch_size: int,
    device: torch.device,
    *,
    channels_last: bool,
) -> tuple[Loader, dict[str, Split]]:
    """The training batches of this rank's learners, and the splits to evaluate.

    Args:
        data: what was read.
        config: the run.
        comm: all ranks.
        local_batch_size: samples of a full batch of a learner.
        device: where they are trained.
        channels_last: memory order of images.

    Raises:
        UsageError: the data is not enough, or has no such split.
    """
    if isinstance(data.train, Stream):
        _check_once_only(config)
    place = Place(device, getattr(torch, config.dtype), channels_last)
    own = config.known_learners
    loader = make_loader(
        data,
        config.data,
        seed=config.seed,
        learner=comm.rank * own,
        num_learners=comm.size * own,
        own_learners=own,
        local_batch_size=local_batch_size,
        **vars(place),
    )
    names = evaluated(data, config.evaluate, tells=comm.rank == 0)
    return loader, {
        name: make_split(data, data.splits[name], config.data, seed=config.seed, **vars(place)) for name in names
    }


def _check_once_only(config: RunConfig) -> None:
    """Refuse what would read iterable data again, or by other learners.

    Raises:
        UsageError: the recipe asks for it.
    """
    for asked, what in (
        (config.learners_per_rank == "auto", "learners_per_rank is auto"),
        (config.on_failure == "shrink", "on_failure is shrink"),
        (config.algorithm.batch_norm_policy == "recompute", "algorithm.batch_norm_policy is recompute"),
    ):
        if asked:
            raise UsageError(
                f"the split train of the data is iterable, and {what}, for which its samples would be read again: "
                "choose another, or give a torch Dataset, with __getitem__ and __len__"
            )


def evaluated(data: Data, config: EvaluateConfig, *, tells: bool) -> list[str]:
    """The splits to evaluate; ``val`` where the recipe asks for no other than ``test``, and there is none.

    Args:
        data: what was read.
        config: the recipe's section.
        tells: say so on stderr.

    Raises:
        UsageError: one is not there; names those that are.
    """
    wanted = [str(name) for name in config.splits]
    if wanted == ["test"] and "test" not in data.splits and "val" in data.splits:
        if tells:
            print("hpcsgd: the data has no split test: val is evaluated in its place", file=sys.stderr, flush=True)
        return ["val"]
    missing = [name for name in wanted if name not in data.splits]
    if missing and config.every_epochs:
        there = [name for name in data.splits if name != "train" or not isinstance(data.train, Stream)]
        choose = (
            f"choose of {', '.join(there)}, or evaluate.every_epochs 0" if there else "set evaluate.every_epochs: 0"
        )
        raise UsageError(f"evaluate.splits has {missing[0]}, which {data.name} has not: {choose}")
    return [name for name in wanted if name in data.splits]


def make_loader(
    data: Data,
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
        data: its training split.
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
    if isinstance(data.train, Stream):
        assert config.steps_per_epoch is not None, "iterable data without it is refused as it is opened"
        return FlowLoader(
            data.train,
            make_reader(config, seed, device, dtype, channels_last),
            steps_per_epoch=config.steps_per_epoch,
            local_batch_size=local_batch_size,
            learner=learner,
            num_learners=num_learners,
            own_learners=own_learners,
        )
    size = len(data.train)
    from_disk = isinstance(data, Dataset) and data.crop is not None
    permutation = (
        cached(lambda epoch: block_permutation(seed, epoch, size, config.block_size))
        if from_disk
        else shuffled(seed, size)
    )
    order = Order(permutation, size, local_batch_size, config.tail, learner, num_learners, own_learners)
    if isinstance(data.train, MapSplit):
        return MapLoader(data.train, order, make_reader(config, seed, device, dtype, channels_last))
    if isinstance(data, Dataset) and from_disk:
        return StreamLoader(data, config, order, seed=seed, device=device, dtype=dtype, channels_last=channels_last)
    return DeviceLoader(make_store(data, data.train, device, dtype, channels_last, config), order, config, seed)


def make_split(
    data: Data,
    split: OwnSplit,
    config: DataConfig | None = None,
    *,
    device: torch.device,
    dtype: torch.dtype,
    channels_last: bool,
    seed: int = 0,
) -> Split:
    """``split`` of ``data`` in its stored order, for evaluation; the others as for :func:`make_loader`.

    Raises:
        UsageError: the split is iterable, of which an evaluation cannot be.
    """
    if isinstance(split, Stream):
        raise UsageError(
            f"evaluate.splits has {split.name}, which is iterable: an evaluation needs its samples, each once"
        )
    if isinstance(split, MapSplit):
        reader = make_reader(config or DataConfig(name="given"), seed, device, dtype, channels_last)
        return MapEvaluation(split, reader)
    if isinstance(data, Dataset) and data.crop is not None:
        workers = num_workers(config or DataConfig(name="pack"))
        return StreamSplit(data, split, device=device, dtype=dtype, channels_last=channels_last, workers=workers)
    return DeviceSplit(make_store(data, split, device, dtype, channels_last))


def make_store(
    data: Data,
    split: ArraySplit,
    device: torch.device,
    dtype: torch.dtype,
    channels_last: bool,
    augment: DataConfig | None = None,
    *,
    prepared: bool = False,
) -> Store:
    """A split in memory, on the device; arguments as of :class:`Pictures`."""
    if isinstance(data, Dataset):
        return Pictures(data, split, device, dtype, channels_last, augment, prepared=prepared)
    return Trees(split, device, dtype, channels_last)
