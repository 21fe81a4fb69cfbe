"""A model in flat buffers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hpcsgd.algorithms.base import borrowed
from hpcsgd.errors import UsageError
from hpcsgd.learners.describe import describe
from hpcsgd.learners.replica import Replica
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.optim.sgd import decayed_parameters

CPU = torch.device("cpu")


def network() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Conv2d(3, 5, 3, padding=1, bias=False),
        nn.BatchNorm2d(5),
        nn.Flatten(),
        nn.Linear(80, 4),
    )


def make(dtype: torch.dtype = torch.float32, channels_last: bool = False) -> Replica:
    return Replica(network(), CPU, dtype, channels_last=channels_last)


def images(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(6, 2, 4, 4, generator=torch.Generator().manual_seed(1), dtype=dtype)


def part(flat: Tensor, tensor: Tensor) -> bool:
    """Whether ``tensor`` lies in ``flat``."""
    start = flat.data_ptr()
    return start <= tensor.data_ptr() < start + flat.numel() * flat.element_size()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_flat_model_is_the_same_function(dtype: torch.dtype, channels_last: bool) -> None:
    plain = network().to(dtype)
    replica = make(dtype, channels_last)
    tolerance = 1e-5 if dtype is torch.float32 else 1e-12
    torch.testing.assert_close(replica.module(images(dtype)), plain(images(dtype)), rtol=0, atol=tolerance)
    expected = plain.state_dict()
    assert list(replica.module.state_dict()) == list(expected)
    for name, value in replica.module.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=tolerance)


@pytest.mark.parametrize("channels_last", [False, True])
def test_everything_lies_in_the_flat_buffers(channels_last: bool) -> None:
    replica = make(channels_last=channels_last)
    for parameter in replica.module.parameters():
        assert part(replica.parameters, parameter)
        assert parameter.grad is not None and part(replica.gradients, parameter.grad)
        assert parameter.grad.stride() == parameter.stride()
    for norm in replica.norms:
        assert norm.running_mean is not None and part(replica.means, norm.running_mean)
        assert norm.running_var is not None and part(replica.variances, norm.running_var)
    assert replica.parameters.numel() == replica.gradients.numel()
    convolution = replica.module[0].weight
    assert convolution.is_contiguous(memory_format=torch.channels_last) == channels_last


def test_parameters_with_weight_decay_are_behind_the_others() -> None:
    replica = make()
    decayed = decayed_parameters(replica.module)
    for parameter, slot in zip(replica.trainable, replica.slots, strict=True):
        assert (slot.start >= replica.decay_from) == (id(parameter) in decayed)
    assert [id(p) in decayed for p in replica.trainable] == [False] * 6 + [True] * 3
    assert replica.slots[6].start == replica.decay_from


@pytest.mark.parametrize(
    ("module", "everything", "nothing"),
    [(nn.Linear(3, 2, bias=False), True, False), (nn.BatchNorm1d(3), False, True), (nn.Linear(3, 2), False, False)],
)
def test_weight_decay_may_be_for_all_or_none(module: nn.Module, everything: bool, nothing: bool) -> None:
    replica = Replica(module, CPU, torch.float32, channels_last=False)
    assert (replica.decay_from == 0) == everything
    assert (replica.decay_from == replica.parameters.numel()) == nothing


def test_backward_adds_to_the_flat_gradient() -> None:
    replica = make(torch.float64)
    plain = network().double()
    for _ in range(2):
        replica.module(images(torch.float64)).square().sum().backward()
        plain(images(torch.float64)).square().sum().backward()
    for ours, theirs in zip(replica.module.parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-10)
        assert part(replica.gradients, ours.grad)
    in_parameters = sum(p.grad.square().sum().item() for p in replica.trainable if p.grad is not None)
    assert replica.gradients.square().sum().item() == pytest.approx(in_parameters)
    replica.zero_gradients()
    assert not any(p.grad.any() for p in replica.trainable if p.grad is not None)


def test_forward_passes_update_the_flat_statistics() -> None:
    replica = make()
    assert not replica.means.any()
    replica.module(images())
    assert replica.means.any()
    assert replica.counts == [1, 1]
    replica.module.eval()
    before = replica.statistics.clone()
    replica.module(images())
    assert torch.equal(replica.statistics, before)


def test_counts_can_be_set() -> None:
    replica = make()
    replica.counts = [5, 8]
    assert [int(norm.num_batches_tracked) for norm in replica.norms] == [5, 8]
    assert replica.counts == [5, 8]


def test_a_snapshot_is_a_copy_that_comes_back_to_the_bit() -> None:
    replica = make()
    replica.module(images())
    saved = replica.snapshot()
    before = {name: value.clone() for name, value in replica.module.state_dict().items()}
    addresses = [p.data_ptr() for p in replica.module.parameters()]
    replica.parameters.mul_(2.0)
    replica.module(images())
    replica.restore(saved)
    for name, value in replica.module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert [p.data_ptr() for p in replica.module.parameters()] == addresses


def test_frozen_parameters_are_left_alone() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    module[0].requires_grad_(False)
    replica = Replica(module, CPU, torch.float32, channels_last=False)
    assert len(replica.trainable) == 2
    module(torch.ones(1, 3)).sum().backward()
    assert module[0].weight.grad is None
    assert not part(replica.parameters, module[0].weight)


def test_shared_parameters_are_held_once() -> None:
    first = nn.Linear(3, 3)
    second = nn.Linear(3, 3)
    second.weight = first.weight
    replica = Replica(nn.Sequential(first, second), CPU, torch.float32, channels_last=False)
    assert len(replica.trainable) == 3
    assert second.weight.data_ptr() == first.weight.data_ptr()


def test_norms_without_running_statistics_are_left_out() -> None:
    module = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False), nn.BatchNorm1d(4))
    replica = Replica(module, CPU, torch.float32, channels_last=False)
    assert len(replica.norms) == 1
    assert replica.means.numel() == replica.variances.numel() == 16


class Odd(nn.Module):
    """Tied and frozen weights, and buffers of its own: constants, a running mean made anew, and a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.outer = nn.Linear(3, 3)
        self.outer.weight = self.inner.weight
        self.fixed = nn.Linear(3, 3).requires_grad_(False)
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("passes", torch.tensor(0))

    def forward(self, inputs: Tensor) -> Tensor:
        """Any output."""
        self.mean = 0.9 * self.mean + 0.1 * inputs.detach().mean(dim=0)
        self.passes += 1
        return self.norm(self.outer(self.fixed(self.inner(inputs))))


def test_other_buffers_come_back_from_a_snapshot() -> None:
    replica = Replica(Odd(), CPU, torch.float64, channels_last=False)
    assert replica.buffers.names == ["mask", "mean", "passes"]
    assert replica.buffers.changed() == [False, False]
    replica.module(torch.ones(4, 3, dtype=torch.float64))
    assert replica.buffers.changed() == [False, True]
    saved, before = replica.snapshot(), replica.buffers.state_dict()
    replica.module(torch.ones(4, 3, dtype=torch.float64))
    assert not torch.equal(replica.module.mean, before["mean"])
    replica.restore(saved)
    for name, value in replica.buffers.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_replica_is_told_in_one_line() -> None:
    replica = Replica(Odd(), CPU, torch.float64, channels_last=False)
    assert describe(replica, "local", "average") == (
        "21 parameters; 12 of them without weight decay; 1 tensor tied to others; 12 frozen; "
        "BatchNorm statistics: local (norm); float buffers: average (mask, mean); "
        "other buffers, of each learner (passes)"
    )


@pytest.mark.parametrize(("name", "change"), [("fixed.bias", True), ("inner.weight", False)])
def test_what_is_trained_is_settled_at_the_start(name: str, change: bool) -> None:
    replica = Replica(Odd(), CPU, torch.float64, channels_last=False)
    replica.check_trainable()
    dict(replica.module.named_parameters())[name].requires_grad_(change)
    with pytest.raises(UsageError, match=f"parameter {name} was {'thawed' if change else 'frozen'} after the start"):
        replica.check_trainable()


def test_weight_decay_can_be_for_other_parameters() -> None:
    module = network()
    replica = Replica(
        module, CPU, torch.float32, channels_last=False, decays=lambda name, parameter: name.endswith("bias")
    )
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for parameter, slot in zip(replica.trainable, replica.slots, strict=True):
        assert (slot.start >= replica.decay_from) == names[id(parameter)].endswith("bias")


def test_a_parameter_made_after_the_start_is_told_of_by_name() -> None:
    stack = ReplicaStack([Replica(Odd(), CPU, torch.float64, channels_last=False) for _ in range(2)])
    stack.check_parameters()
    later: Any = stack.replicas[1].module
    later.inner.register_parameter("scale", nn.Parameter(torch.ones(1)))
    with pytest.raises(UsageError, match="parameter inner.scale was made after the start"):
        stack.check_parameters()
    del later.inner.scale
    later.fixed.bias = nn.Parameter(torch.ones(3))
    with pytest.raises(UsageError, match="parameter fixed.bias was made after the start"), borrowed(stack, stack.train):
        pass


def test_who_holds_a_parameter_sees_the_trained_values_and_who_holds_its_old_memory_does_not() -> None:
    module = nn.Linear(3, 2)
    held, memory = list(module.parameters()), module.weight.data
    replica = Replica(module, CPU, torch.float32, channels_last=False)
    replica.parameters.fill_(7.0)
    assert all(one is other for one, other in zip(module.parameters(), held, strict=True))
    assert all(bool((parameter == 7).all()) for parameter in held)
    assert not (memory == 7).any()


def with_buffer(module: nn.Linear) -> nn.Linear:
    """With a view of its weights as a buffer."""
    module.register_buffer("first", module.weight.data[0])
    return module


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.Sequential(nn.LazyLinear(3)), "parameter 0.weight has no shape before its first pass"),
        (nn.Linear(3, 2, dtype=torch.complex64), "parameter weight is complex"),
        (nn.Sequential(nn.Embedding(4, 2, sparse=True)), "parameter 0.weight has sparse gradients"),
        (nn.Linear(3, 2).requires_grad_(False), "no parameter that is trained"),
        (nn.Flatten(), "no parameter that is trained"),
        (with_buffer(nn.Linear(3, 2)), "buffer first lies in the memory of its parameter weight"),
    ],
)
def test_modules_that_cannot_be_replicas_are_refused_by_name(module: nn.Module, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Replica(module, CPU, torch.float32, channels_last=False)


class Uneven(nn.Module):
    """Takes one layer twice and one not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm1d(3) for _ in range(3))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.norms[1](self.norms[0](self.norms[0](rows)))
        return result


def test_layers_count_as_without_a_tally_whatever_passes_they_take() -> None:
    replica = Replica(Uneven(), CPU, torch.float32, channels_last=False)
    rows = torch.randn(4, 3)
    replica.module(rows)
    for _ in range(2):
        with replica.counting():
            replica.module(rows)
    replica.module.eval()
    with replica.counting():
        replica.module(rows)
    assert replica.counts == [6, 3, 0]
    assert [int(norm.num_batches_tracked) for norm in replica.norms if norm.num_batches_tracked is not None] == [
        6,
        3,
        0,
    ]
    assert [name for name in replica.module.state_dict() if name.endswith("tracked")] != []
    with pytest.raises(RuntimeError), replica.counting():
        replica.module(torch.randn(4, 5))
    assert replica.counts == [6, 3, 0]
