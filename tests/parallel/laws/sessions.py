"""Loops of the user's own on several ranks."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hpcsgd
from hpcsgd.comm.communicator import Communicator
from hpcsgd.config import AlgorithmConfig, LogConfig
from hpcsgd.errors import UsageError
from tests.parallel.laws.common import assert_close, num_versions, vector
from tests.parallel.laws.registry import law

STEPS = 6
NO_LOG = LogConfig(enabled=False, save_model=False)


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2)).double()


def batch(step: int, rank: int, count: int) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(100 * step + rank)
    return torch.randn(count, 5, generator=stream, dtype=torch.float64), torch.randint(2, (count,), generator=stream)


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.02)


def train(comm: Communicator, algorithm: AlgorithmConfig, skips: bool = False, stop_after: int = STEPS) -> nn.Module:
    """Rank r has r + 1 samples a step; ``skips``: rank 0 leaves out step 2; the last rank ends after ``stop_after``."""
    model = network()
    own = [batch(step, comm.rank, comm.rank + 1) for step in range(STEPS)]
    with hpcsgd.session(model, make_optimizer(model), algorithm=algorithm, comm=comm, log=NO_LOG) as run:
        for step, (inputs, targets) in enumerate(run.batches(own)):
            if step == stop_after and comm.rank == comm.size - 1:
                break
            if skips and step == 2 and comm.rank == 0:
                continue
            run.backward(F.cross_entropy(model(inputs), targets))
            run.step()
        # What is done after the end of one rank does not wait for it.
        for _ in run.batches(own) if stop_after < STEPS and comm.rank < comm.size - 1 else ():
            raise AssertionError("a rank has left")
    return model


@law(skips=[False, True])
def synchronous_steps_are_those_of_one_process_with_all_samples(comm: Communicator, skips: bool) -> None:
    model = train(comm, hpcsgd.SyncSGD(), skips=skips)
    expected = network()
    optimizer = make_optimizer(expected)
    for step in range(STEPS):
        ranks = [rank for rank in range(comm.size) if not (skips and step == 2 and rank == 0)]
        optimizer.zero_grad(set_to_none=False)
        if ranks:
            parts = [batch(step, rank, rank + 1) for rank in ranks]
            inputs, targets = (torch.cat(column) for column in zip(*parts, strict=True))
            F.cross_entropy(expected(inputs), targets).backward()
            optimizer.step()
    assert_close(vector(model), vector(expected))
    assert num_versions(comm, vector(model)) == 1


@law(period=[1, 2], stop_after=[3, STEPS])
def local_steps_are_those_of_a_simulation(comm: Communicator, period: int, stop_after: int) -> None:
    model = train(comm, hpcsgd.LocalSGD(period=period), stop_after=stop_after)
    models = [network() for _ in range(comm.size)]
    optimizers = [make_optimizer(each) for each in models]
    for step in range(stop_after):
        for rank, (each, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            inputs, targets = batch(step, rank, rank + 1)
            optimizer.zero_grad()
            F.cross_entropy(each(inputs), targets).backward()
            optimizer.step()
        if (step + 1) % period == 0:
            average_(models)
    if stop_after < STEPS:
        # The others were amid a step, which they do; the rank that has left has no samples in it.
        for rank in range(comm.size - 1):
            inputs, targets = batch(stop_after, rank, rank + 1)
            optimizers[rank].zero_grad()
            F.cross_entropy(models[rank](inputs), targets).backward()
            optimizers[rank].step()
    average_(models)
    assert_close(vector(model), vector(models[0]))
    assert num_versions(comm, vector(model)) == 1


@torch.no_grad()
def average_(models: list[nn.Module]) -> None:
    """Give all models the mean of their parameters."""
    mean = copy.deepcopy(models[0])
    for target, *parameters in zip(mean.parameters(), *(each.parameters() for each in models), strict=True):
        target.copy_(torch.stack(parameters).mean(0))
    for each in models:
        each.load_state_dict(mean.state_dict())


@law(period=[None, 1], sizes=(1, 3))
def sums_are_divided_by_the_weights_of_all_passes(comm: Communicator, period: int | None) -> None:
    model, expected = network(), network()
    # Rank 0 has nothing that counts in its second pass.
    weights = [
        torch.tensor([0.0] if part and not rank else [0.5, 3.0]).double() for rank in range(4) for part in (0, 1)
    ]
    algorithm = hpcsgd.SyncSGD() if period is None else hpcsgd.LocalSGD(period=period)
    ranks = range(comm.size) if period is None else [comm.rank]
    totals = [torch.zeros(()).double(), torch.zeros(()).double()]

    def summed(module: nn.Module, rank: int, part: int) -> tuple[Tensor, Tensor]:
        own = weights[2 * rank + part]
        inputs, targets = batch(part, rank, len(own))
        return (F.cross_entropy(module(inputs), targets, reduction="none") * own).sum(), own.sum()

    with hpcsgd.session(
        model, torch.optim.SGD(model.parameters(), lr=0.1), algorithm=algorithm, comm=comm, log=NO_LOG
    ) as run:
        for part in (0, 1):
            loss, weight = summed(model, comm.rank, part)
            run.backward(loss, weight=weight if part else float(weight))
        run.step()
        for rank in ranks:
            for part in (0, 1):
                totals = [sum_ + more for sum_, more in zip(totals, summed(expected, rank, part), strict=True)]
        (totals[0] / totals[1]).backward()
        torch.optim.SGD(expected.parameters(), lr=0.1).step()
        if period is None:
            assert_close(vector(model), vector(expected))
    mean = torch.stack(comm.allgather_object(vector(expected))).mean(0)
    assert_close(vector(model), mean)


@law(sizes=(2, 3))
def the_same_first_batch_on_two_ranks_is_refused_by_all(comm: Communicator) -> None:
    model = network()
    try:
        with hpcsgd.session(
            model, make_optimizer(model), algorithm=hpcsgd.LocalSGD(period=2), comm=comm, log=NO_LOG
        ) as run:
            for _ in run.batches([batch(0, comm.rank // 2, 2)]):
                break
    except UsageError as error:
        assert "ranks 0 and 1 have the same first batch" in str(error), error
    else:
        raise AssertionError("not refused")
