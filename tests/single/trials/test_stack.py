"""Networks that train side by side are the networks that train alone (float64: 1e-12; float32: 1e-5)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcsgd.config import ModelConfig, OptimizerConfig
from hpcsgd.learners.replica import Replica
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.models import build_model
from hpcsgd.optim.sgd import RowSGD
from hpcsgd.trials.stack import FusedStack, LoopStack, Stack, smoothed_loss

CPU = torch.device("cpu")
SHAPE, CLASSES, BATCH, STEPS = (1, 5, 5), 4, 6, 12
SEEDS = (3, 1, 4, 1)
RATES = ((0.1, 0.05), (0.02, 0.02), (0.3, 0.1), (0.05, 0.0))
"""Of even and odd steps."""
MOMENTA = (0.9, 0.0, 0.5, 0.99)
SMOOTHING = (0.0, 0.1, 0.3, 0.0)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def modules(widths: Sequence[int], seeds: Sequence[int] = SEEDS) -> list[nn.Module]:
    return [build_model(ModelConfig(widths=tuple(widths)), SHAPE, CLASSES, seed) for seed in seeds]


def batches(dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(len(SEEDS), BATCH, *SHAPE, generator=generator, dtype=torch.float64).to(dtype),
            torch.randint(0, CLASSES, (len(SEEDS), BATCH), generator=generator),
        )
        for _ in range(STEPS)
    ]


def column(values: Sequence[float], dtype: torch.dtype) -> Tensor:
    return torch.tensor(values, dtype=dtype).view(-1, 1)


def train(stack: Stack, config: OptimizerConfig, dtype: torch.dtype, rows: Sequence[int] = range(4)) -> Tensor:
    """Train the networks ``rows``; the losses, [steps, R]."""
    smoothing = torch.tensor([SMOOTHING[row] for row in rows], dtype=dtype)
    momenta = column([MOMENTA[row] for row in rows], dtype)
    losses = []
    for step, (images, labels) in enumerate(batches(dtype)):
        losses.append(stack.add_gradients(images[list(rows)], labels[list(rows)], smoothing, BATCH))
        rates, row = column([RATES[row][step % 2] for row in rows], dtype), 0
        for block in stack.blocks:
            part = slice(row, row := row + len(block.parameters))
            block.update(config, rates[part], momenta[part])
    return torch.stack(losses)


def ordinary(
    row: int, widths: Sequence[int], config: OptimizerConfig, dtype: torch.dtype
) -> tuple[list[float], Replica]:
    """One network as an ordinary run trains it, with torch's own cross-entropy."""
    replica = Replica(modules(widths)[row], CPU, dtype, channels_last=False)
    settings = OptimizerConfig(momentum=MOMENTA[row], nesterov=config.nesterov and MOMENTA[row] > 0,
                               weight_decay=config.weight_decay)  # fmt: skip
    sgd = RowSGD(settings, ReplicaStack([replica], states=RowSGD.states).rows)
    losses = []
    for step, (images, labels) in enumerate(batches(dtype)):
        replica.zero_gradients()
        loss = F.cross_entropy(replica.module(images[row]), labels[row], label_smoothing=SMOOTHING[row])
        loss.backward()
        sgd.step(1, RATES[row][step % 2])
        losses.append(loss.item())
    return losses, replica


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("engine", ["fused", "loop"])
@pytest.mark.parametrize("widths", [(), (7,), (7, 5)])
@pytest.mark.parametrize("config", [OptimizerConfig(nesterov=True, weight_decay=0.01), OptimizerConfig()])
def test_each_is_the_network_of_an_ordinary_run(
    widths: tuple[int, ...], engine: str, config: OptimizerConfig, dtype: torch.dtype
) -> None:
    made = modules(widths)
    stack: Stack = FusedStack(made, CPU, dtype) if engine == "fused" else LoopStack(made, CPU, dtype, False)
    losses = train(stack, config, dtype)
    parameters = torch.cat([block.parameters for block in stack.blocks])
    images = batches(dtype)[0][0][0]
    logits = stack.logits(images)
    for row in range(len(SEEDS)):
        expected, replica = ordinary(row, widths, config, dtype)
        tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
        torch.testing.assert_close(losses[:, row], torch.tensor(expected, dtype=dtype), **tolerance)
        torch.testing.assert_close(parameters[row], replica.parameters, **tolerance)
        torch.testing.assert_close(logits[row], replica.module(images), **tolerance)


@pytest.mark.parametrize("engine", ["fused", "loop"])
def test_those_that_stay_do_not_notice_that_others_leave(engine: str) -> None:
    config, dtype = OptimizerConfig(nesterov=True), torch.float64

    def make(rows: Sequence[int]) -> Stack:
        made = [modules((7,))[row] for row in rows]
        return FusedStack(made, CPU, dtype) if engine == "fused" else LoopStack(made, CPU, dtype, False)

    stack, alone = make(range(4)), make([3, 0])
    train(stack, config, dtype)
    train(alone, config, dtype, [3, 0])
    stack.keep([3, 0])
    again, expected = (train(found, config, dtype, [3, 0]) for found in (stack, alone))
    torch.testing.assert_close(again, expected, rtol=1e-12, atol=1e-12)


def test_no_smoothing_is_smoothing_of_nothing() -> None:
    images, labels = batches(torch.float64)[0]
    for stack in (FusedStack(modules((7,)), CPU, torch.float64), LoopStack(modules((7,)), CPU, torch.float64, False)):
        with_zeros = stack.add_gradients(images, labels, torch.zeros(4, dtype=torch.float64), BATCH)
        gradients = [block.gradients.clone() for block in stack.blocks]
        torch.testing.assert_close(stack.add_gradients(images, labels, None, BATCH), with_zeros, rtol=1e-14, atol=1e-14)
        for block, before in zip(stack.blocks, gradients, strict=True):
            torch.testing.assert_close(block.gradients, before, rtol=1e-13, atol=1e-15)


def test_the_smoothed_loss_is_torchs() -> None:
    logits, labels = torch.randn(9, CLASSES, dtype=torch.float64), torch.arange(9) % CLASSES
    for share in (0.0, 0.1, 0.7):
        expected = F.cross_entropy(logits, labels, label_smoothing=share, reduction="sum")
        torch.testing.assert_close(
            smoothed_loss(logits, labels, torch.tensor(share, dtype=torch.float64)), expected, rtol=1e-14, atol=1e-14
        )
