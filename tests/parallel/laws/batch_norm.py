"""BatchNorm under every algorithm: running statistics of several ranks as those of one."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from hpcsgd.algorithms.batch_norm import average_statistics_
from hpcsgd.algorithms.schedule import Action
from hpcsgd.comm.communicator import Communicator
from hpcsgd.record.timer import Synchronising
from hpcsgd.run.evaluate import consensus_model
from hpcsgd.run.parts import Parts
from tests.parallel.laws.common import (
    ALLREDUCES,
    algorithm_named,
    assert_bits,
    assert_close,
    block_size,
    built,
    make_config,
    num_versions,
    stack,
    train,
    training,
    vector,
)
from tests.parallel.laws.registry import law
from tests.parallel.laws.simulation import Simulation, make_optimizer


def network() -> nn.Module:
    """A small network with BatchNorm after a convolution and after a linear layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1, bias=False),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(48, 5),
            nn.BatchNorm1d(5),
            nn.ReLU(),
            nn.Linear(5, 3),
        )


def own_statistics(module: nn.Module) -> tuple[Tensor, Tensor]:
    """Running means and variances of all BatchNorm layers of a module, copied."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return torch.cat([n.running_mean for n in norms]).clone(), torch.cat([n.running_var for n in norms]).clone()


def merged(comm: Communicator, means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """The law of total variance, by its formula: mean of the means; E[variance + mean^2] - E[mean]^2."""
    all_means, all_variances = stack(comm, means), stack(comm, variances)
    mean = all_means.mean(dim=0)
    return mean, (all_variances + all_means.square()).mean(dim=0) - mean.square()


def assert_statistics(module: nn.Module, expected: tuple[Tensor, Tensor], what: str = "") -> None:
    means, variances = own_statistics(module)
    assert_close(means, expected[0], what=f"means {what}")
    assert_close(variances, expected[1], what=f"variances {what}")


@law()
def merged_statistics_are_those_of_the_union(comm: Communicator) -> None:
    generator = torch.Generator().manual_seed(comm.rank)
    with built(make_config(), comm, network) as parts:
        unions = []
        for layer, norm in enumerate(parts.replica.norms):
            samples = torch.randn(50, norm.num_features, generator=generator, dtype=torch.float64)
            samples = samples * (1 + comm.rank) + 10 * comm.rank
            norm.running_mean.copy_(samples.mean(dim=0))
            norm.running_var.copy_(samples.var(dim=0, unbiased=False))
            norm.num_batches_tracked.fill_(10 + comm.rank if layer == 0 else 20 - comm.rank)
            unions.append(stack(comm, samples).flatten(0, 1))
        num_bytes = average_statistics_(parts.learners, parts.world)
        for norm, union in zip(parts.replica.norms, unions, strict=True):
            assert_close(norm.running_mean, union.mean(dim=0))
            assert_close(norm.running_var, union.var(dim=0, unbiased=False))
        assert parts.replica.counts == [10 + comm.size - 1, 20]
        assert num_versions(comm, parts.replica.statistics) == 1
        assert num_bytes == parts.replica.statistics.numel() * 8 + 2 * 8


@law()
def no_cancellation_harms_a_small_variance(comm: Communicator) -> None:
    with built(make_config(dtype="float32"), comm, network) as parts:
        parts.replica.means.fill_(30000.0)
        parts.replica.variances.fill_(1e-3)
        average_statistics_(parts.learners, parts.world)
        assert ((parts.replica.variances - 1e-3).abs() < 1e-4).all()


@law(name=["local_sgd", "hierarchical_local_sgd"], policy=["local", "recompute"])
def local_statistics_stay_each_ranks_own(comm: Communicator, name: str, policy: str) -> None:
    section = algorithm_named(name, comm.size, batch_norm_policy=policy)
    section.pop("local_start", None)
    config = make_config(algorithm=section)
    blocks = [rank // block_size(comm.size) for rank in range(comm.size)]
    with built(config, comm, network) as parts:
        reference = Simulation(config, comm.size, parts.plan.learning_rate, blocks, network())
        for step, _ in training(parts):
            reference.step(step, local=True)
            own = reference.models[comm.rank]
            assert_close(vector(parts.replica.module), vector(own), what=f"step {step}")
            assert_statistics(parts.replica.module, own_statistics(own), f"at step {step}")
            assert parts.replica.counts == [step + 1] * 2


@law(name=["local_sgd", "post_local_sgd", "hierarchical_local_sgd"], dtype=["float32", "float64"])
def averaged_statistics_are_merged_at_every_averaging(comm: Communicator, name: str, dtype: str) -> None:
    section = algorithm_named(name, comm.size, batch_norm_policy="average")
    blocks = comm.size // block_size(comm.size)
    with built(make_config(dtype=dtype, algorithm=section), comm, network) as parts:
        before = watch_statistics(parts)
        for step, done in training(parts):
            versions = num_versions(comm, parts.replica.statistics)
            expected = {Action.GLOBAL: 1, Action.BLOCK: blocks}.get(done.action, comm.size)
            assert versions == expected, f"step {step}, {done.action.name}: {versions} versions"
            if done.action is Action.GLOBAL and dtype == "float64":
                assert_statistics(parts.replica.module, merged(comm, *before[-1]), f"at step {step}")
            if done.action is Action.GLOBAL:
                size = parts.replica.parameters.element_size()
                assert (
                    done.num_bytes == size * (parts.replica.parameters.numel() + parts.replica.statistics.numel()) + 16
                )
            assert (parts.replica.variances >= 0).all()


def watch_statistics(parts: Parts) -> list[tuple[Tensor, Tensor]]:
    """A list that gets the running statistics as they are when a synchronisation begins."""
    before = [own_statistics(parts.replica.module)]
    synchronising = parts.timer.synchronising

    def kept(*arguments: Any, **options: Any) -> Synchronising:
        before.append(own_statistics(parts.replica.module))
        return synchronising(*arguments, **options)

    parts.timer.synchronising = kept  # type: ignore[method-assign]
    return before


@law(allreduce=ALLREDUCES)
def synchronous_sgd_normalises_by_each_ranks_own_batch(comm: Communicator, allreduce: str) -> None:
    config = make_config(comm={"allreduce": allreduce})
    model = network().double()
    optimizer = make_optimizer(model, config)
    with built(config, comm, network) as parts:
        reference = Simulation(config, comm.size, parts.plan.learning_rate, (), network())
        for step, _ in training(parts):
            for group in optimizer.param_groups:
                group["lr"] = parts.plan.learning_rate(step)
            optimizer.zero_grad()
            losses = [
                F.cross_entropy(model(reference.images[samples]), reference.labels[samples])
                for samples in reference.batches(step)
            ]
            torch.stack(losses).mean().backward()
            optimizer.step()
            assert_close(vector(parts.replica.module), vector(model), what=f"step {step}")
            assert num_versions(comm, parts.replica.parameters) == 1
            assert num_versions(comm, parts.replica.statistics) == comm.size


@law(name=["sync_sgd", "local_sgd", "post_local_sgd", "hierarchical_local_sgd"], policy=["local", "average"])
def consensus_has_merged_statistics(comm: Communicator, name: str, policy: str) -> None:
    config = make_config(algorithm=algorithm_named(name, comm.size, batch_norm_policy=policy))
    with built(config, comm, network) as parts:
        for _ in training(parts):
            own = own_statistics(parts.replica.module)
            counts = parts.replica.counts
            expected = merged(comm, *own)
            with parts.algorithm.consensus() as module:
                assert_statistics(module, expected)
                assert num_versions(comm, parts.replica.statistics, parts.replica.parameters) == 1
            assert_bits(torch.cat(own_statistics(parts.replica.module)), torch.cat(own))
            assert parts.replica.counts == counts


@law(name=["sync_sgd", "local_sgd", "post_local_sgd", "hierarchical_local_sgd"], batches=[1, 4])
def recomputed_statistics_are_those_of_the_consensus(comm: Communicator, name: str, batches: int) -> None:
    section = algorithm_named(name, comm.size, batch_norm_policy="recompute")
    config = make_config(algorithm=section, evaluate={"recompute_batches": batches})
    with built(config, comm, network) as parts:
        for step, _ in training(parts):
            with parts.algorithm.consensus() as module:
                model = copy.deepcopy(module)
            steps = range(max(0, step + 1 - batches), step + 1)
            update_bn([parts.loader.batch(s).inputs for s in steps], model)
            expected = merged(comm, *own_statistics(model))
            saved = parts.learners.rows.buffer.clone(), parts.replica.statistics.clone(), parts.replica.counts
            with consensus_model(parts, step) as module:
                assert_statistics(module, expected, f"at step {step}")
                assert_close(vector(module), vector(model))
                assert num_versions(comm, parts.replica.statistics, parts.replica.parameters) == 1
            assert module.training
            assert {norm.momentum for norm in parts.replica.norms} == {0.1}
            assert_bits(parts.learners.rows.buffer, saved[0])
            assert_bits(parts.replica.statistics, saved[1])
            assert parts.replica.counts == saved[2]


@law(name=["sync_sgd", "local_sgd"])
def recomputing_leaves_out_batches_that_some_rank_has_no_part_of(comm: Communicator, name: str) -> None:
    # The last batch of an epoch has one sample: the ranks behind the first have none, and a statistic of one sample
    # has no variance.
    config = make_config(
        data={"tail": "keep", "synthetic_train_samples": 12 * comm.size + comm.size - 1 if comm.size > 1 else 12},
        algorithm=algorithm_named(name, comm.size, batch_norm_policy="recompute"),
        evaluate={"recompute_batches": 2},
    )
    with built(config, comm, convolutional) as parts:
        last = parts.plan.steps_per_epoch - 1
        train(parts, 0, last + 1)
        with parts.algorithm.consensus() as module:
            model = copy.deepcopy(module)
        steps = [s for s in range(last + 1) if parts.plan.num_global(s) >= comm.size][-2:]
        update_bn([parts.loader.batch(s).inputs for s in steps], model)
        expected = merged(comm, *own_statistics(model))
        with consensus_model(parts, last) as module:
            assert_statistics(module, expected)


def convolutional() -> nn.Module:
    """A network whose BatchNorm takes a batch of one sample: each pixel counts."""
    return nn.Sequential(*list(network())[:4], nn.Linear(48, 3))


@law(allreduce=ALLREDUCES)
def finished_replicas_have_one_set_of_statistics(comm: Communicator, allreduce: str) -> None:
    with built(make_config(comm={"allreduce": allreduce}), comm, network) as parts:
        train(parts, 0, 3)
        assert num_versions(comm, parts.replica.statistics) == comm.size
        parts.algorithm.finish()
        assert num_versions(comm, parts.replica.statistics, parts.replica.parameters) == 1
