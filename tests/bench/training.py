"""Training steps: the product's own loop, and the bare scripts that it is held against."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from interleave import Gate, GatedLoader, Lane
from torch import Tensor, nn

from hpcsgd.comm.mpi import MpiCommunicator
from hpcsgd.comm.stop import StopSignals
from hpcsgd.config import (
    AlgorithmConfig,
    CommConfig,
    EvaluateConfig,
    LearningRateConfig,
    LogConfig,
    ModelConfig,
    RunConfig,
)
from hpcsgd.data.dataset import load_dataset
from hpcsgd.data.shards import epoch_permutation, learner_batch
from hpcsgd.models import build_model
from hpcsgd.record.collector import Collector
from hpcsgd.run.build import assemble
from hpcsgd.run.claims import Claim
from hpcsgd.run.keeper import Keeper
from hpcsgd.run.log import open_log
from hpcsgd.run.parts import Parts
from hpcsgd.run.resume import Start
from hpcsgd.train import train

Allreduce = Literal["auto", "horovod", "mpi", "torch"]
BATCH = 64
RATE = 0.02
MOMENTUM = 0.9
FUSION_BYTES = 128 << 20
"""Horovod's default. Taking the variable out of the environment again makes Horovod crash at its next start."""


def recipe(
    model: ModelConfig,
    *,
    log: bool = False,
    sync_period: int | None = None,
    allreduce: Allreduce = "auto",
    flush_steps: int = 100,
) -> RunConfig:
    """Synchronous SGD, or local SGD with a ``sync_period``, on Fashion-MNIST: more steps than a benchmark can take.

    The loop stands still between its repetitions, which ``log.flush_seconds`` would count.
    """
    algorithm = AlgorithmConfig() if sync_period is None else AlgorithmConfig(name="local_sgd", sync_period=sync_period)
    return RunConfig(
        epochs=10**6,
        local_batch_size=BATCH,
        device="cpu",
        progress="none",
        model=model,
        algorithm=algorithm,
        learning_rate=LearningRateConfig(base=RATE, scaling_rule="none"),
        comm=CommConfig(allreduce=allreduce),
        evaluate=EvaluateConfig(every_epochs=0),
        log=LogConfig(enabled=log, flush_steps=flush_steps, save_model=False),
    )


class Watch:
    """What watches one loop of ours: the watchdog, the look for what is not finite, the agreements on a stop.

    Checksums stay: they have a benchmark of their own, with the averaging.
    """

    def __init__(self, parts: Parts, collector: Collector, keeper: Keeper) -> None:
        """Take note of it as it is."""
        self._guarded = (parts.gradients, parts.world, collector)
        self._guard = parts.world.guard
        self._watchdog = parts.comm.watchdog
        self._stop = keeper.stop
        self._every_steps = keeper.stop.every_steps

    def switch(self, on: bool) -> None:
        """Switch all of it on or off."""
        for part in self._guarded:
            part.guard = self._guard if on else None
        self._stop.every_steps = self._every_steps if on else 10**9
        if on:
            vars(self._watchdog).pop("watch", None)
        else:
            vars(self._watchdog)["watch"] = lambda name: nullcontext()


class Switched:
    """A lane as a variant that is watched, or not: in the same memory, which alone makes up to 10 % of difference."""

    def __init__(self, name: str, lane: Lane, watches: list[Watch], on: bool) -> None:
        """
        Args:
            name: of the variant.
            lane: the loop.
            watches: of that loop: one.
            on: whether it is watched.
        """
        self.name = name
        self.steps = lane.steps
        self._lane = lane
        self._watches = watches
        self._on = on

    def prepare(self) -> None:
        """Switch, and go on for some steps: the first one is still the other variant's."""
        for watch in self._watches:
            watch.switch(self._on)
        self._lane.advance(3)

    def run(self) -> float:
        """The lane's repetition."""
        return self._lane.run()

    def rest(self) -> None:
        """Nothing runs on."""


class Horovod:
    """Horovod's background thread, which runs beside the lanes that use it and no others.

    It wakes every millisecond and speaks to the other ranks, so that all other variants would be slower beside it.
    """

    def __init__(self, comm: MpiCommunicator, fusion_bytes: int) -> None:
        """``fusion_bytes`` is ``HOROVOD_FUSION_THRESHOLD``, which Horovod reads at its start."""
        self._comm = comm
        self._fusion = str(fusion_bytes)

    def start(self) -> None:
        """Start the thread on all ranks."""
        import horovod.torch as hvd

        os.environ["HOROVOD_FUSION_THRESHOLD"] = self._fusion
        hvd.init(comm=self._comm.comm)

    def stop(self) -> None:
        """End it."""
        import horovod.torch as hvd

        hvd.shutdown()


class Bench:
    """Makes the lanes of one process set."""

    def __init__(
        self, comm: MpiCommunicator, directory: Path, model: ModelConfig, block: int, *, warm_steps: int = 0
    ) -> None:
        """
        Args:
            comm: all ranks.
            directory: for run logs.
            model: the network.
            block: steps of a repetition.
            warm_steps: steps before each repetition that are not timed.
        """
        self.comm = comm
        self.directory = directory
        self.model = model
        self.block = block
        self.warm_steps = warm_steps
        self.lanes: list[Lane] = []
        self.replicas: list[nn.Module] = []

    def switched(self, config: RunConfig) -> list[Switched]:
        """One loop of the product, watched and not, and not again."""
        watches: list[Watch] = []
        self.ours("switched", config, watches)
        names = {"watched": True, "unwatched": False, "unwatched again": False}
        return [Switched(name, self.lanes[-1], watches, on) for name, on in names.items()]

    def ours(self, name: str, config: RunConfig, watches: list[Watch] | None = None) -> None:
        """The product's loop as it is, with its log where ``config`` has one; ``watches`` gets what watches it."""
        comm = MpiCommunicator(self.comm.comm.Dup())
        path = self.directory / f"{len(self.lanes)}" if config.log.enabled else None
        if path is not None and self.comm.rank == 0:
            path.mkdir(parents=True)
        parts = assemble(config, comm)

        def loop(gate: Gate) -> None:
            gated = replace(parts, loader=GatedLoader(parts.loader, gate))  # type: ignore[arg-type]
            on_guard = comm.watchdog.on_guard(config.faults.collective_timeout_seconds)
            with on_guard, open_log(replace(gated, path=path), [], Start(), Claim(None)) as collector:
                keeper = Keeper(gated, collector, StopSignals())
                if watches is not None:
                    watches.append(Watch(gated, collector, keeper))
                train(gated, collector, keeper, 0)

        horovod = Horovod(self.comm, 0) if parts.gradients.name == "horovod" else None
        self._lane(name, parts.replica.module, loop, horovod)

    def theirs_horovod(self) -> None:
        """A bare script with Horovod's optimizer."""

        def wrap(module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
            import horovod.torch as hvd

            return module, hvd.DistributedOptimizer(optimizer, module.named_parameters())

        horovod = Horovod(self.comm, FUSION_BYTES)
        horovod.start()
        self._bare("DistributedOptimizer", wrap, horovod)

    def theirs_ddp(self) -> None:
        """A bare script with DistributedDataParallel, on the process group that a lane of ours has started."""

        def wrap(module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
            return nn.parallel.DistributedDataParallel(module), optimizer

        self._bare("DDP, Gloo", wrap, None)

    def _bare(
        self,
        name: str,
        wrap: Callable[[nn.Module, torch.optim.Optimizer], tuple[nn.Module, torch.optim.Optimizer]],
        horovod: Horovod | None,
    ) -> None:
        """A script of a few lines: the same model from the same seed on the same batches."""
        dataset = load_dataset(recipe(self.model).data)
        module = build_model(self.model, dataset.shape, dataset.num_classes, seed=0)
        pixels, classes = torch.from_numpy(dataset.train.inputs), torch.from_numpy(dataset.train.targets)
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (dataset.mean, dataset.std))
        global_batch = BATCH * self.comm.size

        def samples(epoch: int) -> Tensor:
            """This rank's part of the epoch, ``[steps, batch]``."""
            order = epoch_permutation(0, epoch, len(classes))
            steps = range(len(classes) // global_batch)
            cut = [learner_batch(order, step, self.comm.rank, self.comm.size, BATCH, "drop") for step in steps]
            return torch.stack([torch.from_numpy(part) for part in cut])

        def loop(gate: Gate) -> None:
            model, optimizer = wrap(module, torch.optim.SGD(module.parameters(), lr=RATE, momentum=MOMENTUM))
            model.train()
            for epoch in count():
                for index in samples(epoch):
                    gate()
                    images = (pixels.index_select(0, index).float() - mean) / std
                    labels = classes.index_select(0, index)
                    optimizer.zero_grad()
                    F.cross_entropy(model(images), labels).backward()
                    optimizer.step()

        self._lane(name, module, loop, horovod)

    def _lane(self, name: str, module: nn.Module, loop: Callable[[Gate], None], horovod: Horovod | None) -> None:
        """Add a lane."""
        wake, sleep = (None, None) if horovod is None else (horovod.start, horovod.stop)
        self.lanes.append(Lane(name, loop, self.block, warm_steps=self.warm_steps, wake=wake, sleep=sleep))
        self.replicas.append(module)

    def check_equal(self, steps: int = 5) -> None:
        """Let every lane do a few steps and make sure that all of them train the same."""
        for lane in self.lanes:
            lane.prepare()
            lane.advance(steps)
            lane.rest()
        first = dict(self.replicas[0].named_parameters())
        for lane, module in zip(self.lanes, self.replicas, strict=True):
            for name, parameter in module.named_parameters():
                assert torch.allclose(parameter, first[name], rtol=1e-3, atol=1e-5), (lane.name, name)
