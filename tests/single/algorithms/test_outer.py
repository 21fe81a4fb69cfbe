"""The outer step, and the outer momentum against its formula."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from hpcsgd.algorithms.outer import Anchored, SlowMomentum, make_anchored
from hpcsgd.algorithms.outer_rate import OuterRate
from hpcsgd.config import AlgorithmConfig
from hpcsgd.errors import UsageError


def anchored(parameters: torch.Tensor, beta: float, alpha: float) -> Anchored:
    return Anchored(parameters, SlowMomentum(parameters, beta), lambda step: alpha)


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
        slow.apply_(0, rate)
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
    slow.apply_(0, 0.1)
    assert parameters.item() == pytest.approx(0.5)
    parameters.fill_(9.0)
    slow.place()
    assert slow.anchor.item() == pytest.approx(0.5)


def test_state_round_trip() -> None:
    first, second = torch.ones(3), torch.ones(3)
    saved, other = anchored(first, 0.5, 0.9), anchored(second, 0.5, 0.9)
    saved.place()
    first.fill_(0.3)
    saved.apply_(0, 0.2)
    other.load_state_dict(saved.state_dict())
    for slow, parameters in ((saved, first), (other, second)):
        parameters.fill_(-1.0)
        slow.place()
        slow.apply_(0, 0.1)
    assert torch.equal(first, second)


@pytest.mark.parametrize("path", [None, "torch.optim.SGD"])
def test_nesterov_is_that_of_torch_and_goes_on_from_its_state(path: str | None) -> None:
    """DiLoCo's rule against torch.optim.SGD, also as the outer step itself."""
    settings: dict[str, Any] = {"name": "diloco", "outer_learning_rate": 0.7, "outer_momentum": 0.9}
    if path is not None:
        arguments = {"momentum": 0.9, "nesterov": True}
        settings = {"name": "local_sgd", "outer_step": path, "outer_init_args": arguments}
    parameters = torch.zeros(5, dtype=torch.float64)
    expected = nn.Parameter(parameters.clone())
    reference = torch.optim.SGD([expected], lr=0.7, momentum=0.9, nesterov=True)
    stream = torch.Generator().manual_seed(0)
    state = None
    for step in range(4):
        config = AlgorithmConfig(**settings)
        made = make_anchored(config, parameters, OuterRate(config, 10, 1))
        assert made is not None
        if state is not None:
            made.load_state_dict(state)
        made.place()
        expected.grad = torch.randn(5, generator=stream, dtype=torch.float64)
        parameters.copy_(made.anchor - expected.grad)
        reference.step()
        made.apply_(step, rate=0.01)
        torch.testing.assert_close(parameters, expected.detach(), rtol=0, atol=1e-14)
        state = copy.deepcopy(made.state_dict())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"outer_step": "torch.optim.SGDM"}, "did you mean SGD"),
        ({"outer_step": "torch.optim.SGD", "outer_init_args": {"momentun": 0.9}}, "outer_init_args: .*momentun"),
        ({"outer_step": "torch.nn.ReLU", "outer_init_args": {}}, "outer_init_args: .*ReLU fails"),
        ({"outer_step": "builtins.dict"}, "outer_init_args: .*dict"),
    ],
)
def test_an_outer_step_that_cannot_be_is_refused(settings: dict[str, Any], words: str) -> None:
    config = AlgorithmConfig(name="local_sgd", **settings)
    with pytest.raises(UsageError, match=words):
        make_anchored(config, torch.ones(3), lambda step: 1.0)


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({"name": "diloco"}, [0.7] * 4),
        ({"name": "local_sgd", "outer_step": "slow_momentum", "slow_learning_rate": 0.5}, [0.5] * 4),
        ({"name": "diloco", "outer_schedule": "linear", "outer_learning_rate": 1.0}, [0.75, 0.5, 0.25, 0.0]),
        ({"name": "diloco", "outer_schedule": "linear", "outer_final_fraction": 0.2}, [0.56, 0.42, 0.28, 0.14]),
        ({"name": "diloco", "outer_warmup_epochs": 1.5}, [0.7 / 3, 1.4 / 3, 0.7, 0.7]),
        ({"name": "diloco", "outer_schedule": "cosine"}, [0.35 * (1 + c) for c in (0.5**0.5, 0.0, -(0.5**0.5), -1.0)]),
    ],
)
def test_the_outer_rate_after_each_of_four_steps_in_two_epochs(settings: dict[str, Any], rates: list[float]) -> None:
    rate = OuterRate(AlgorithmConfig(**settings), steps_per_epoch=2, epochs=2)
    assert [rate(step) for step in range(4)] == pytest.approx(rates, abs=1e-15)


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
    made = make_anchored(AlgorithmConfig(name="local_sgd", **settings), torch.ones(3), lambda step: 1.0)  # type: ignore[arg-type]
    if beta is None:
        assert made is None
    else:
        assert made is not None and isinstance(made.outer, SlowMomentum) and made.outer.beta == beta
