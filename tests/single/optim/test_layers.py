"""LARS and LAMB on rows are those of the papers on each network."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch
from torch import nn

from hpcsgd.config import OptimizerConfig
from hpcsgd.learners.replica import Replica
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.optim.base import RowOptimizer
from hpcsgd.optim.choose import all_states, make_optimizer
from tests.single.optim.plain_optimizers import make_plain

RATES = (0.5, 0.2, 0.7, 0.1)
LARS: dict[str, Any] = {"name": "lars", "trust_coefficient": 0.1, "weight_decay": 0.05}
LAMB: dict[str, Any] = {"name": "lamb", "weight_decay": 0.05, "betas": (0.8, 0.9), "eps": 1e-4}
SETTINGS: dict[str, dict[str, Any]] = {
    "paper": {**LARS, "momentum_form": "absorbed", "momentum_correction": False},
    "outside": {**LARS, "nesterov": True},
    "plain": {**LARS, "momentum": 0.0, "max_trust_ratio": 0.03},
    "lamb": LAMB,
    "limited": {**LAMB, "max_trust_ratio": 0.5},
}


def net(seed: int) -> nn.Module:
    """Convolution, norm, and a matrix; a filter of zeros has no norm to go by."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 5, bias=False)).double()
    if seed == 2:
        nn.init.zeros_(model[0].weight)  # type: ignore[arg-type]
    return model


def stack_of(config: OptimizerConfig, seeds: range) -> tuple[ReplicaStack, RowOptimizer]:
    cpu = torch.device("cpu")
    replicas = [Replica(net(seed), cpu, torch.float64, channels_last=True) for seed in seeds]
    stack = ReplicaStack(replicas, states=all_states(config, None))
    return stack, make_optimizer(config, stack.rows, None)


def give_gradients(step: int, model: nn.Module, seed: int) -> None:
    """Gradients that are the same for equal steps and seeds; those of step 1 are zero for one layer."""
    generator = torch.Generator().manual_seed(10 * step + seed)
    for index, parameter in enumerate(model.parameters()):
        values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        values = torch.zeros_like(values) if (step, index) == (1, 4) else values
        if parameter.grad is None:
            parameter.grad = values
        else:
            parameter.grad.copy_(values)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_row_goes_as_the_paper_says(name: str) -> None:
    """Rates of their own, and at step 2 the last learner has no samples."""
    config = OptimizerConfig(**SETTINGS[name])
    stack, rows = stack_of(config, range(3))
    models = [net(seed) for seed in range(3)]
    plain = [make_plain(model, config) for model in models]
    for step, rate in enumerate(RATES):
        count = 2 if step == 2 else 3
        for j, (model, optimizer) in enumerate(zip(models, plain, strict=True)):
            give_gradients(step, stack.replicas[j].module, j)
            give_gradients(step, model, j)
            for group in optimizer.param_groups:
                group["lr"] = rate * (j + 1)
            if j < count:
                optimizer.step()
        rows.step(count, [rate * (j + 1) for j in range(3)])
        for replica, model in zip(stack.replicas, models, strict=True):
            for ours, theirs in zip(replica.module.parameters(), model.parameters(), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["paper", "lamb"])
def test_a_row_is_the_same_alone_kept_and_resumed(name: str) -> None:
    config = OptimizerConfig(**SETTINGS[name])
    (stack, rows), (alone, single), (later, resumed) = (stack_of(config, r) for r in (range(3), range(1, 2), range(2)))
    for step, rate in enumerate(RATES):
        if step == 2:
            stack.keep([2, 1])
            rows.keep([2, 1])
            later.rows.buffer.copy_(stack.rows.buffer)
            resumed.load_state_dict(rows.state_dict())
        for j, replica in enumerate(stack.replicas):
            give_gradients(step, replica.module, (2, 1)[j] if step >= 2 else j)
        give_gradients(step, alone.replicas[0].module, 1)
        later.gradients.copy_(stack.gradients[:2])
        rows.step(len(stack), rate)
        single.step(1, rate)
        if step >= 2:
            resumed.step(2, rate)
            assert torch.equal(later.rows.buffer, stack.rows.buffer)
    assert torch.equal(stack.rows.buffer[1], alone.rows.buffer[0])


@pytest.mark.parametrize("form", ["reference", "absorbed"])
def test_where_every_ratio_is_one_lars_is_sgd(form: str) -> None:
    common: dict[str, Any] = {"momentum_form": form, "weight_decay": 0.05}
    trust = {"name": "lars", "trust_coefficient": 1e9, "max_trust_ratio": 1.0}
    (ours, lars), (theirs, sgd) = (
        stack_of(OptimizerConfig(**common, **own), range(2)) for own in (trust, {"name": "sgd"})
    )
    for step, rate in enumerate(RATES):
        for j, replica in enumerate(chain(ours.replicas, theirs.replicas)):
            give_gradients(step, replica.module, j % 2)
        lars.step(2, rate)
        sgd.step(2, rate)
    assert torch.equal(ours.rows.buffer, theirs.rows.buffer)


def test_lamb_begins_again_where_all_its_moments_do() -> None:
    (stack, rows), (fresh, new) = (stack_of(OptimizerConfig(**LAMB), range(2)) for _ in range(2))
    give_gradients(0, stack.module, 0)
    rows.step(1, 0.1)
    rows.reset(("exp_avg",))
    assert rows.state_dict() == {"steps": [1, 0]} and not stack.rows["exp_avg"].any() and stack.rows["exp_avg_sq"].any()
    rows.reset(("exp_avg", "exp_avg_sq"))
    fresh.parameters.copy_(stack.parameters)
    for one, optimizer in ((stack, rows), (fresh, new)):
        give_gradients(1, one.module, 0)
        one.gradients[1].zero_()
        optimizer.step(2, 0.1)
    assert torch.equal(stack.rows.buffer, fresh.rows.buffer)
    new.load_first({"steps": [7, 3]})
    assert new.state_dict() == {"steps": [7, 7]}
