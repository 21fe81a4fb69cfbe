"""Buckets of the gradient: where they are cut, and when they are launched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hpcsgd.comm.flat import layout, move_into
from hpcsgd.comm.gradients import Buckets, GradientAllreduce, NoAllreduce, cut_buckets
from hpcsgd.comm.mpi_gradients import MpiGradients
from hpcsgd.comm.reduce import FlatReducer
from tests.single.comm.counting import Call, CountingCommunicator


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.integers(1, 120))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_buckets_cover_the_buffer_and_are_large_enough(lengths: list[int], bucket_numel: int) -> None:
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    total = sum(lengths)
    cuts = cut_buckets(starts, total, bucket_numel)
    assert cuts[-1] == 0
    assert set(cuts[:-1]) <= set(starts) - {0}
    assert cuts == sorted(set(cuts), reverse=True)
    ends = [total, *cuts[:-1]]
    sizes = [end - start for start, end in zip(cuts, ends, strict=True)]
    assert sum(sizes) == total
    assert all(size >= bucket_numel for size in sizes[:-1])
    # No bucket could have been cut earlier.
    for start, end in zip(cuts[:-1], ends, strict=False):
        assert not [s for s in starts if start < s and end - s >= bucket_numel]


@pytest.mark.parametrize(
    ("bucket_numel", "expected"),
    [(1, [60, 30, 10, 0]), (10, [60, 30, 10, 0]), (20, [60, 30, 10, 0]), (35, [60, 10, 0]), (41, [30, 0]), (1000, [0])],
)
def test_cuts(bucket_numel: int, expected: list[int]) -> None:
    assert cut_buckets([0, 10, 30, 60], 100, bucket_numel) == expected


class Recorder(GradientAllreduce):
    """Notes what is launched, and with what values."""

    name = "recorder"

    def __init__(self, buckets: Buckets, *, overlap: bool = True) -> None:
        super().__init__(buckets, overlap=overlap)
        self.launched: list[int] = []
        self.values: list[Tensor] = []
        self.waits = 0
        self.shut_downs = 0

    def launch(self, index: int, bucket: Tensor) -> None:
        assert bucket.data_ptr() == self.buckets.parts[index].data_ptr()
        self.launched.append(index)
        self.values.append(bucket.clone())

    def wait(self) -> None:
        self.waits += 1

    def shut_down(self) -> None:
        self.shut_downs += 1


class Net(nn.Module):
    """Four vectors, any of which can be left out or used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = nn.ParameterList([torch.ones(n) for n in (5, 20, 16, 7)])

    def backward(self, *numbers: int) -> None:
        """Gradients of ones for the vectors named, in this order from last to first."""
        loss = torch.zeros(())
        for number in numbers:
            loss = loss + self.vectors[number].sum()
        loss.backward()


def make_buckets(bucket_bytes: int = 64) -> tuple[Net, Buckets]:
    net = Net()
    parameters = list(net.parameters())
    slots, total = layout(parameters)
    flat = torch.zeros(total)
    for parameter, slot in zip(parameters, slots, strict=True):
        parameter.grad = slot.view(flat)
    return net, Buckets(flat, parameters, slots, bucket_bytes)


def test_every_parameter_is_in_the_bucket_that_holds_its_gradient() -> None:
    for bucket_bytes in (1, 64, 100, 200, 10**6):
        net, buckets = make_buckets(bucket_bytes)
        for parameter, bucket in zip(buckets.parameters, buckets.bucket_of, strict=True):
            buckets.flat.zero_()
            assert parameter.grad is not None
            parameter.grad.fill_(1.0)
            assert buckets.parts[bucket].sum() == parameter.numel() == buckets.flat.sum()
        assert sum(part.numel() for part in buckets.parts) == buckets.flat.numel()


def test_a_bucket_is_launched_when_its_gradients_are_there() -> None:
    net, buckets = make_buckets()
    assert buckets.bucket_of == [3, 2, 1, 0]
    recorder = Recorder(buckets)
    recorder.arm(1)
    net.backward(3)
    assert recorder.launched == [0]
    net.backward(1)
    assert recorder.launched == [0], "bucket 2 is full, but 1 comes first"
    net.backward(2)
    assert recorder.launched == [0, 1, 2]
    assert recorder.waits == 0
    assert recorder.finish() == buckets.flat.numel() * 4
    assert recorder.launched == [0, 1, 2, 3]
    assert recorder.waits == 1
    assert torch.equal(recorder.values[2], torch.cat((torch.ones(20), torch.zeros(12))))


@pytest.mark.parametrize("passes", [1, 2, 3])
def test_only_the_last_of_several_passes_launches(passes: int) -> None:
    net, buckets = make_buckets()
    recorder = Recorder(buckets)
    for _ in range(2):
        recorder.arm(passes)
        for number in range(passes):
            assert recorder.launched == []
            net.backward(0, 1, 2, 3)
            assert recorder.launched == ([0, 1, 2, 3] if number == passes - 1 else [])
        assert (recorder.values[-1][:5] == passes).all()
        recorder.finish()
        assert recorder.launched == [0, 1, 2, 3]
        recorder.launched.clear()
        buckets.flat.zero_()


def test_unarmed_passes_launch_nothing() -> None:
    net, buckets = make_buckets()
    recorder = Recorder(buckets)
    net.backward(0, 1, 2, 3)
    recorder.arm(1)
    recorder.finish()
    recorder.launched.clear()
    net.backward(0, 1, 2, 3)
    assert recorder.launched == []


def test_without_overlap_all_is_launched_at_the_end() -> None:
    net, buckets = make_buckets()
    recorder = Recorder(buckets, overlap=False)
    recorder.arm(1)
    net.backward(0, 1, 2, 3)
    assert recorder.launched == []
    recorder.finish()
    assert recorder.launched == [3, 2, 1, 0]


def test_closing_removes_the_hooks() -> None:
    net, buckets = make_buckets()
    recorder = Recorder(buckets)
    recorder.close()
    recorder.arm(1)
    net.backward(0, 1, 2, 3)
    assert recorder.launched == []


def test_one_rank_moves_nothing() -> None:
    net, buckets = make_buckets()
    alone = NoAllreduce(buckets)
    alone.arm(1)
    net.backward(0, 1, 2, 3)
    before = buckets.flat.clone()
    assert alone.finish() == 0
    assert torch.equal(buckets.flat, before)


@pytest.mark.parametrize("overlap", [False, True])
def test_mpi_sums_each_element_once_in_chunks(overlap: bool) -> None:
    net, buckets = make_buckets()
    comm = CountingCommunicator(size=3)
    gradients = MpiGradients(buckets, FlatReducer(comm, 80, staged=False), overlap=overlap)
    for _ in range(2):
        buckets.flat.zero_()
        gradients.arm(1)
        net.backward(0, 1, 2, 3)
        assert gradients.finish() == 4 * buckets.flat.numel()
        # Buckets of 16, 16, 32 and 16 floats, in chunks of 20.
        numels = (16, 16, 20, 12, 16) if overlap else (16, 20, 12, 16, 16)
        assert comm.take() == [Call("sum", 4 * n) for n in numels]
        for vector in net.vectors:
            assert vector.grad is not None
            assert torch.equal(vector.grad, torch.full_like(vector, 3.0))
    gradients.close()


def test_a_failure_in_the_thread_is_raised_by_finish() -> None:
    class Broken(CountingCommunicator):
        def sum_(self, array: np.ndarray) -> None:
            raise OSError("the network is gone")

    net, buckets = make_buckets()
    gradients = MpiGradients(buckets, FlatReducer(Broken(), 80, staged=False), overlap=True)
    gradients.arm(1)
    net.backward(0, 1, 2, 3)
    with pytest.raises(OSError, match="the network is gone"):
        gradients.finish()
    gradients.close()


def test_flat_gradients_of_a_net_with_odd_sizes_are_summed_where_they_are() -> None:
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1))
    parameters = list(net.parameters())
    slots, total = layout(parameters)
    move_into(torch.zeros(total), parameters, slots)
    flat = torch.zeros(total)
    for parameter, slot in zip(parameters, slots, strict=True):
        parameter.grad = slot.view(flat)
    net(torch.ones(2, 3)).sum().backward()
    expected = [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]
    gradients = MpiGradients(
        Buckets(flat, parameters, slots, 1), FlatReducer(CountingCommunicator(5), 4, staged=False), overlap=False
    )
    gradients.arm(1)
    gradients.finish()
    for parameter, gradient in zip(parameters, expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, 5 * gradient)


def test_held_passes_launch_nothing_before_the_end() -> None:
    net, buckets = make_buckets()
    recorder = Recorder(buckets)
    recorder.arm(1)
    recorder.hold()
    net.backward(0, 1, 2, 3)
    assert recorder.launched == []
    recorder.finish()
    assert recorder.launched == [0, 1, 2, 3]


def test_the_last_bucket_is_said_to_be_the_last() -> None:
    _, buckets = make_buckets()
    looks: list[bool] = []
    recorder = Recorder(buckets)
    recorder.look = lambda part, *, more: looks.append(more)  # type: ignore[method-assign]
    for _ in range(2):
        recorder.arm(1)
        recorder.finish()
    assert looks == [True, True, True, False] * 2


def test_closing_twice_ends_it_once() -> None:
    net, buckets = make_buckets()
    recorder = Recorder(buckets)
    recorder.arm(1)
    recorder.close()
    recorder.close()
    net.backward(3, 2, 1, 0)
    assert (recorder.shut_downs, recorder.launched) == (1, [])
