"""Many tensors in one flat buffer."""

from __future__ import annotations

import math
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcsgd.comm.flat import ALIGNMENT_BYTES, layout, move_into

shapes = st.lists(st.lists(st.integers(1, 5), max_size=4).map(tuple), max_size=6)
dtypes = st.sampled_from([torch.float32, torch.float64])


def places(tensors: list[torch.Tensor]) -> list[int]:
    return [slot.start for slot in layout(tensors)[0]]


def test_starts_are_aligned_and_gaps_are_small() -> None:
    tensors = [torch.zeros(n) for n in (1, 16, 17, 0, 3)]
    slots, total = layout(tensors)
    assert [slot.start for slot in slots] == [0, 16, 32, 64, 64]
    assert [slot.numel for slot in slots] == [1, 16, 17, 0, 3]
    assert total == 80
    assert places([t.double() for t in tensors]) == [0, 8, 24, 48, 48]


def test_nothing_takes_no_place() -> None:
    assert layout([]) == ([], 0)


@given(shapes, dtypes, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_values_and_memory_order_survive(shapes: list[tuple[int, ...]], dtype: torch.dtype, random: Random) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = []
    for shape in shapes:
        axes = list(range(len(shape)))
        random.shuffle(axes)
        tensors.append(torch.randn(shape, generator=generator, dtype=dtype).permute(axes))
    before = [(tensor.clone(), tensor.stride(), tensor.shape) for tensor in tensors]
    slots, total = layout(tensors)
    # A part of a larger buffer, as momentum is.
    flat = torch.full((total + 16,), math.nan, dtype=dtype)[16:].fill_(7.0)
    move_into(flat, tensors, slots)
    for tensor, (values, stride, shape) in zip(tensors, before, strict=True):
        assert torch.equal(tensor, values)
        assert (tensor.stride(), tensor.shape) == (stride, shape)
        assert (tensor.data_ptr() - flat.data_ptr()) % ALIGNMENT_BYTES == 0
        assert tensor.untyped_storage().data_ptr() == flat.untyped_storage().data_ptr()
    # No two overlap, and the gaps were not touched: each element is in one tensor, or still 7.
    for number, tensor in enumerate(tensors):
        tensor.fill_(100.0 + number)
    for number, tensor in enumerate(tensors):
        assert (flat == 100.0 + number).sum() == tensor.numel()
    assert (flat == 7.0).sum() == total - sum(tensor.numel() for tensor in tensors)


def test_channels_last_is_kept() -> None:
    weight = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)
    values = weight.clone()
    slots, total = layout([weight])
    move_into(torch.zeros(total), [weight], slots)
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(weight, values)


def test_parameters_stay_parameters() -> None:
    linear = torch.nn.Linear(3, 2)
    parameters = list(linear.parameters())
    slots, total = layout(parameters)
    flat = torch.zeros(total)
    move_into(flat, parameters, slots)
    assert list(linear.parameters())[0] is parameters[0]
    assert parameters[0].requires_grad and parameters[0].is_leaf
    flat.zero_()
    assert not linear(torch.ones(1, 3)).any()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(4, 6)[:, ::2],
        torch.zeros(4, 6)[:, :3],
        torch.zeros(3).expand(2, 3),
        torch.zeros(6).as_strided((3,), (2,)),
    ],
    ids=["every other", "part of a row", "expanded", "strided"],
)
def test_tensors_with_holes_are_refused(tensor: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="is not dense"):
        layout([torch.zeros(2), tensor])


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), (1, 1), (), (5, 1, 3)])
def test_empty_and_thin_tensors_are_dense(shape: tuple[int, ...]) -> None:
    slots, total = layout([torch.zeros(shape)])
    assert slots[0].shape == shape
    assert slots[0].view(torch.zeros(max(total, 1))).shape == shape
