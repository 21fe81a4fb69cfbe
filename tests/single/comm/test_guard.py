"""What is not finite and what differs, in one process."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hpcsgd.comm import hashing
from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.comm.guard import FiniteGuard, is_sound
from hpcsgd.comm.hashing import check_equal, sum_of_bits
from hpcsgd.errors import DivergedError, ReplicasDifferError


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 500, 999])
def test_one_bad_element_is_caught_wherever_it_is(bad: float, place: int) -> None:
    guard = FiniteGuard(SingleCommunicator())
    part = torch.ones(1000)
    part[place] = bad
    guard.before(part)
    with pytest.raises(DivergedError, match="the gradient is not finite on rank 0"):
        guard.after(part[0], "the gradient is")


def test_what_is_finite_passes_unchanged() -> None:
    guard = FiniteGuard(SingleCommunicator())
    part = torch.linspace(-1e15, 1e15, 1000)
    before = part.clone()
    guard.before(part)
    guard.after(part[0], "the gradient is")
    guard.check("the loss is", True)
    assert torch.equal(part, before)


@pytest.mark.parametrize("value", [0.01, -1.5, 1e-6])
def test_a_flipped_top_bit_of_an_exponent_is_caught(value: float) -> None:
    guard = FiniteGuard(SingleCommunicator())
    part = torch.full((1000,), value)
    part[7:8].view(torch.int32).bitwise_xor_(1 << 30)
    assert not is_sound(part)
    guard.before(part)
    with pytest.raises(DivergedError, match="the parameters are not finite on rank 0"):
        guard.after(part[0], "the parameters are")


def test_what_is_checked_is_named() -> None:
    with pytest.raises(DivergedError, match="before step 8: the loss is not finite on rank 0"):
        FiniteGuard(SingleCommunicator()).check("before step 8: the loss is", False)


def test_a_block_names_nobody_until_all_are_asked() -> None:
    """Rank 0's block averaged with something bad of another rank: rank 0 itself is not to blame."""
    guard = FiniteGuard(OtherRanksBad())
    part = torch.full((10,), math.nan)
    guard.after(part[0], "what was to be averaged is", among_all=False)
    guard.before(part)
    with pytest.raises(DivergedError, match="is not finite on rank 2$"):
        guard.after(part[0], "what was to be averaged is")
    with pytest.raises(DivergedError, match="the loss is not finite on rank 2$"):
        guard.check("the loss is", False)


class Ranks(SingleCommunicator):
    """Rank 0 of three; the others say what they are given, call by call."""

    def __init__(self, *others):  # type: ignore[no-untyped-def]
        super().__init__()
        self.others = list(others)

    def allgather_object(self, value):  # type: ignore[no-untyped-def]
        return [value, *self.others.pop(0)]


def test_the_first_step_with_a_bad_loss_is_named_and_whose_it_was() -> None:
    FiniteGuard(SingleCommunicator()).check_losses(range(4, 6), np.array([1.0, 0.0]))
    bad = np.array([1.0, 2.0, math.nan, math.inf])
    for others, said in (
        (([False, False], [None, None]), "^step 12: the loss is not finite on rank 0$"),
        (([True, False], [(11, "the loss"), None]), "^step 11: the loss is not finite on rank 1$"),
        (([True, True], [(12, "the loss"), (13, "the loss")]), "^step 12: the loss is not finite on ranks 0, 1$"),
    ):
        with pytest.raises(DivergedError, match=said):
            FiniteGuard(Ranks(*others)).check_losses(range(10, 14), bad)
    # Something else of rank 2 was bad, no loss yet.
    with pytest.raises(DivergedError, match="^before step 14: the loss is not finite on rank 2$"):
        FiniteGuard(Ranks([False, True], [None, None])).check_losses(range(10, 14), np.ones(4))


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU."""

    device = torch.device("cuda", 0)  # type: ignore[assignment]


def of_gpu(*values: float) -> torch.Tensor:
    return torch.tensor(values).as_subclass(OnGpu)  # type: ignore[no-untyped-call,no-any-return]


@pytest.mark.parametrize("bad", [math.nan, math.inf, 3e38])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_on_a_gpu_the_last_part_tells_of_all_and_a_note_is_taken(bad: float, place: int) -> None:
    guard = FiniteGuard(SingleCommunicator())
    parts = [of_gpu(1.0, 2.0) for _ in range(3)]
    for step in range(2):
        if step:
            parts[place][1] = bad
        for part in parts:
            guard.before(part, more=part is not parts[-1])
        assert bool(guard.own_bad) == bool(step)
    assert math.isnan(parts[-1][0])


def test_an_own_part_once_bad_stays_noted() -> None:
    guard = FiniteGuard(SingleCommunicator())
    for value in (math.nan, 1.0):
        guard.before(of_gpu(value))
    assert guard.own_bad


def test_by_the_notes_of_a_gpu_the_first_step_and_its_rank_are_named() -> None:
    """By the time that the log is gathered, what was averaged has made all ranks bad."""
    losses, steps = np.ones(6), range(20, 26)
    losses[4:] = math.nan
    notes = np.arange(6) >= 3
    reduced, loss = "what was to be reduced", "the loss"
    for others, said in (
        (([True, True], [(24, reduced), (24, reduced)]), f"^step 23: {reduced} is not finite on rank 0$"),
        (([True, True], [(23, reduced), (22, loss)]), f"^step 22: {loss} is not finite on rank 2$"),
        (([True, False], [(23, reduced), None]), f"^step 23: {reduced} is not finite on ranks 0, 1$"),
    ):
        with pytest.raises(DivergedError, match=said):
            FiniteGuard(Ranks(*others)).check_losses(steps, losses, notes)
    FiniteGuard(Ranks([False, False])).check_losses(steps, np.ones(6), np.zeros(6, bool))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_sum_of_bits_of_a_gpu_tells_each_bit_and_its_place(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "PIECE", 16)
    rows = torch.linspace(-1, 1, 2 * 40).view(2, 40).to(dtype)
    side_by_side = torch.cat([rows, rows], dim=1)[:, :40]
    sound = int(sum_of_bits(rows))
    assert int(sum_of_bits(side_by_side)) == sound
    bits = rows.view(hashing.INTEGERS[rows.element_size()])
    for place in ((0, 0), (0, 15), (0, 16), (1, 39)):
        for bit in range(8 * rows.element_size()):
            flip = torch.tensor(1).bitwise_left_shift(bit).to(bits.dtype)
            bits[place] ^= flip
            assert int(sum_of_bits(rows)) != sound, (place, bit)
            bits[place] ^= flip
    assert sound not in (int(sum_of_bits(rows.flip(0))), int(sum_of_bits(rows.flip(1))), int(sum_of_bits(rows[0])))


def test_where_no_bits_have_a_majority_nobody_is_blamed() -> None:
    with pytest.raises(ReplicasDifferError, match="2 versions on 2 ranks, none on more than half"):
        check_equal(TwoRanks(), torch.arange(100.0), "the parameters")


class OtherRanksBad(SingleCommunicator):
    """Ranks 0 to 3, of which rank 2 says that it is bad."""

    def allgather_object(self, value):  # type: ignore[no-untyped-def]
        return [value, False, True, False]


class TwoRanks(SingleCommunicator):
    """Two ranks with other bits."""

    def allgather_object(self, value):  # type: ignore[no-untyped-def]
        return [value, value + 1]


class OtherRanks(SingleCommunicator):
    """Ranks 1 to 3, of which rank 2 holds other bits."""

    def allgather_object(self, value):  # type: ignore[no-untyped-def]
        return [value, value, value + 1, value]


def test_a_rank_with_other_bits_is_named() -> None:
    flat = torch.arange(100.0)
    check_equal(SingleCommunicator(), flat, "the parameters")
    with pytest.raises(ReplicasDifferError, match="the parameters differ .* rank 2 against"):
        check_equal(OtherRanks(), flat, "the parameters")
