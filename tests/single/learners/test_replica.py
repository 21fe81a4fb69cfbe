"""A model in flat buffers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hpcsgd.learners.replica import Replica
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


def test_buffers_of_other_kinds_are_refused() -> None:
    module = nn.Linear(3, 2)
    module.register_buffer("average", torch.zeros(3))
    with pytest.raises(AssertionError, match="average"):
        Replica(module, CPU, torch.float32, channels_last=False)
