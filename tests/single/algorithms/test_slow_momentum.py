"""The outer momentum, against its formula."""

from __future__ import annotations

import pytest
import torch

from hpcsgd.algorithms.slow_momentum import SlowMomentum


@pytest.mark.parametrize(("beta", "alpha"), [(0.0, 1.0), (0.5, 1.0), (0.7, 0.4)])
def test_formula_under_changing_rates(beta: float, alpha: float) -> None:
    generator = torch.Generator().manual_seed(1)
    parameters = torch.randn(6, generator=generator, dtype=torch.float64)
    slow = SlowMomentum(parameters, beta, alpha)
    anchor, u = parameters.clone(), torch.zeros(6, dtype=torch.float64)
    for rate in (0.1, 0.3, 0.05):
        slow.remember_anchor()
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
    slow = SlowMomentum(parameters, 0.0, 1.0)
    slow.remember_anchor()
    parameters.fill_(5.0)
    slow.remember_anchor()
    assert slow.anchor.tolist() == [0.0, 0.0]


def test_after_an_averaging_the_anchor_is_the_new_model() -> None:
    parameters = torch.tensor([1.0])
    slow = SlowMomentum(parameters, 0.0, 0.5)
    slow.remember_anchor()
    parameters.fill_(0.0)
    slow.apply_(0.1)
    assert parameters.item() == pytest.approx(0.5)
    parameters.fill_(9.0)
    slow.remember_anchor()
    assert slow.anchor.item() == pytest.approx(0.5)


def test_state_round_trip() -> None:
    first, second = torch.ones(3), torch.ones(3)
    saved, other = SlowMomentum(first, 0.5, 0.9), SlowMomentum(second, 0.5, 0.9)
    saved.remember_anchor()
    first.fill_(0.3)
    saved.apply_(0.2)
    other.load_state_dict(saved.state_dict())
    for slow, parameters in ((saved, first), (other, second)):
        parameters.fill_(-1.0)
        slow.remember_anchor()
        slow.apply_(0.1)
    assert torch.equal(first, second)
