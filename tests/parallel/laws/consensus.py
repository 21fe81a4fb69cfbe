"""The one model that is evaluated and saved, the end of a run, and the state that a resumed run needs."""

from __future__ import annotations

import io
from typing import Any

import torch

from hpcsgd.comm.communicator import Communicator
from hpcsgd.config import RunConfig
from hpcsgd.run.evaluate import evaluate_consensus
from hpcsgd.run.parts import Parts
from tests.parallel.laws.batch_norm import network
from tests.parallel.laws.common import (
    ALGORITHMS,
    ALLREDUCES,
    algorithm_named,
    assert_bits,
    assert_close,
    built,
    make_config,
    num_versions,
    stack,
    train,
    training,
)
from tests.parallel.laws.registry import law


def everything(parts: Parts) -> torch.Tensor:
    """All numbers that a replica holds, in one tensor."""
    replica = parts.replica
    counts = torch.tensor(replica.counts, dtype=torch.float64)
    return torch.cat((parts.learners.rows.buffer[0], replica.gradients, replica.statistics, counts)).clone()


@law(name=ALGORITHMS, allreduce=ALLREDUCES)
def consensus_is_the_mean_and_disturbs_nothing(comm: Communicator, name: str, allreduce: str) -> None:
    config = make_config(algorithm=algorithm_named(name, comm.size), comm={"allreduce": allreduce})
    with built(config, comm, network) as parts:
        undisturbed = [(everything(parts), done) for _, done in training(parts)]
    with built(config, comm, network) as parts:
        for step, done in training(parts):
            before = everything(parts)
            mean = stack(comm, parts.replica.parameters).mean(dim=0)
            with parts.algorithm.consensus() as module:
                assert module is parts.replica.module
                assert_close(parts.replica.parameters, mean)
                assert num_versions(comm, parts.replica.parameters, parts.replica.statistics) == 1
            assert_bits(everything(parts), before)
            assert module.training
            assert_bits(everything(parts), undisturbed[step][0], f"step {step}")
            assert done == undisturbed[step][1]


@law(name=ALGORITHMS, policy=["local", "average", "reset", "global"])
def consensus_disturbs_no_momentum_policy(comm: Communicator, name: str, policy: str) -> None:
    section = algorithm_named(name, comm.size, momentum_policy=policy, batch_norm_policy="recompute")
    config = make_config(algorithm=section, evaluate={"recompute_batches": 2, "batch_size": 23})
    results = []
    for looks in (False, True):
        with built(config, comm, network) as parts:
            for step, _ in training(parts):
                if looks and step % 3 == 1:
                    evaluate_consensus(parts, step)
            results.append(everything(parts))
    assert_bits(results[0], results[1])


@law()
def consensus_ends_well_after_an_exception(comm: Communicator) -> None:
    config = make_config(algorithm={"name": "local_sgd", "sync_period": 3})
    with built(config, comm, network) as parts:
        train(parts, 0, 4)
        before = everything(parts)
        try:
            with parts.algorithm.consensus():
                assert (everything(parts) != before).any() or comm.size == 1
                raise KeyError("evaluation failed")
        except KeyError:
            pass
        assert_bits(everything(parts), before)


@law(name=ALGORITHMS, last=[4, 5])
def finish_makes_every_replica_the_consensus(comm: Communicator, name: str, last: int) -> None:
    # After 4 steps the replicas of local SGD have just been averaged, after 5 they differ.
    with built(make_config(algorithm=algorithm_named(name, comm.size)), comm, network) as parts:
        train(parts, 0, last)
        with parts.algorithm.consensus():
            expected = everything(parts)
        parts.algorithm.finish()
        assert_bits(everything(parts), expected)
        assert num_versions(comm, parts.replica.parameters, parts.replica.statistics) == 1
        with parts.algorithm.consensus():
            assert_bits(parts.replica.parameters, expected[: parts.replica.parameters.numel()])


@law(name=ALGORITHMS, policy=["local", "average", "global"])
def a_resumed_run_takes_up_where_it_was(comm: Communicator, name: str, policy: str) -> None:
    section = algorithm_named(name, comm.size, momentum_policy=policy)
    config = make_config(algorithm=section, optimizer={"momentum_form": "absorbed"})
    for first in (2, 6):
        with built(config, comm, network) as parts:
            train(parts, 0, first)
            saved = save(parts)
            expected = four_more_steps(parts, first)
        assert_bits(resume(config, comm, saved, first), expected)


def four_more_steps(parts: Parts, first: int) -> torch.Tensor:
    """The consensus before and after them, and the replica's own state."""
    with parts.algorithm.consensus():
        before = everything(parts)
    train(parts, first, first + 4)
    with parts.algorithm.consensus():
        after = everything(parts)
    return torch.cat((before, after, everything(parts)))


def save(parts: Parts) -> bytes:
    """What a checkpoint of a rank would hold."""
    file = io.BytesIO()
    replica = parts.replica
    state: dict[str, Any] = {"algorithm": parts.algorithm.state_dict(), "counts": replica.counts}
    torch.save(state | {"state": parts.learners.rows.buffer, "statistics": replica.statistics}, file)
    return file.getvalue()


def resume(config: RunConfig, comm: Communicator, saved: bytes, first: int) -> torch.Tensor:
    """What :func:`four_more_steps` gives in new parts that take up the saved state."""
    with built(config, comm, network) as parts:
        state = torch.load(io.BytesIO(saved), weights_only=False)
        parts.algorithm.start(first)
        parts.learners.rows.buffer.copy_(state["state"])
        parts.replica.statistics.copy_(state["statistics"])
        parts.replica.counts = state["counts"]
        parts.algorithm.load_state_dict(state["algorithm"])
        return four_more_steps(parts, first)
