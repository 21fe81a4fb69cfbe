"""Any torch optimizer on rows is that optimizer on the module's parameters."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hpcsgd.config import OptimizerConfig, RunConfig
from hpcsgd.config.imports import find_object
from hpcsgd.errors import UsageError
from hpcsgd.learners.replica import Replica
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.optim.any_torch import TorchRows
from hpcsgd.optim.choose import find_kind, make_optimizer, states_of

CPU = torch.device("cpu")
OWN = "tests.single.optim.own_optimizer.NormalizedMomentum"
CASES: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("torch.optim.AdamW", {"betas": [0.8, 0.9], "weight_decay": 0.1}, ("exp_avg", "exp_avg_sq")),
    ("torch.optim.AdamW", {"amsgrad": True, "foreach": True}, ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")),
    ("torch.optim.Adam", {"weight_decay": 0.1}, ("exp_avg", "exp_avg_sq")),
    ("torch.optim.SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, ("momentum_buffer",)),
    ("torch.optim.SGD", {}, ()),
    ("torch.optim.RMSprop", {"momentum": 0.5, "weight_decay": 0.1}, ("square_avg", "momentum_buffer")),
    ("torch.optim.Adagrad", {"initial_accumulator_value": 0.1, "weight_decay": 0.1}, ("sum",)),
    ("torch.optim.NAdam", {"weight_decay": 0.1}, ("exp_avg", "exp_avg_sq")),
    ("torch.optim.Rprop", {}, ("prev", "step_size")),
    ("torch.optim.Adafactor", {"weight_decay": 0.1}, ("variance",)),
    (OWN, {"weight_decay": 0.1}, ("mean",)),
]
RATES = (0.01, 0.03, 0.02, 0.01, 0.005, 0.02)


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 3)).double()


def inputs(step: int, learner: int) -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(10 * step + learner), dtype=torch.float64)


def backward(module: nn.Module, step: int, learner: int) -> None:
    module(inputs(step, learner)).square().sum().backward()


def run_of(config: OptimizerConfig) -> RunConfig:
    return RunConfig(local_batch_size=1, optimizer=config, dtype="float64")


def make(config: OptimizerConfig, m: int) -> tuple[ReplicaStack, TorchRows]:
    replicas = [Replica(network(seed), CPU, torch.float64, channels_last=False) for seed in range(m)]
    kind = find_kind(run_of(config), CPU)
    stack = ReplicaStack(replicas, states=states_of(run_of(config), kind))
    optimizer = make_optimizer(config, stack.rows, kind)
    assert isinstance(optimizer, TorchRows)
    return stack, optimizer


def ordinary(config: OptimizerConfig, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The network and the optimizer as a user makes them without hpcsgd, with weight decay for matrices alone."""
    module = network(seed)
    settings = dict(config.init_args)
    matrices = [module[0].weight, module[3].weight]
    others = [p for p in module.parameters() if all(p is not matrix for matrix in matrices)]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    return module, find_object(config.name, "name")(groups, lr=0.1, **settings)


def assert_equal(stack: ReplicaStack, modules: list[nn.Module]) -> None:
    for replica, module in zip(stack.replicas, modules, strict=True):
        for ours, theirs in zip(replica.module.parameters(), module.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("name", "settings", "states"), CASES)
def test_each_row_is_stepped_as_its_module_would_be(
    name: str, settings: dict[str, Any], states: tuple[str, ...]
) -> None:
    """The last learner has no samples at the third step; after the fourth, only learners 2 and 0 go on."""
    config = OptimizerConfig(name=name, init_args=settings)
    stack, optimizer = make(config, 3)
    assert optimizer.states == states == stack.rows.names[1:]
    theirs = [ordinary(config, seed) for seed in range(3)]
    rows = [0, 1, 2]
    for step, rate in enumerate(RATES):
        if step == 4:
            rows = [2, 0]
            stack.keep(rows)
            optimizer.keep(rows)
        count = 2 if step == 2 else len(rows)
        stack.zero_gradients()
        for i, row in enumerate(rows[:count]):
            module, reference = theirs[row]
            backward(stack.replicas[i].module, step, row)
            reference.zero_grad()
            backward(module, step, row)
            for group in reference.param_groups:
                group["lr"] = rate
            reference.step()
        optimizer.step(count, rate)
        assert_equal(stack, [theirs[row][0] for row in rows])
    for name in states:
        for i, row in enumerate(rows):
            for parameter, slot in zip(stack.replicas[i].trainable, stack.rows.slots, strict=True):
                index = [id(p) for p in stack.replicas[i].module.parameters()].index(id(parameter))
                own = theirs[row][1].state[list(theirs[row][0].parameters())[index]].get(name)
                if own is not None:
                    torch.testing.assert_close(slot.view(stack.rows[name][i]), own, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("name", "settings", "states"), CASES)
def test_the_state_goes_through_a_checkpoint(name: str, settings: dict[str, Any], states: tuple[str, ...]) -> None:
    config = OptimizerConfig(name=name, init_args=settings)
    stack, optimizer = make(config, 2)

    def train(stack: ReplicaStack, optimizer: TorchRows, steps: range) -> None:
        for step in steps:
            stack.zero_gradients()
            for j, replica in enumerate(stack.replicas):
                backward(replica.module, step, j)
            optimizer.step(2, RATES[step])

    train(stack, optimizer, range(3))
    again, resumed = make(config, 2)
    again.rows.buffer.copy_(stack.rows.buffer)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each in ((stack, optimizer), (again, resumed)):
        train(*each, range(3, 6))
    assert torch.equal(stack.rows.buffer, again.rows.buffer)


@pytest.mark.parametrize("name", ["torch.optim.AdamW", OWN])
def test_after_a_reset_of_all_states_it_is_a_new_optimizer(name: str) -> None:
    config = OptimizerConfig(name=name)
    stack, optimizer = make(config, 1)
    backward(stack.module, 0, 0)
    optimizer.step(1, 0.1)
    optimizer.reset(optimizer.states)
    assert not stack.rows.buffer[:, stack.parameters.shape[1] :].any()
    again, fresh = make(config, 1)
    again.parameters.copy_(stack.parameters)
    for each, stepping in ((stack, optimizer), (again, fresh)):
        each.gradients.fill_(0.5)
        stepping.step(1, 0.1)
    assert torch.equal(stack.rows.buffer, again.rows.buffer)


def test_one_state_alone_can_be_reset() -> None:
    stack, optimizer = make(OptimizerConfig(name="torch.optim.AdamW"), 1)
    stack.gradients.fill_(0.5)
    optimizer.step(1, 0.1)
    optimizer.reset(["exp_avg"])
    assert not stack.rows["exp_avg"].any() and stack.rows["exp_avg_sq"].any()


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("torch.optim.LBFGS", {}, "computes the loss again by a closure"),
        ("torch.optim.SparseAdam", {}, "is for sparse gradients"),
        ("torch.optim.AdamV", {}, "did you mean Adam"),
        ("torch.nn.Linear", {}, "no class of torch.optim.Optimizer"),
        ("torch.optim.AdamW", {"beta": [0.9, 0.9]}, "beta, which AdamW does not take; did you mean betas"),
        ("torch.optim.AdamW", {"lr": 0.1}, "that of the section learning_rate"),
        ("torch.optim.AdamW", {"betas": [2.0, 0.9]}, "Invalid beta parameter"),
        ("torch.optim.SGD", {"differentiable": True}, "nothing goes backward"),
        ("torch.optim.Adam", {"fused": True, "foreach": True}, "fused"),
    ],
)
def test_what_cannot_step_rows_is_refused_by_name(name: str, settings: dict[str, Any], said: str) -> None:
    config = OptimizerConfig(name=name, init_args=settings)
    with pytest.raises(UsageError, match=said) as caught:
        find_kind(run_of(config), CPU)
    assert "optimizer." in str(caught.value)


def test_one_for_matrices_alone_says_so_where_there_are_others() -> None:
    config = OptimizerConfig(name="torch.optim.Muon")
    assert states_of(run_of(config), find_kind(run_of(config), CPU)) == ("momentum_buffer",)
    with pytest.raises(UsageError, match="optimizer.name Muon .*only supports 2D parameters"):
        make(config, 1)
