"""What ranks must have alike."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.comm.same import check_programs, check_same
from hpcsgd.errors import UsageError


class Ranks(SingleCommunicator):
    """Rank 0 of several, whose values are those of ``others``."""

    def __init__(self, *others: dict[str, object]) -> None:
        super().__init__()
        self.others = others
        self.num_calls = 0

    def allgather_object(self, value: Any) -> list[Any]:
        self.num_calls += 1
        if isinstance(value, str):
            return [value, *(hashlib.sha256(repr(sorted(o.items())).encode()).hexdigest() for o in self.others)]
        return [value, *self.others]


def test_equal_values_are_compared_by_their_checksums_alone() -> None:
    comm = Ranks({"b": 1, "a": None}, {"a": None, "b": 1})
    check_same(comm, "this", {"a": None, "b": 1})
    assert comm.num_calls == 1


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (({"seed": 0}, {"seed": 1}), "the ranks differ in this: seed is 0 on rank 0, 1 on rank 2: give all"),
        (({},), "seed is 0 on rank 0, not there on rank 1"),
        (({"seed": 0, "more": "x"},), "more is not there on rank 0, 'x' on rank 1"),
        # A number and its text are not the same.
        (({"seed": "0"},), "seed is 0 on rank 0, '0' on rank 1"),
    ],
)
def test_what_differs_is_named_with_both_values(others: tuple[dict[str, object], ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_same(Ranks(*others), "this", {"seed": 0})


def test_one_process_is_the_same_as_itself() -> None:
    check_programs(SingleCommunicator())
