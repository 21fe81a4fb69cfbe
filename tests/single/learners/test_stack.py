"""Replicas as rows of one buffer."""

from __future__ import annotations

import pytest
import torch

from hpcsgd.config import OptimizerConfig
from hpcsgd.learners.engines.loop import LoopEngine
from hpcsgd.learners.replica import Replica
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.optim.rows import Rows
from hpcsgd.optim.sgd import RowSGD
from tests.single.learners.engines.engine_nets import CPU, batch, classify, make, of_package, take, with_dropout

RESNET = of_package("resnet8", (1, 8, 8))
SHAPE = (1, 8, 8)


def test_rows_are_the_replicas_and_nothing_else() -> None:
    stack = make(RESNET, 3)
    alone = [Replica(RESNET(seed), CPU, torch.float64, channels_last=False) for seed in range(3)]
    for j, (replica, expected) in enumerate(zip(stack.replicas, alone, strict=True)):
        assert torch.equal(stack.parameters[j], expected.parameters)
        assert torch.equal(stack.statistics[j], expected.statistics)
        for name, value in replica.module.state_dict().items():
            assert torch.equal(value, expected.module.state_dict()[name]), name
    stack.rows.buffer[1].fill_(2.0)
    stack.gradients[1].fill_(3.0)
    stack.statistics[1].fill_(4.0)
    stack.counts[1].fill_(5)
    changed = stack.replicas[1]
    assert all((p == 2).all() and p.grad is not None and (p.grad == 3).all() for p in changed.trainable)
    assert (changed.means == 4).all() and changed.counts == [5] * len(changed.norms)
    assert all(n.running_mean is not None and (n.running_mean == 4).all() for n in changed.norms)
    assert torch.equal(stack.replicas[2].parameters, alone[2].parameters)


def test_one_learner_trains_to_the_bits_of_a_replica() -> None:
    stack = make(RESNET, 1, torch.float32)
    replica = Replica(RESNET(0), CPU, torch.float32, channels_last=False)
    config = OptimizerConfig(nesterov=True, weight_decay=0.01)
    engine, ours = LoopEngine(stack, classify()), RowSGD(config, stack.rows)
    flat = Rows(replica.parameters[None], RowSGD.states, replica.decay_from)
    theirs = RowSGD(config, flat)
    for step in range(4):
        given = batch(step, 1, 4, SHAPE, torch.float32)
        losses = take(engine, given)
        ours.step(1, 0.1)
        stack.zero_gradients()
        loss = torch.nn.functional.cross_entropy(replica.module(given.inputs), given.targets, reduction="sum")
        (loss / 4.0).backward()
        flat.gradients[0].copy_(replica.gradients)
        theirs.step(1, 0.1)
        replica.parameters.copy_(flat.parameters[0])
        replica.zero_gradients()
        assert torch.equal(losses[0], loss.detach())
    assert torch.equal(stack.parameters[0], replica.parameters) and torch.equal(stack.statistics[0], replica.statistics)


@pytest.mark.parametrize("rows", [[0, 1], [3, 0], [2], [3, 2, 1, 0]])
def test_learners_are_dropped_in_order(rows: list[int]) -> None:
    stack = make(with_dropout, 4)
    for j in range(4):
        stack.rows["momentum"][j].fill_(j)
        stack.counts[j].fill_(j)
    before = {name: getattr(stack, name).clone() for name in ("gradients", "statistics", "counts")}
    named = {name: stack.rows[name].clone() for name in stack.rows.names}
    streams = stack.random_states()
    address = stack.rows.buffer.data_ptr()
    stack.keep(rows)
    assert len(stack) == len(rows)
    assert stack.rows.buffer.data_ptr() == address
    for name, old in before.items():
        assert torch.equal(getattr(stack, name), old[rows]), name
    for name, old in named.items():
        assert torch.equal(stack.rows[name], old[rows]), name
    for i, row in enumerate(rows):
        assert torch.equal(stack.replicas[i].parameters, named["parameters"][row])
        assert torch.equal(stack.replicas[i].trainable[0].flatten(), stack.parameters[i, : 3 * 1])
        assert torch.equal(stack.generators[i].get_state(), streams[row])


@pytest.mark.parametrize("rows", [[], [0, 0], [2], [-1]])
def test_wrong_rows_are_refused(rows: list[int]) -> None:
    with pytest.raises(ValueError, match="of a stack of 2"):
        make(RESNET, 2).keep(rows)


def test_masks_come_from_the_learners_own_stream() -> None:
    """A learner of a stack drops what it would drop alone."""
    given = batch(0, 3, 4, SHAPE)
    together = make(with_dropout, 3)
    take(LoopEngine(together, classify()), given)
    replica = Replica(with_dropout(2), CPU, torch.float64, channels_last=False)
    alone = ReplicaStack([replica], seeds=[2])
    take(LoopEngine(alone, classify()), list(given.learners())[2])
    assert torch.equal(alone.gradients[0], together.gradients[2])
    assert not torch.equal(together.random_states()[0], make(with_dropout, 3).random_states()[0])


def test_random_states_round_trip() -> None:
    given = batch(0, 2, 4, SHAPE)
    stack = make(with_dropout, 2)
    engine = LoopEngine(stack, classify())
    saved = stack.random_states()
    first = take(engine, given)
    other = take(engine, given)
    stack.load_random_states(saved)
    assert torch.equal(take(engine, given), first)
    assert not torch.equal(first, other)
