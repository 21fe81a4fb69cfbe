"""Local, post-local and hierarchical local SGD (Lin 2020, sections 3 and 4), against a simulation of all ranks."""

from __future__ import annotations

import torch

from hpcsgd.algorithms.schedule import Action
from hpcsgd.comm.communicator import Communicator
from hpcsgd.config import RunConfig
from hpcsgd.run.parts import Parts
from tests.parallel.laws.common import (
    ALGORITHMS,
    ALLREDUCES,
    algorithm_named,
    assert_bits,
    assert_close,
    block_size,
    built,
    make_config,
    momentum_row,
    momentum_vector,
    num_versions,
    train,
    training,
    vector,
    watch_averagings,
)
from tests.parallel.laws.registry import law
from tests.parallel.laws.simulation import Simulation

POLICIES = ["local", "average", "reset", "global"]
AVERAGINGS = (Action.BLOCK, Action.GLOBAL)


def local_start(config: RunConfig, steps_per_epoch: int) -> int:
    """t', the first local step; far away for synchronous SGD."""
    if config.algorithm.name == "sync_sgd":
        return 10**9
    if config.algorithm.local_start is None:
        return 0
    if config.algorithm.local_start == "first_lr_drop":
        return round(config.learning_rate.milestones[0] * steps_per_epoch)
    kind, _, number = config.algorithm.local_start.partition(":")
    return int(number) * (steps_per_epoch if kind == "epoch" else 1)


def check_against_simulation(config: RunConfig, comm: Communicator) -> list[Action]:
    """Every step of every rank equals the simulation's, before and after each averaging; gives the actions."""
    size = block_size(comm.size)
    actions = []
    with built(config, comm) as parts:
        watch = watch_averagings(parts)
        blocks = [rank // size for rank in range(comm.size)]
        reference = Simulation(config, comm.size, parts.plan.learning_rate, blocks)
        start = local_start(config, parts.plan.steps_per_epoch)
        for step, done in training(parts):
            expected = reference.step(step, local=step >= start)
            assert done.action.name.lower() == expected, (step, done, expected)
            what = f"step {step}, {expected}"
            assert_close(vector(parts.replica.module), vector(reference.models[comm.rank]), what=what)
            assert_close(momentum_vector(parts), reference.momentum(comm.rank), what=f"momentum at {what}")
            if done.action in AVERAGINGS:
                assert_close(in_order(parts, watch.before), reference.before[comm.rank], what=f"before {what}")
            actions.append(done.action)
    return actions


def in_order(parts: Parts, flat: torch.Tensor) -> torch.Tensor:
    """A copy of the flat parameters as a vector in the module's order."""
    place = {id(p): slot for p, slot in zip(parts.replica.trainable, parts.replica.slots, strict=True)}
    return torch.cat([place[id(p)].view(flat).reshape(-1) for p in parts.replica.module.parameters()])


@law(name=ALGORITHMS, allreduce=ALLREDUCES)
def every_step_equals_the_simulation(comm: Communicator, name: str, allreduce: str) -> None:
    config = make_config(algorithm=algorithm_named(name, comm.size), comm={"allreduce": allreduce})
    actions = check_against_simulation(config, comm)
    assert (Action.GLOBAL in actions) == (name != "sync_sgd")
    assert (Action.GRADIENT in actions) == (name != "local_sgd")
    assert (Action.BLOCK in actions) == (name == "hierarchical_local_sgd")


@law(name=ALGORITHMS[1:], policy=POLICIES[1:])
def momentum_policies_equal_the_simulation(comm: Communicator, name: str, policy: str) -> None:
    section = algorithm_named(name, comm.size, momentum_policy=policy)
    if policy == "global":
        section |= {"slow_momentum": 0.6, "slow_learning_rate": 0.9}
    check_against_simulation(make_config(epochs=3, algorithm=section), comm)


@law(start=["epoch:1", "first_lr_drop", "step:0", "step:3", "step:1000"])
def local_steps_begin_when_told(comm: Communicator, start: str) -> None:
    section = {"name": "post_local_sgd", "sync_period": 3, "local_start": start}
    rate = {"milestones": (0.5,), "warmup": "none"}
    actions = check_against_simulation(make_config(max_steps=None, algorithm=section, learning_rate=rate), comm)
    first = {"epoch:1": len(actions) // 2, "first_lr_drop": round(len(actions) / 4), "step:0": 0, "step:3": 3}
    assert actions.count(Action.GRADIENT) == first.get(start, len(actions))


@law(period=[2, 3, 4], start=[1, 3, 5])
def the_period_counts_from_the_first_local_step(comm: Communicator, period: int, start: int) -> None:
    section = {"name": "post_local_sgd", "sync_period": period, "local_start": f"step:{start}"}
    with built(make_config(epochs=3, algorithm=section), comm) as parts:
        averaged = [step for step, done in training(parts, 0, 12) if done.action is Action.GLOBAL]
    assert averaged == [step for step in range(start + period - 1, 12, period)]


@law(sizes=(1,), period=[1, 3, 7], name=ALGORITHMS[1:])
def on_one_rank_any_period_is_plain_sgd(comm: Communicator, period: int, name: str) -> None:
    section = algorithm_named(name, 1, sync_period=period)
    plain = make_config()
    first, second = final(plain, comm), final(make_config(algorithm=section), comm)
    assert_bits(first, second)
    reference = Simulation(plain, 1, lambda step: 0.0)
    with built(plain, comm) as parts:
        reference.rate = parts.plan.learning_rate
    for step in range(parts.plan.total_steps):
        reference.step(step, local=False)
    assert_close(second, vector(reference.models[0]))


def final(config: RunConfig, comm: Communicator, steps: int | None = None) -> torch.Tensor:
    """The parameters after some steps, or all."""
    with built(config, comm) as parts:
        train(parts, 0, steps)
        return vector(parts.replica.module)


@law(name=ALGORITHMS[1:], policy=["local", "average", "global"], allreduce=ALLREDUCES)
def period_one_is_synchronous_sgd(comm: Communicator, name: str, policy: str, allreduce: str) -> None:
    # With Nesterov momentum and weight decay, which the base has.
    section = algorithm_named(name, comm.size, sync_period=1, momentum_policy=policy)
    if policy == "global":
        section |= {"slow_momentum": 0.0, "slow_learning_rate": 1.0}
    if name == "hierarchical_local_sgd":
        section["block_sync_period"] = 1
    with built(make_config(comm={"allreduce": allreduce}), comm) as synchronous:
        expected = [vector(synchronous.replica.module) for _ in training(synchronous)]
    with built(make_config(algorithm=section, comm={"allreduce": allreduce}), comm) as parts:
        for step, _ in training(parts):
            assert_close(vector(parts.replica.module), expected[step], what=f"step {step}")


@law(name=ALGORITHMS, allreduce=ALLREDUCES, dtype=["float32", "float64"])
def after_an_averaging_all_ranks_are_equal_to_the_bit(
    comm: Communicator, name: str, allreduce: str, dtype: str
) -> None:
    config = make_config(dtype=dtype, algorithm=algorithm_named(name, comm.size), comm={"allreduce": allreduce})
    blocks = comm.size // block_size(comm.size) if name == "hierarchical_local_sgd" else 1
    with built(config, comm) as parts:
        watch = watch_averagings(parts)
        parameters = parts.replica.parameters
        for step, done in training(parts):
            versions = num_versions(comm, parameters)
            if done.action is Action.NONE:
                assert versions == comm.size, f"step {step}: {versions} versions after a local step"
            elif done.action is Action.BLOCK:
                assert versions == blocks, f"step {step}: {versions} versions after a block averaging"
            else:
                assert versions == 1, f"step {step}: {versions} versions after {done.action.name}"
            if done.action in AVERAGINGS:
                assert num_versions(comm, watch.before) == comm.size
            assert torch.isfinite(parameters).all()


@law(policy=["average", "reset", "global"], name=ALGORITHMS[1:])
def momentum_policies_leave_all_ranks_equal_to_the_bit(comm: Communicator, policy: str, name: str) -> None:
    section = algorithm_named(name, comm.size, momentum_policy=policy)
    with built(make_config(dtype="float32", algorithm=section), comm) as parts:
        for _, done in training(parts):
            if done.action is not Action.GLOBAL:
                continue
            assert num_versions(comm, parts.replica.parameters) == 1
            if policy == "global":
                assert num_versions(comm, momentum_row(parts)) == comm.size
            else:
                assert num_versions(comm, momentum_row(parts)) == 1


@law(name=["post_local_sgd", "hierarchical_local_sgd"], allreduce=ALLREDUCES, dtype=["float32", "float64"])
def before_its_start_post_local_is_synchronous_to_the_bit(
    comm: Communicator, name: str, allreduce: str, dtype: str
) -> None:
    common = {"dtype": dtype, "comm": {"allreduce": allreduce}}
    section = algorithm_named(name, comm.size, local_start="step:5", sync_period=4)
    assert_bits(
        final(make_config(algorithm=section, **common), comm, steps=5),
        final(make_config(**common), comm, steps=5),
    )


@law(tail=["keep"])
def a_rank_without_samples_stays_where_it_is(comm: Communicator, tail: str) -> None:
    # The last batch of each epoch has one sample, on rank 0. t' is 0 and no averaging falls on the tail.
    config = make_config(
        data={"tail": tail, "synthetic_train_samples": 12 * comm.size + 1},
        algorithm={"name": "local_sgd", "sync_period": 3},
        optimizer={"weight_decay": 0.1},
    )
    check_against_simulation(config, comm)
    with built(config, comm) as parts:
        train(parts, 0, 4)
        assert parts.plan.steps_per_epoch == 5
        before = parts.learners.rows.buffer.clone()
        train(parts, 4, 5)
        if comm.rank == 0:
            assert (parts.learners.rows.buffer != before).any()
        else:
            assert_bits(parts.learners.rows.buffer, before)
        assert not parts.replica.gradients.any()


@law(allreduce=ALLREDUCES, name=ALGORITHMS[1:])
def accumulation_changes_no_local_step(comm: Communicator, allreduce: str, name: str) -> None:
    section = algorithm_named(name, comm.size)
    common = {"local_batch_size": 4, "algorithm": section, "comm": {"allreduce": allreduce}}
    assert_close(final(make_config(accumulation_steps=2, **common), comm), final(make_config(**common), comm))


@law(name=ALGORITHMS[1:])
def bytes_are_those_of_the_buffers(comm: Communicator, name: str) -> None:
    for policy, factor in (("local", 1), ("average", 2), ("reset", 1), ("global", 1)):
        section = algorithm_named(name, comm.size, momentum_policy=policy)
        with built(make_config(algorithm=section), comm) as parts:
            one = 8 * parts.replica.parameters.numel()
            expected = {Action.NONE: 0, Action.GRADIENT: one, Action.BLOCK: factor * one, Action.GLOBAL: factor * one}
            for _, done in training(parts):
                assert done.num_bytes == expected[done.action]
