"""The order of the samples, for learners of any ranks."""

from __future__ import annotations

import numpy as np
import pytest

from hpcsgd.data.order import Order, shuffled
from hpcsgd.errors import UsageError


@pytest.mark.parametrize("tail", ["drop", "wrap", "keep"])
@pytest.mark.parametrize("own", [1, 2])
def test_learners_share_one_order_however_they_lie(tail: str, own: int) -> None:
    whole = Order(shuffled(3, 50), 50, 12, tail)  # type: ignore[arg-type]
    parts = [whole.__class__(whole.permutation, 50, 3, whole.tail).shared(i, 4, own) for i in range(0, 4, own)]
    assert {part.steps_per_epoch for part in parts} == {whole.steps_per_epoch}
    for step in range(2 * whole.steps_per_epoch):
        found = [samples for part in parts for samples in part.samples(step)]
        assert len(found) == 4
        assert np.concatenate(found).tolist() == whole.samples(step)[0].tolist()
    epoch = [samples.tolist() for samples in parts[0].of_epoch(1)]
    steps = range(whole.steps_per_epoch, 2 * whole.steps_per_epoch)
    assert epoch == [samples.tolist() for step in steps for samples in parts[0].samples(step)]


def test_an_order_is_refused_as_it_is_made() -> None:
    with pytest.raises(UsageError, match="takes 64 samples, but the training split has only 50"):
        Order(shuffled(0, 50), 50, 64, "drop")
