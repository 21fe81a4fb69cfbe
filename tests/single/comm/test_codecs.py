"""What a message says of a flat tensor."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcsgd.comm.codecs import (
    PIECE,
    SPARSE_STRETCH,
    Cast,
    Elementwise,
    Scaled,
    Signs,
    TopK,
    Whole,
    pack_bits,
    pack_bits_by_torch,
    unpack_bits,
    unpack_bits_by_torch,
)
from hpcsgd.comm.flat import layout

SHAPES = [(5,), (3, 7), (0,), (PIECE + 9,)]
CPU = torch.device("cpu")
SLOTS, NUMEL = layout([torch.empty(shape) for shape in SHAPES])


def values() -> torch.Tensor:
    """A flat buffer with gaps of zeros."""
    flat = torch.zeros(NUMEL)
    for slot in SLOTS:
        slot.view(flat).copy_(torch.randn(slot.shape, generator=torch.Generator().manual_seed(slot.numel)))
    return flat


def read(codec: Whole, flat: torch.Tensor) -> torch.Tensor:
    """What the message of ``flat`` says."""
    out = torch.zeros_like(flat)
    codec.add_(out, codec.encode(flat)[None], 1.0)
    return out


@settings(max_examples=50, deadline=None, derandomize=True)
@given(flags=st.lists(st.booleans(), max_size=40))
def test_bits_are_packed_to_the_same_on_every_device(flags: list[bool]) -> None:
    tensor = torch.tensor(flags, dtype=torch.bool)
    packed = pack_bits(tensor)
    assert len(packed) == math.ceil(len(flags) / 8)
    assert packed.tolist() == pack_bits_by_torch(tensor).tolist()
    for unpack in (unpack_bits, unpack_bits_by_torch):
        assert unpack(packed, len(flags)).tolist() == [int(flag) for flag in flags]


def test_signs_are_one_bit_an_element_and_a_scale_a_tensor() -> None:
    flat, codec = values(), Signs(SLOTS, CPU)
    assert len(codec.encode(flat)) == math.ceil(NUMEL / 8) + 4 * 3
    told, gaps = read(codec, flat), torch.ones(NUMEL, dtype=torch.bool)
    for slot in SLOTS[:2] + SLOTS[3:]:
        own = slot.view(flat)
        torch.testing.assert_close(slot.view(told), own.double().abs().mean().float() * own.sign())
        slot.view(gaps).fill_(False)
    assert not told[gaps].any()


def test_the_sign_of_zero_is_positive() -> None:
    slots, numel = layout([torch.empty(8)])
    flat = torch.zeros(numel)
    flat[:4] = torch.tensor([0.0, -0.0, 4.0, -4.0])
    assert read(Signs(slots, CPU), flat)[:8].tolist() == [1, 1, 1, -1, 1, 1, 1, 1]


@pytest.mark.parametrize("numel", [7, SPARSE_STRETCH, 3 * SPARSE_STRETCH + 5])
def test_the_largest_of_each_stretch_are_sent(numel: int) -> None:
    flat, codec = torch.randn(numel, generator=torch.Generator().manual_seed(1)), TopK(numel, 0.01)
    told, count = read(codec, flat), 0
    for own, got in zip(flat.split(SPARSE_STRETCH), told.split(SPARSE_STRETCH), strict=True):
        kept = math.ceil(0.01 * len(own))
        chosen = own.abs() >= own.abs().sort().values[-kept]
        assert torch.equal(got, own * chosen)
        count += kept
    assert len(codec.encode(flat)) == 6 * count


@pytest.mark.parametrize(
    ("codec", "num_bytes", "error"),
    [
        (Cast(torch.bfloat16), 1024, 2**-8),
        (Cast(torch.float32), 2048, 0.0),
        (Scaled(torch.float16), 1024 + 8, 2**-11),
        (Scaled(torch.int8), 512 + 8, 0.51 / 127),
    ],
)
def test_elements_are_rounded(codec: Elementwise, num_bytes: int, error: float) -> None:
    # Also where they would be too large or too small for the type of the wire.
    rows = torch.randn(3, 512, generator=torch.Generator().manual_seed(2)) * torch.tensor([[1.0], [1e-9], [1e7]])
    rows[0, 256:] = 0
    messages = codec.encode(rows)
    assert messages.shape == (3, num_bytes)
    told = codec.decode(messages, rows)
    largest = rows.view(3, 2, 256).abs().amax(dim=2, keepdim=True).expand(3, 2, 256).reshape(3, 512)
    assert ((told - rows).abs() <= error * largest).all()
    assert not told[0, 256:].any()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_told(bad: float) -> None:
    flat = values()
    flat[0] = bad
    for codec in (Signs(SLOTS, CPU), TopK(NUMEL, 0.01)):
        assert not math.isfinite(read(codec, flat)[0])
    rows = flat[: 256 * 4].view(2, -1)
    for each in (Cast(torch.bfloat16), Scaled(torch.float16), Scaled(torch.int8)):
        assert not math.isfinite(each.decode(each.encode(rows), rows)[0, 0])
