"""The outer step, and the outer momentum against its formula."""

from __future__ import annotations

import pytest
import torch

from hpcsgd.algorithms.outer import Anchored, SlowMomentum, make_anchored
from hpcsgd.config import AlgorithmConfig


def anchored(parameters: torch.Tensor, beta: float, alpha: float) -> Anchored:
    return Anchored(parameters, SlowMomentum(parameters, beta, alpha))


@pytest.mark.parametrize(("beta", "alpha"), [(0.0, 1.0), (0.5, 1.0), (0.7, 0.4)])
def test_formula_under_changing_rates(beta: float, alpha: float) -> None:
    generator = torch.Generator().manual_seed(1)
    parameters = torch.randn(6, generator=generator, dtype=torch.float64)
    slow = anchored(parameters, beta, alpha)
    anchor, u = parameters.clone(), torch.zeros(6, dtype=torch.float64)
    for rate in (0.1, 0.3, 0.05):
        slow.place()
        average = torch.randn(6, generator=generator, dtype=torch.float64)
        parameters.copy_(average)
        slow.apply_(rate)
        u = beta * u + (anchor - average) / rate
        anchor = anchor - alpha * rate * u
        torch.testing.assert_close(parameters, anchor, rtol=0, atol=1e-13)
        if (beta, alpha) == (0.0, 1.0):
            torch.testing.assert_close(parameters, average, rtol=0, atol=1e-13)


def test_the_anchor_is_the_model_before_the_first_local_step() -> None:
    parameters = torch.zeros(2)
    slow = anchored(parameters, 0.0, 1.0)
    slow.place()
    parameters.fill_(5.0)
    slow.place()
    assert slow.anchor.tolist() == [0.0, 0.0]


def test_after_an_averaging_the_anchor_is_the_new_model() -> None:
    parameters = torch.tensor([1.0])
    slow = anchored(parameters, 0.0, 0.5)
    slow.place()
    parameters.fill_(0.0)
    slow.apply_(0.1)
    assert parameters.item() == pytest.approx(0.5)
    parameters.fill_(9.0)
    slow.place()
    assert slow.anchor.item() == pytest.approx(0.5)


def test_state_round_trip() -> None:
    first, second = torch.ones(3), torch.ones(3)
    saved, other = anchored(first, 0.5, 0.9), anchored(second, 0.5, 0.9)
    saved.place()
    first.fill_(0.3)
    saved.apply_(0.2)
    other.load_state_dict(saved.state_dict())
    for slow, parameters in ((saved, first), (other, second)):
        parameters.fill_(-1.0)
        slow.place()
        slow.apply_(0.1)
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("settings", "beta"),
    [
        ({}, None),
        ({"outer_step": "average"}, None),
        ({"momentum_policy": "global", "slow_momentum": 0.7}, 0.7),
        ({"outer_step": "slow_momentum", "momentum_policy": "average"}, 0.5),
    ],
)
def test_the_recipe_says_which(settings: dict[str, str], beta: float | None) -> None:
    made = make_anchored(AlgorithmConfig(name="local_sgd", **settings), torch.ones(3))  # type: ignore[arg-type]
    if beta is None:
        assert made is None
    else:
        assert made is not None and isinstance(made.outer, SlowMomentum) and made.outer.beta == beta
