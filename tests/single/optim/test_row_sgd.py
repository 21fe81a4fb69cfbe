"""SGD on all rows is SGD on each."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hpcsgd.config import OptimizerConfig
from hpcsgd.optim.rows import Rows
from hpcsgd.optim.sgd import RowSGD
from tests.single.learners.engines.engine_nets import make, of_package

BUILD = of_package("fully_connected", widths=(6,))
RATES = (0.1, 0.1, 0.05, 0.3)


def gradients(step: int, like: torch.Tensor) -> torch.Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(step), dtype=like.dtype)


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("form", ["reference", "absorbed"])
def test_every_row_is_updated_as_alone(form: str, nesterov: bool, alike: bool) -> None:
    factors = [1.0] * 3 if alike else [1.0, 0.5, 0.25]
    stack = make(BUILD, 3)
    common: dict[str, Any] = {"nesterov": nesterov, "momentum_form": form}
    config = OptimizerConfig(**common)
    ours = RowSGD(config, stack.rows, momentum=[0.9 * f for f in factors], weight_decay=[0.01 * f for f in factors])
    rows, optimizers = [], []
    for j, factor in enumerate(factors):
        own = OptimizerConfig(momentum=0.9 * factor, weight_decay=0.01 * factor, **common)
        rows.append(Rows(stack.parameters[j : j + 1], RowSGD.states, stack.rows.decay_from))
        optimizers.append(RowSGD(own, rows[j]))
    for step, rate in enumerate(RATES):
        stack.gradients.copy_(gradients(step, stack.gradients))
        for j, row in enumerate(rows):
            row.gradients[0].copy_(stack.gradients[j])
            optimizers[j].step(1, rate * factors[j])
        ours.step(3, [rate * factor for factor in factors])
    for j, row in enumerate(rows):
        for name in ("parameters", "momentum"):
            if alike:
                assert torch.equal(stack.rows[name][j], row[name][0])
            torch.testing.assert_close(stack.rows[name][j], row[name][0], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("form", ["reference", "absorbed"])
def test_learners_can_be_dropped(form: str) -> None:
    stacks = [make(BUILD, 3), make(BUILD, 3)]
    config = OptimizerConfig(momentum_form=form)  # type: ignore[arg-type]
    whole, shrunk = (RowSGD(config, stack.rows, momentum=[0.9, 0.8, 0.7]) for stack in stacks)
    for step, rate in enumerate(RATES):
        values = gradients(step, stacks[0].gradients)
        rates = [rate, rate / (step + 1), rate / 3]
        rows = [0, 1, 2]
        if step >= 2:
            rows = [2, 1]
        if step == 2:
            stacks[1].keep(rows)
            shrunk.keep(rows)
        stacks[0].gradients.copy_(values)
        stacks[1].gradients.copy_(values[rows])
        whole.step(3, rates)
        shrunk.step(len(rows), [rates[row] for row in rows])
    assert torch.equal(stacks[1].parameters, stacks[0].parameters[[2, 1]])


def test_the_number_of_rates_is_that_of_the_learners() -> None:
    with pytest.raises(AssertionError, match="2 numbers for 3 learners"):
        RowSGD(OptimizerConfig(), make(BUILD, 3).rows).step(3, [0.1, 0.2])


def test_state_round_trip() -> None:
    config = OptimizerConfig(momentum_form="absorbed")
    first = RowSGD(config, make(BUILD, 2).rows)
    first.step(2, [0.1, 0.2])
    second = RowSGD(config, make(BUILD, 2).rows)
    second.load_state_dict(first.state_dict())
    previous = second.state_dict()["previous_rate"]
    assert isinstance(previous, torch.Tensor) and previous.flatten().tolist() == [0.1, 0.2]
