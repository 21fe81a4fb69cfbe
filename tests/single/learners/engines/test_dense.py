"""Fully connected learners with the backward pass written out are those of torch's own."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcsgd.config import OptimizerConfig
from hpcsgd.data.batches import Batch
from hpcsgd.learners.engines.base import Engine, NotPossibleError
from hpcsgd.learners.engines.dense import DenseEngine
from hpcsgd.learners.engines.fused import FusedEngine
from hpcsgd.learners.engines.loop import LoopEngine
from hpcsgd.learners.replica import Replica
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.optim.sgd import RowSGD
from hpcsgd.tasks.losses import squared_error
from hpcsgd.tasks.task import Task
from tests.single.learners.engines.engine_nets import (
    CPU,
    batch,
    classify,
    make,
    of_package,
    seeded,
    take,
    with_dropout,
)

SHAPE, N, STEPS, M = (1, 5, 5), 6, 12, 4
RATES = ((0.1, 0.05), (0.02, 0.02), (0.3, 0.1), (0.05, 0.0))
"""Of even and odd steps."""
MOMENTA = (0.9, 0.0, 0.5, 0.99)
SMOOTHING = (0.0, 0.1, 0.3, 0.0)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
KINDS = {"dense": DenseEngine, "fused": FusedEngine, "loop": LoopEngine}


def numbers(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def smoothing(rows: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.tensor([SMOOTHING[row] for row in rows], dtype=dtype)


def train(
    kind: str, stack: ReplicaStack, config: OptimizerConfig, rows: Sequence[int] = range(M), sgd: RowSGD | None = None
) -> Tensor:
    """Train the learners ``rows``, each with its own numbers; the mean losses, [steps, m]."""
    dtype = stack.dtype
    engine = KINDS[kind](stack, classify(smoothing(rows, dtype)))
    sgd = sgd or RowSGD(config, stack.rows, momentum=numbers([MOMENTA[row] for row in rows]))
    losses = []
    for step in range(STEPS):
        parts = list(batch(step, M, N, SHAPE, dtype).learners())
        given = Batch(*(torch.cat([getattr(parts[r], name) for r in rows]) for name in ("inputs", "targets")),
                      [N] * len(rows))  # fmt: skip
        losses.append(engine.passes(given, [float(N)] * len(rows), N, fresh=True) / N)
        sgd.step(len(rows), numbers([RATES[row][step % 2] for row in rows]))
    return torch.stack(losses)


def ordinary(row: int, widths: tuple[int, ...], config: OptimizerConfig, dtype: torch.dtype) -> tuple[Tensor, Replica]:
    """One learner with torch's own cross-entropy."""
    replica = Replica(of_package("fully_connected", SHAPE, widths=widths)(row), CPU, dtype, channels_last=False)
    settings = OptimizerConfig(momentum=MOMENTA[row], nesterov=config.nesterov and MOMENTA[row] > 0,
                               weight_decay=config.weight_decay)  # fmt: skip
    sgd = RowSGD(settings, ReplicaStack([replica], states=RowSGD.states).rows)
    losses = []
    for step in range(STEPS):
        own = list(batch(step, M, N, SHAPE, dtype).learners())[row]
        replica.zero_gradients()
        loss = F.cross_entropy(replica.module(own.inputs), own.targets, label_smoothing=SMOOTHING[row])
        loss.backward()
        sgd.step(1, RATES[row][step % 2])
        losses.append(loss.detach())
    return torch.stack(losses), replica


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("widths", [(), (7,), (7, 5)])
@pytest.mark.parametrize("config", [OptimizerConfig(nesterov=True, weight_decay=0.01), OptimizerConfig()])
def test_each_is_the_network_of_an_ordinary_run(
    widths: tuple[int, ...], kind: str, config: OptimizerConfig, dtype: torch.dtype
) -> None:
    stack = make(of_package("fully_connected", SHAPE, widths=widths), M, dtype)
    losses = train(kind, stack, config)
    images = batch(99, 1, N, SHAPE, dtype).inputs
    logits = KINDS[kind](stack, classify()).outputs(images)
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    for row in range(M):
        expected, replica = ordinary(row, widths, config, dtype)
        torch.testing.assert_close(losses[:, row], expected, **tolerance)
        torch.testing.assert_close(stack.parameters[row], replica.parameters, **tolerance)
        torch.testing.assert_close(logits[row], replica.module(images), **tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_those_that_stay_do_not_notice_that_others_leave(kind: str) -> None:
    config = OptimizerConfig(nesterov=True)
    build = of_package("fully_connected", SHAPE, widths=(7,))
    stack, alone = make(build, M), make(build, M)
    sgd = RowSGD(config, stack.rows, momentum=numbers(MOMENTA))
    train(kind, stack, config, sgd=sgd)
    alone.keep([3, 0])
    other = RowSGD(config, alone.rows, momentum=numbers([MOMENTA[row] for row in (3, 0)]))
    train(kind, alone, config, [3, 0], other)
    stack.keep([3, 0])
    sgd.keep([3, 0])
    again, expected = (train(kind, own, config, [3, 0], how) for own, how in ((stack, sgd), (alone, other)))
    torch.testing.assert_close(again, expected, rtol=1e-12, atol=1e-12)


UNEVEN = Batch(
    *(part[: 3 * N - 1] for part in (batch(0, 3, N, SHAPE).inputs, batch(0, 3, N, SHAPE).targets)), [N, N, N - 1]
)
NONE = Batch(torch.zeros(0, *SHAPE, dtype=torch.float64), torch.zeros(0, dtype=torch.int64), [0, 0, 0])


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("given", [batch(0, 3, N, SHAPE), UNEVEN, NONE], ids=["even", "uneven", "none"])
@pytest.mark.parametrize("kind", ["dense", "fused"])
def test_gradients_are_added_or_set_part_by_part(kind: str, given: Batch, fresh: bool) -> None:
    results = []
    for name in ("loop", kind):
        stack = make(of_package("fully_connected", SHAPE, widths=(7,)), 3)
        engine: Engine = KINDS[name](stack, classify(smoothing(range(3), torch.float64)))
        stack.gradients.fill_(0.5)
        losses = engine.passes(given, [2.0, 3.0, 5.0], 4, fresh=fresh)
        results.append((losses, *(torch.cat([p.grad.flatten() for p in r.trainable]) for r in stack.replicas)))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_no_smoothing_is_smoothing_of_nothing() -> None:
    for kind in KINDS.values():
        found = []
        for share in (0.0, torch.zeros(M, dtype=torch.float64)):
            stack = make(of_package("fully_connected", SHAPE, widths=(7,)), M)
            take(kind(stack, classify(share)), batch(0, M, N, SHAPE))
            found.append(stack.gradients)
        torch.testing.assert_close(*found, rtol=1e-13, atol=1e-15)


SHARED = nn.Linear(25, 25)
REFUSED = {
    "Conv2d at 0": with_dropout(0),
    "LayerNorm at 2": nn.Sequential(nn.Flatten(), nn.Linear(25, 5), nn.LayerNorm(5), nn.Linear(5, 5)),
    "Linear without bias at 1": nn.Sequential(nn.Flatten(), nn.Linear(25, 5, bias=False)),
    "frozen or tied parameters at 3": nn.Sequential(nn.Flatten(), SHARED, nn.ReLU(), SHARED),
    "does not end in Linear at 2": nn.Sequential(nn.Flatten(), nn.Linear(25, 5), nn.ReLU()),
    "no form of Linear: choose": nn.Linear(25, 5),
    "Sequential at 1": nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(25, 5))),
}


@pytest.mark.parametrize("said", REFUSED)
def test_other_models_are_refused_by_their_part(said: str) -> None:
    stack = ReplicaStack([Replica(REFUSED[said], CPU, torch.float64, channels_last=False)])
    with pytest.raises(NotPossibleError, match=said):
        DenseEngine(stack, classify())


def test_other_losses_are_refused_by_name() -> None:
    stack = make(of_package("fully_connected", SHAPE, widths=(7,)), 1)
    with pytest.raises(NotPossibleError, match="dense takes cross_entropy alone, and the loss is squared_error"):
        DenseEngine(stack, Task(seeded(nn.Identity), squared_error, {}))
