"""Modules with tied and frozen weights and with buffers of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hpcsgd.algorithms.schedule import Action
from hpcsgd.comm.communicator import Communicator
from hpcsgd.run.resume import capture, put_back
from tests.parallel.laws.common import algorithm_named, assert_bits, assert_close, built, make_config, stack, training
from tests.parallel.laws.registry import law

INFINITE = float("-inf")


class Odd(nn.Module):
    """Constants that are not finite, a running mean of what it sees, a counter; a tied and a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 3)
        self.second.weight = self.first.weight
        self.fixed = nn.Linear(16, 16).requires_grad_(False)
        self.register_buffer("constants", torch.tensor([0.1, 0.7, INFINITE]))
        self.register_buffer("mean", torch.zeros(16))
        self.register_buffer("passes", torch.tensor(0))

    def forward(self, images: Tensor) -> Tensor:
        """[n, 1, 4, 4] to [n, 3]."""
        inputs = images.flatten(1)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * inputs.detach().mean(dim=0)
            self.passes += 1
        return self.head(torch.tanh(self.second(self.fixed(torch.tanh(self.first(inputs - self.mean))))))


def odd() -> nn.Module:
    """One of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Odd()


def config_of(comm: Communicator, name: str, **changes: Any) -> Any:
    section = algorithm_named(name, comm.size, **changes)
    return make_config(algorithm=section, data={"synthetic_train_samples": 120}, learners_per_rank=2, engine="loop")


@law(name=["sync_sgd", "local_sgd", "ea_sgd"], policy=["average", "local"])
def buffers_are_averaged_where_they_change(comm: Communicator, name: str, policy: str) -> None:
    with built(config_of(comm, name, buffer_policy=policy), comm, odd) as parts:
        modules: list[Any] = [replica.module for replica in parts.learners.replicas]
        constants = modules[0].constants.clone()
        for _, done in training(parts):
            own = stack(comm, torch.stack([module.mean for module in modules])).flatten(0, 1)
            averaged = done.action is Action.GLOBAL and policy == "average"
            assert ((own - own[0]).abs().max() == 0) == averaged
            counts = [int(module.passes) for module in modules]
            with parts.algorithm.consensus() as consensus:
                united: Any = consensus
                assert_close(united.mean, own.mean(dim=0), what="running mean")
                assert int(united.passes) == comm.broadcast_object(counts[0])
            for row, module in enumerate(modules):
                assert_bits(module.constants, constants)
                assert_bits(module.mean, own[2 * comm.rank + row])
            assert [int(module.passes) for module in modules] == counts
        assert_bits(modules[0].fixed.weight, odd().double().fixed.weight)  # type: ignore[union-attr, arg-type]
        assert modules[0].second.weight is modules[0].first.weight


@law(name=["sync_sgd", "local_sgd", "ea_sgd"])
def a_checkpoint_holds_them(comm: Communicator, name: str) -> None:
    results = []
    with built(config_of(comm, name), comm, odd) as parts:
        for step, _ in training(parts):
            if step == 3:
                saved = capture(parts, step + 1)
        results.append(parts.learners)
        steps = parts.plan.total_steps
    with built(config_of(comm, name), comm, odd) as parts:
        parts.algorithm.start(4)
        parts = put_back(parts, saved)
        for _ in training(parts, 4, steps):
            pass
        results.append(parts.learners)
    assert_bits(results[1].rows.buffer, results[0].rows.buffer)
    for one, other in zip(results[0].replicas, results[1].replicas, strict=True):
        for key, value in one.buffers.state_dict().items():
            assert_bits(value, other.buffers.state_dict()[key], key)
