"""What a rank needs to train any trial of a study, made once: the device, the data in its memory, the team."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hpcsgd.comm.backends import make_reducer
from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.comm.device import bind_device, set_threads
from hpcsgd.comm.reduce import FlatReducer, finish_on_stream, mark
from hpcsgd.comm.topology import discover
from hpcsgd.config.goal import ERRORS
from hpcsgd.config.study import StudyConfig
from hpcsgd.data.arrays import ArraySplit
from hpcsgd.data.make import Data, make_store
from hpcsgd.data.shards import pass_sizes, steps_per_epoch
from hpcsgd.data.store import Store, as_tensor
from hpcsgd.data.together import open_together
from hpcsgd.data.trees import map_tree
from hpcsgd.errors import UsageError
from hpcsgd.learners.engines.base import Engine
from hpcsgd.learners.engines.choose import make_engine
from hpcsgd.learners.replica import Replica
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.optim.base import RowOptimizer
from hpcsgd.optim.choose import all_states, kind_of, make_optimizer
from hpcsgd.tasks.attempt import Attempt, attempt
from hpcsgd.tasks.build import make_task
from hpcsgd.tasks.losses import CrossEntropy
from hpcsgd.tasks.metrics import Metric
from hpcsgd.tasks.precision import make_autocast, set_float32
from hpcsgd.tasks.task import Task
from hpcsgd.tasks.together import import_together
from hpcsgd.trials.batches import GroupBatches
from hpcsgd.trials.measure import Part, columns_of


@dataclass
class Workshop:
    """The parts.

    Attributes:
        config: the study.
        comm: all ranks.
        team: the ranks that train a trial together, this one among them.
        num_teams: teams of all ranks.
        device, device_name, dtype: of parameters and data.
        dataset: shape and classes; its arrays are those of the splits.
        metrics: what is measured; None: the errors of the public archive.
        task: what is learned; the smoothing of its loss is each trial's own.
        states: names of the optimizer's state tensors.
        training: the training split.
        splits: inputs, normalised, and targets that are evaluated, by the name of their columns.
        reducer: sums gradients over the team.
    """

    config: StudyConfig
    comm: Communicator
    team: Communicator
    num_teams: int
    device: torch.device
    device_name: str
    dtype: torch.dtype
    dataset: Data
    task: Task
    metrics: Mapping[str, Metric] | None
    states: tuple[str, ...]
    training: Store
    splits: dict[str, Part]
    reducer: FlatReducer

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the measurements."""
        return columns_of(self.splits, self.config.measured)

    def tensor(self, values: Tensor) -> Tensor:
        """``values`` on the device, of the type of the parameters."""
        return values.to(device=self.device, dtype=self.dtype)

    def sum_over_team(self, values: Tensor) -> None:
        """Replace contiguous ``values`` by their sum over the team."""
        if self.team.size > 1:
            flat = values.view(-1)
            finish_on_stream(flat, self.reducer.reduce_(flat, 1.0, mark(flat)))

    def make_stack(self, seeds: Sequence[int]) -> ReplicaStack:
        """Learners with the initial parameters and the random streams of ``seeds``."""
        channels_last = self.config.model.channels_last is True
        replicas = [
            Replica(self.task.new_module(seed), self.device, self.dtype, channels_last=channels_last) for seed in seeds
        ]
        stack = ReplicaStack(replicas, seeds, self.states)
        if self.task.draws:
            stack.draw_apart(seeds)
        return stack

    def make_engine(self, name: str, stack: ReplicaStack, smoothing: Tensor) -> Engine:
        """The engine ``name`` for learners with their own label smoothing, [m].

        Raises:
            NotPossibleError: it cannot take the model.
        """
        loss = CrossEntropy(self.tensor(smoothing)) if smoothing.any() else self.task.loss
        return make_engine(name, stack, replace(self.task, loss=loss))

    def make_optimizer(self, stack: ReplicaStack, momentum: Tensor) -> RowOptimizer:
        """The optimizer of learners with their own momentum, [m], where it has one."""
        config = self.config.optimizer
        return make_optimizer(config, stack.rows, kind_of(config, stack.device, stack.dtype), momentum)


def open_workshop(config: StudyConfig, comm: Communicator) -> Workshop:
    """Build the parts. Collective.

    Raises:
        UsageError: on all ranks alike: the study cannot be trained with these ranks, devices and data.
    """
    places = agree(comm, lambda: discover(comm))
    imported = import_together(config, comm)
    device, device_name = bind_device(config.device, comm, places[comm.rank], share_gpu=config.share_gpu)
    set_float32(config.precision)
    set_threads(config.threads, comm, places[comm.rank])
    dataset = open_together(config.data, comm, places[comm.rank].node)
    agree(comm, lambda: _check_splits(dataset))
    task = agree(comm, lambda: make_task(config.model, dataset, config.loss, config.metrics))
    task = replace(task, autocast=make_autocast(config.precision, device))
    agree(comm, lambda: _check(config, comm.size, dataset, task))
    dtype = getattr(torch, config.dtype)
    channels_last = config.model.channels_last is True
    team = comm.split(comm.rank // config.ranks_per_trial)
    # Normalised once and for all: an evaluation of few trials would spend its time on it.
    splits = {
        name: make_store(dataset, split, device, dtype, channels_last, prepared=True).stretch(0, len(split))
        for name, split in evaluated_splits(config, dataset).items()
    }
    own = config.optimizer
    shop = Workshop(
        config,
        comm,
        team,
        comm.size // config.ranks_per_trial,
        device,
        device_name,
        dtype,
        dataset,
        task,
        None if config.measured == ERRORS else task.metrics,
        agree(comm, lambda: all_states(own, kind_of(own, device, dtype))),
        make_store(dataset, in_memory(dataset, "train"), device, dtype, channels_last, config.data, prepared=True),
        splits,
        agree(comm, lambda: make_reducer(config.comm, team, device, comm)),
    )
    if imported or task.autocast is not None:
        tried = agree(comm, lambda: _try(shop))
        shop.task = replace(task, is_weighted=tried.is_weighted, draws=tried.draws)
    return shop


def evaluated_splits(config: StudyConfig, dataset: Data) -> dict[str, ArraySplit]:
    """The samples that metrics are of, by the name of their columns in the archive."""
    limits = {"train": config.evaluate.train_samples, "val": None, "test": config.evaluate.test_samples}
    there = {name: limit for name, limit in limits.items() if name in dataset.splits}
    return {name: in_memory(dataset, name).part(slice(limit)) for name, limit in there.items()}


def in_memory(dataset: Data, name: str) -> ArraySplit:
    """A split of data that a study can hold."""
    split = dataset.splits[name]
    assert isinstance(split, ArraySplit), "others are refused"
    return split


def _check_splits(dataset: Data) -> None:
    """Refuse data that cannot be held in memory, or has nothing to judge goals on.

    Raises:
        UsageError: it is of another kind.
    """
    for name, split in dataset.splits.items():
        if not isinstance(split, ArraySplit):
            raise UsageError(
                f"the split {name} of the data {dataset.name} is read sample by sample, and a study holds its data in "
                "memory: give arrays or tensors, or train one run after another (hpcsgd sweep)"
            )
    if "val" not in dataset.splits:
        raise UsageError(
            f"the data {dataset.name} has no split val, on which the goals of a study are judged: give it one, or set "
            "data.validation_samples"
        )


def _try(shop: Workshop) -> Attempt:
    """Take some samples through a user's own task.

    Raises:
        UsageError: something is wrong with it.
    """
    config = shop.config
    batch = GroupBatches(shop.training, config.data, [config.seed], min(config.batch_sizes)).batch(0)
    done = attempt(shop.task, shop.task.new_module(config.seed).to(device=shop.device, dtype=shop.dtype), batch)
    assert done is not None, "a whole batch has samples"
    return done


def _check(config: StudyConfig, num_ranks: int, dataset: Data, task: Task) -> None:
    """What only ranks and data show."""
    team = config.ranks_per_trial
    if num_ranks % team:
        valid = [n for n in range(1, num_ranks + 1) if num_ranks % n == 0]
        raise UsageError(f"ranks_per_trial is {team}, which does not divide {num_ranks} ranks: choose one of {valid}")
    task.new_module(config.seed)
    samples, example = len(in_memory(dataset, "train")), map_tree(as_tensor, dataset.example)
    for size in config.batch_sizes:
        if size % team:
            raise UsageError(
                f"ranks_per_trial is {team}, but batch size {size} cannot be shared evenly by so many: choose others"
            )
        try:
            steps_per_epoch(samples, size, config.data.tail)
        except UsageError as error:
            raise UsageError(f"batch_sizes has {size}: {error}") from error
        task.check_passes(config.seed, example, pass_sizes(samples, team, size // team, config.data.tail))
