"""What is not finite and what differs, in one process."""

from __future__ import annotations

import math

import pytest
import torch

from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.comm.guard import FiniteGuard
from hpcsgd.comm.hashing import check_equal
from hpcsgd.errors import DivergedError, ReplicasDifferError


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 500, 999])
def test_one_bad_element_is_caught_wherever_it_is(bad: float, place: int) -> None:
    guard = FiniteGuard(SingleCommunicator())
    part = torch.ones(1000)
    part[place] = bad
    guard.before(part)
    with pytest.raises(DivergedError, match="the gradient is not finite on rank 0"):
        guard.after(part, "the gradient is")


def test_what_is_finite_passes_unchanged() -> None:
    guard = FiniteGuard(SingleCommunicator())
    part = torch.linspace(-1e30, 1e30, 1000)
    before = part.clone()
    guard.before(part)
    guard.after(part, "the gradient is")
    guard.check_losses(True, 7)
    assert torch.equal(part, before)


def test_losses_name_the_step() -> None:
    with pytest.raises(DivergedError, match="before step 8: the loss is not finite on rank 0"):
        FiniteGuard(SingleCommunicator()).check_losses(False, 7)


class OtherRanks(SingleCommunicator):
    """Ranks 1 to 3, of which rank 2 holds other bits."""

    def allgather_object(self, value):  # type: ignore[no-untyped-def]
        return [value, value, value + 1, value]


def test_a_rank_with_other_bits_is_named() -> None:
    flat = torch.arange(100.0)
    check_equal(SingleCommunicator(), flat, "the parameters")
    with pytest.raises(ReplicasDifferError, match="the parameters differ .* rank 2 against"):
        check_equal(OtherRanks(), flat, "the parameters")
