"""Blocks of ranks: averagings over a block, and over all at every H_b-th."""

from __future__ import annotations

import math

import torch

from hpcsgd.algorithms.schedule import Action
from hpcsgd.comm.communicator import Communicator
from hpcsgd.errors import DivergedError
from tests.parallel.laws.common import (
    ALLREDUCES,
    assert_bits,
    assert_close,
    block_size,
    built,
    environment,
    make_config,
    momentum_row,
    num_versions,
    stack,
    train,
    training,
    vector,
    watch_averagings,
)
from tests.parallel.laws.registry import law


@law(period=[1, 2], allreduce=ALLREDUCES)
def one_block_averaging_a_global_one_is_one_level(comm: Communicator, period: int, allreduce: str) -> None:
    results = []
    for section in (
        {"name": "local_sgd", "sync_period": period},
        {"name": "hierarchical_local_sgd", "sync_period": period, "block_size": block_size(comm.size)},
    ):
        with built(make_config(algorithm=section, comm={"allreduce": allreduce}), comm) as parts:
            train(parts)
            results.append(vector(parts.replica.module))
    assert_bits(results[0], results[1])


@law(period=[1, 3], block_period=[2, 3], by_node=[False, True])
def ranks_of_a_block_are_equal_and_blocks_differ(
    comm: Communicator, period: int, block_period: int, by_node: bool
) -> None:
    size = block_size(comm.size)
    section = {"name": "hierarchical_local_sgd", "sync_period": period, "block_sync_period": block_period}
    if not by_node:
        section["block_size"] = size
    block = comm.rank // size
    with (
        environment(SLURMD_NODENAME=f"n{block}" if by_node else "n0"),
        built(make_config(epochs=3, algorithm=section), comm) as parts,
    ):
        watch = watch_averagings(parts)
        actions = []
        for _, done in training(parts, 0, 12):
            actions.append(done.action)
            everyone = stack(comm, parts.replica.parameters)
            if done.action is Action.BLOCK:
                before = stack(comm, watch.before)
                for rank in range(comm.size):
                    members = before[rank // size * size : (rank // size + 1) * size]
                    assert_close(everyone[rank], members.mean(dim=0))
                    assert_bits(everyone[rank], everyone[rank // size * size])
                assert num_versions(comm, parts.replica.parameters) == comm.size // size
            if done.action is Action.GLOBAL:
                assert num_versions(comm, parts.replica.parameters) == 1
                assert_close(everyone[0], stack(comm, watch.before).mean(dim=0))
    averaged = [Action.GLOBAL if i % block_period == 0 else Action.BLOCK for i in range(1, 12 // period + 1)]
    assert [action for action in actions if action is not Action.NONE] == averaged
    assert all((action is Action.NONE) == bool((step + 1) % period) for step, action in enumerate(actions))


@law(sizes=(3,))
def blocks_may_be_of_different_sizes(comm: Communicator) -> None:
    # Two ranks on one node, one on another: the global average still counts every rank once.
    section = {"name": "hierarchical_local_sgd", "block_sync_period": 2}
    with (
        environment(SLURMD_NODENAME="n0" if comm.rank < 2 else "n1"),
        built(make_config(algorithm=section), comm) as parts,
    ):
        watch = watch_averagings(parts)
        for _, done in training(parts, 0, 4):
            before = stack(comm, watch.before)
            groups = {Action.BLOCK: [before[:2], before[:2], before[2:]], Action.GLOBAL: [before] * 3}[done.action]
            assert_close(parts.replica.parameters, groups[comm.rank].mean(dim=0))


@law(policy=["average", "reset"])
def momentum_policies_hold_in_a_block(comm: Communicator, policy: str) -> None:
    size = block_size(comm.size)
    section = {
        "name": "hierarchical_local_sgd",
        "block_size": size,
        "block_sync_period": 3,
        "momentum_policy": policy,
    }
    with built(make_config(dtype="float32", algorithm=section), comm) as parts:
        for _, done in training(parts):
            momenta = stack(comm, momentum_row(parts))
            first = comm.rank // size * size if done.action is Action.BLOCK else 0
            assert_bits(momenta[comm.rank], momenta[first])
            assert momenta.any() != (policy == "reset")
            if done.action is Action.BLOCK and policy == "average" and comm.size > size:
                assert not torch.equal(momenta[0], momenta[-1])


@law(sizes=(4,), bad=[0, 3])
def what_is_not_finite_is_named_though_it_was_averaged_in_a_block(comm: Communicator, bad: int) -> None:
    """The block alone learns of it, and cannot end the run: at the next averaging of all, its first owner is named."""
    section = {"name": "hierarchical_local_sgd", "sync_period": 1, "block_sync_period": 2, "block_size": 2}
    with built(make_config(algorithm=section), comm) as parts:
        steps = training(parts)
        _, done = next(steps)
        assert done.action is Action.BLOCK
        _, done = next(steps)
        assert done.action is Action.GLOBAL
        if comm.rank == bad:
            parts.replica.parameters[7] = math.nan
        _, done = next(steps)
        assert done.action is Action.BLOCK
        broken = comm.allgather_object(not bool(torch.isfinite(parts.replica.parameters).all()))
        assert broken == [rank // 2 == bad // 2 for rank in range(4)]
        try:
            next(steps)
        except DivergedError as error:
            assert str(error).endswith(f"not finite on rank {bad}"), str(error)
        else:
            raise AssertionError("averaged over all")
