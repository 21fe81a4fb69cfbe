"""Momentum SGD on flat buffers, against torch.optim.SGD and against itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hpcsgd.config import OptimizerConfig
from hpcsgd.optim.rows import Rows
from hpcsgd.optim.sgd import RowSGD, decayed_parameters

SIZE, DECAY_FROM = 12, 5
RATES = (0.1, 0.1, 0.3, 0.02, 0.02, 0.5)
sequences = st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=12)
momenta = st.sampled_from([0.3, 0.9, 0.99])
Gradient = Callable[[int, Tensor], Tensor]


def gradient(step: int, parameters: Tensor) -> Tensor:
    """Any function of the parameters."""
    return torch.sin(parameters * (step + 1)) + 0.1 * parameters


def fixed_gradient(step: int, parameters: Tensor) -> Tensor:
    """One that does not depend on the parameters, so that no rounding error can grow."""
    return torch.sin(torch.arange(SIZE, dtype=torch.float64) * (step + 1))


def descend(
    rates: list[float] | tuple[float, ...], gradient: Gradient = gradient, **settings: Any
) -> tuple[Tensor, Tensor]:
    """Parameters and momentum after a step at each rate."""
    parameters = torch.linspace(-1, 1, SIZE, dtype=torch.float64)
    rows = Rows(parameters[None], RowSGD.states, DECAY_FROM)
    optimizer = RowSGD(OptimizerConfig(**settings), rows)
    for step, rate in enumerate(rates):
        rows.gradients[0].copy_(gradient(step, rows.parameters[0]))
        optimizer.step(1, rate)
    return rows.parameters[0], rows["momentum"][0]


def torch_descend(rates: tuple[float, ...], momentum: float, nesterov: bool, weight_decay: float) -> Tensor:
    """The same by torch."""
    start = torch.linspace(-1, 1, SIZE, dtype=torch.float64)
    parts = [start[:DECAY_FROM].clone().requires_grad_(), start[DECAY_FROM:].clone().requires_grad_()]
    groups = [{"params": parts[:1], "weight_decay": 0.0}, {"params": parts[1:], "weight_decay": weight_decay}]
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=momentum, nesterov=nesterov)
    for step, rate in enumerate(rates):
        for group in optimizer.param_groups:
            group["lr"] = rate
        for part, values in zip(parts, gradient(step, torch.cat(parts).detach()).split([5, 7]), strict=True):
            part.grad = values.clone()
        optimizer.step()
    return torch.cat(parts).detach()


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True), (0.5, True)])
@pytest.mark.parametrize("form", ["reference", "absorbed"])
def test_both_forms_equal_torch(momentum: float, nesterov: bool, weight_decay: float, form: str) -> None:
    ours, _ = descend(RATES, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, momentum_form=form)
    torch.testing.assert_close(ours, torch_descend(RATES, momentum, nesterov, weight_decay), rtol=0, atol=1e-14)


@given(sequences, momenta, st.booleans())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_forms_are_equal_under_any_rates(rates: list[float], momentum: float, nesterov: bool) -> None:
    common = {"momentum": momentum, "nesterov": nesterov, "weight_decay": 0.01}
    reference, u = descend(rates, fixed_gradient, momentum_form="reference", **common)
    absorbed, v = descend(rates, fixed_gradient, momentum_form="absorbed", **common)
    torch.testing.assert_close(absorbed, reference, rtol=1e-12, atol=1e-12)
    # v = eta u
    torch.testing.assert_close(v, rates[-1] * u, rtol=1e-12, atol=1e-12)


def test_without_correction_the_absorbed_form_is_another_one_once_the_rate_changes() -> None:
    common = {"momentum": 0.9, "momentum_form": "absorbed"}
    constant = [descend([0.1] * 4, momentum_correction=correction, **common)[0] for correction in (True, False)]
    torch.testing.assert_close(constant[0], constant[1], rtol=0, atol=1e-15)
    changing = [descend(RATES, momentum_correction=correction, **common)[0] for correction in (True, False)]
    assert (changing[0] - changing[1]).abs().max() > 1e-3


def test_the_absorbed_form_without_correction_has_its_formula() -> None:
    parameters = torch.linspace(-1, 1, SIZE, dtype=torch.float64)
    v = torch.zeros_like(parameters)
    for step, rate in enumerate(RATES):
        v = 0.9 * v + rate * gradient(step, parameters)
        parameters = parameters - v
    ours, momentum = descend(RATES, momentum=0.9, momentum_form="absorbed", momentum_correction=False)
    torch.testing.assert_close(ours, parameters, rtol=0, atol=1e-14)
    torch.testing.assert_close(momentum, v, rtol=0, atol=1e-14)


def test_plain_sgd_keeps_no_momentum() -> None:
    assert not descend(RATES, momentum=0.0)[1].any()


def test_the_absorbed_form_cannot_leave_a_rate_of_zero() -> None:
    with pytest.raises(ValueError, match="learning rate of 0"):
        descend([0.1, 0.0, 0.1], momentum=0.9, momentum_form="absorbed")
    descend([0.1, 0.0], momentum=0.9, momentum_form="absorbed")
    descend([0.1, 0.0, 0.1], momentum=0.9)


@pytest.mark.parametrize("form", ["reference", "absorbed"])
def test_state_round_trip(form: str) -> None:
    config = OptimizerConfig(momentum=0.9, momentum_form=form)  # type: ignore[arg-type]
    expected, _ = descend(RATES, momentum=0.9, momentum_form=form)
    parameters, momentum = descend(RATES[:3], momentum=0.9, momentum_form=form)
    rows = Rows(parameters[None], RowSGD.states, DECAY_FROM)
    rows["momentum"].copy_(momentum)
    resumed = RowSGD(config, rows)
    before = RowSGD(config, Rows(torch.zeros(1, SIZE, dtype=torch.float64), RowSGD.states, DECAY_FROM))
    for rate in RATES[:3]:
        before.step(1, rate)
    resumed.load_state_dict(before.state_dict())
    for step in range(3, len(RATES)):
        rows.gradients[0].copy_(gradient(step, rows.parameters[0]))
        resumed.step(1, RATES[step])
    assert torch.equal(rows.parameters[0], expected)


class Odd(nn.Module):
    """Parameters whose names say nothing of what they are."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Linear(3, 3)
        self.weight_norm = nn.BatchNorm1d(3)
        self.lookup = nn.Embedding(4, 3)
        self.sequence = nn.Conv1d(3, 3, 2)
        self.volume = nn.ConvTranspose2d(3, 3, 2, bias=False)
        self.layer = nn.LayerNorm(3)
        self.group = nn.GroupNorm(1, 3)
        self.scale = nn.Parameter(torch.ones(3))


def test_weight_decay_goes_by_the_type_of_the_module() -> None:
    module = Odd()
    decayed = decayed_parameters(module)
    names = {name for name, parameter in module.named_parameters() if id(parameter) in decayed}
    assert names == {"bias.weight", "lookup.weight", "sequence.weight", "volume.weight"}
    assert len(decayed) == 4


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_by_sign_each_parameter_moves_by_the_rate(momentum: float, nesterov: bool) -> None:
    rates, decay = (0.1, 0.03, 0.2), 0.3
    settings: dict[str, Any] = {"momentum": momentum, "nesterov": nesterov, "weight_decay": decay}
    parameters, _ = descend(rates, sign=True, **settings)
    expected, velocity = torch.linspace(-1, 1, SIZE, dtype=torch.float64), torch.zeros(SIZE, dtype=torch.float64)
    for step, rate in enumerate(rates):
        own = gradient(step, expected)
        own[DECAY_FROM:] += decay * expected[DECAY_FROM:]
        velocity = momentum * velocity + own
        expected -= rate * torch.sign(own + momentum * velocity if nesterov else velocity)
    torch.testing.assert_close(parameters, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_sign_does_not_hide_what_is_not_finite(bad: float) -> None:
    def last_is_bad(step: int, parameters: Tensor) -> Tensor:
        return torch.cat([torch.zeros(SIZE - 1, dtype=torch.float64), torch.tensor([bad], dtype=torch.float64)])

    parameters, _ = descend((0.1,), last_is_bad, sign=True, momentum=0.9)
    assert parameters[-1].isnan()
    assert torch.equal(parameters[:-1], torch.linspace(-1, 1, SIZE, dtype=torch.float64)[:-1])
