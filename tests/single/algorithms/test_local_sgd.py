"""How many collectives each step asks for, and of how many bytes, on which ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from hpcsgd.algorithms.schedule import Action
from hpcsgd.config import (
    AlgorithmConfig,
    CommConfig,
    DataConfig,
    LogConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
)
from hpcsgd.run.build import assemble
from hpcsgd.run.parts import Parts
from hpcsgd.run.passes import forward_backward
from hpcsgd.tasks.given import NOTHING, Given
from tests.single.comm.counting import Call, CountingCommunicator

# 16-20-3 in float32: biases of 20 and 3, weights of 320 and 60 elements, each in a multiple of 16.
BIASES, FIRST, SECOND = 32 + 16, 320, 64
TOTAL = BIASES + FIRST + SECOND
CHUNK = 300


class Normed(nn.Sequential):
    """With one BatchNorm layer, of five channels."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(16, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))


def make_parts(comm: CountingCommunicator, model: nn.Module | None = None, **algorithm: Any) -> Parts:
    """A small run on ``comm``; forgets the collectives of its making."""
    config = RunConfig(
        local_batch_size=4,
        device="cpu",
        threads=1,
        model=ModelConfig(widths=(20,)),
        data=DataConfig(name="synthetic", synthetic_shape=(1, 4, 4), synthetic_classes=3, synthetic_train_samples=160),
        algorithm=AlgorithmConfig(**algorithm),
        optimizer=OptimizerConfig(momentum=0.9),
        comm=CommConfig(allreduce="mpi", overlap=False, bucket_bytes=1024, chunk_bytes=4 * CHUNK),
        log=LogConfig(enabled=False),
    )
    parts = assemble(config, comm, NOTHING if model is None else Given(lambda: model))
    comm.take()
    return parts


def steps(parts: Parts, count: int) -> Iterator[tuple[Action, int, list[Call]]]:
    """What each step synchronised, the bytes that it told, and the collectives that it asked for."""
    comm = parts.comm
    assert isinstance(comm, CountingCommunicator)
    for step in range(count):
        parts.timer.begin(step)
        batch = parts.loader.batch(step)
        forward_backward(parts, step, batch)
        assert comm.take() == []
        done = parts.algorithm.step(step, 0.1, len(batch))
        yield done.action, done.num_bytes, comm.take()


def sums(*numels: int, group: str = "world") -> list[Call]:
    return [Call("sum", 4 * numel, group) for numel in numels]


def chunked(numel: int) -> list[int]:
    """Elements of each chunk."""
    return [CHUNK] * (numel // CHUNK) + [numel % CHUNK] * bool(numel % CHUNK)


def test_synchronous_sgd_sums_each_bucket_of_the_gradient_once() -> None:
    parts = make_parts(CountingCommunicator())
    for action, num_bytes, calls in steps(parts, 3):
        assert action is Action.GRADIENT
        # The biases, whose gradients came last, then the weights (384 elements are over 1024 bytes only together).
        assert calls == sums(BIASES, *chunked(FIRST + SECOND))
        assert num_bytes == 4 * TOTAL


def test_local_steps_ask_for_nothing_and_an_averaging_for_the_parameters() -> None:
    parts = make_parts(CountingCommunicator(), name="local_sgd", sync_period=3)
    results = list(steps(parts, 6))
    assert [action.name for action, _, _ in results] == ["NONE", "NONE", "GLOBAL"] * 2
    for action, num_bytes, calls in results:
        assert calls == (sums(*chunked(TOTAL)) if action is Action.GLOBAL else [])
        assert num_bytes == (4 * TOTAL if action is Action.GLOBAL else 0)


@pytest.mark.parametrize(("policy", "factor"), [("local", 1), ("average", 2), ("reset", 1), ("global", 1)])
def test_only_averaged_momentum_is_moved_and_in_the_same_buffer(policy: str, factor: int) -> None:
    parts = make_parts(CountingCommunicator(), name="local_sgd", momentum_policy=policy)
    for _, num_bytes, calls in steps(parts, 2):
        assert calls == sums(*chunked(factor * TOTAL))
        assert num_bytes == 4 * factor * TOTAL
    assert parts.learners.rows["momentum"].any() == (policy != "reset")


def test_blocks_talk_among_themselves() -> None:
    parts = make_parts(CountingCommunicator(), name="hierarchical_local_sgd", block_sync_period=3)
    results = list(steps(parts, 6))
    assert [action.name for action, _, _ in results] == ["BLOCK", "BLOCK", "GLOBAL"] * 2
    for action, num_bytes, calls in results:
        assert calls == sums(*chunked(TOTAL), group="block" if action is Action.BLOCK else "world")
        assert num_bytes == 4 * TOTAL


def test_post_local_sgd_moves_gradients_first_and_parameters_after() -> None:
    parts = make_parts(CountingCommunicator(), name="post_local_sgd", local_start="step:2", sync_period=2)
    counts = [len(calls) for _, _, calls in steps(parts, 6)]
    assert counts == [3, 3, 0, 2, 0, 2]


@pytest.mark.parametrize("policy", ["local", "average", "recompute"])
def test_statistics_are_moved_only_if_averaged(policy: str) -> None:
    parts = make_parts(CountingCommunicator(), Normed(), name="local_sgd", sync_period=2, batch_norm_policy=policy)
    parameters = parts.replica.parameters.numel()
    expected = sums(parameters)
    if policy == "average":
        # Means, variances (five of each, in sixteen places), and the number of batches seen.
        expected += [*sums(16, 16), Call("max", 8)]
    for action, num_bytes, calls in steps(parts, 4):
        assert calls == (expected if action is Action.GLOBAL else [])
        assert num_bytes == sum(call.num_bytes for call in calls)


def test_one_rank_asks_for_nothing() -> None:
    for name in ("sync_sgd", "local_sgd"):
        parts = make_parts(CountingCommunicator(size=1), name=name)
        assert [calls for _, _, calls in steps(parts, 2)] == [[], []]


def test_the_start_is_one_broadcast() -> None:
    comm = CountingCommunicator()
    parts = make_parts(comm)
    parts.algorithm.start()
    assert comm.take() == [Call("broadcast", 4 * TOTAL)]


def test_consensus_moves_parameters_only_where_they_differ() -> None:
    comm = CountingCommunicator()
    parts = make_parts(comm, name="post_local_sgd", local_start="step:1", sync_period=2)
    expected = [[], sums(*chunked(TOTAL)), []]
    for number, _ in enumerate(steps(parts, 3)):
        for _ in range(2):
            with parts.algorithm.consensus():
                assert comm.take() == expected[number]
            assert comm.take() == []
    parts.algorithm.finish()
    assert comm.take() == []


def test_consensus_after_a_block_averaging_is_still_to_be_made() -> None:
    comm = CountingCommunicator()
    parts = make_parts(comm, name="hierarchical_local_sgd", block_sync_period=2)
    expected = {Action.BLOCK: sums(*chunked(TOTAL)), Action.GLOBAL: []}
    for action, _, _ in steps(parts, 2):
        with parts.algorithm.consensus():
            assert comm.take() == expected[action]


def test_finish_averages_once() -> None:
    comm = CountingCommunicator()
    parts = make_parts(comm, name="local_sgd", sync_period=5)
    list(steps(parts, 2))
    parts.algorithm.finish()
    assert comm.take() == sums(*chunked(TOTAL))
    parts.algorithm.finish()
    assert comm.take() == []


def test_normaliser_counts_all_samples_for_gradients_and_own_ones_for_local_steps() -> None:
    parts = make_parts(CountingCommunicator(size=4), name="post_local_sgd", local_start="step:5")
    algorithm = parts.algorithm
    assert algorithm.normaliser(0, 4, 16) == 16
    assert algorithm.normaliser(0, 3, 9) == 9
    assert algorithm.normaliser(0, 0, 3) == 3
    assert algorithm.normaliser(5, 3, 9) == 3
    assert algorithm.normaliser(5, 0, 9) == 1


def test_equal_ranks_train_as_one() -> None:
    # All four play the same batch: averaging changes nothing, whatever is averaged.
    results = []
    for algorithm in ({"name": "sync_sgd"}, {"name": "local_sgd", "sync_period": 2}, {"name": "local_sgd"}):
        parts = make_parts(CountingCommunicator(size=4), **algorithm)
        list(steps(parts, 4))
        results.append(parts.replica.parameters.clone())
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
