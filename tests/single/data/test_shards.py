"""The shards of an epoch make one permutation, whatever the number of learners."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcsgd.data.shards import Tail, epoch_augmentation, epoch_permutation, learner_batch, pass_sizes, steps_per_epoch
from hpcsgd.errors import UsageError


def all_batches(num_samples: int, num_learners: int, local: int, tail: Tail) -> list[list[np.ndarray]]:
    """Batches of an epoch by step and learner."""
    permutation = epoch_permutation(3, 5, num_samples)
    steps = steps_per_epoch(num_samples, num_learners * local, tail)
    return [
        [learner_batch(permutation, step, learner, num_learners, local, tail) for learner in range(num_learners)]
        for step in range(steps)
    ]


@given(
    st.integers(1, 60),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from(["drop", "wrap", "keep"]),
)
def test_the_sizes_of_passes_are_those_of_the_batches(
    samples: int, learners: int, part: int, parts: int, tail: Tail
) -> None:
    local = part * parts
    if tail == "drop" and samples < learners * local:
        return
    passes = {
        len(batch[first : first + part])
        for step in all_batches(samples, learners, local, tail)
        for batch in step
        for first in range(0, len(batch), part)
    }
    assert pass_sizes(samples, learners, local, tail, parts) == passes


def test_a_permutation_that_depends_on_seed_and_epoch() -> None:
    order = epoch_permutation(1, 2, 100)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(100))
    np.testing.assert_array_equal(order, epoch_permutation(1, 2, 100))
    others = [epoch_permutation(1, 3, 100), epoch_permutation(2, 2, 100), epoch_permutation(2, 1, 100)]
    assert not any(np.array_equal(order, other) for other in others)


def test_the_permutation_never_changes_between_releases() -> None:
    # Golden: a checkpoint resumed by a later release must go on with the same samples.
    assert epoch_permutation(0, 0, 8).tolist() == [5, 0, 1, 4, 2, 6, 3, 7]
    assert epoch_permutation(7, 3, 8).tolist() == [4, 6, 5, 1, 0, 2, 7, 3]


def test_augmentation_is_drawn_by_sample() -> None:
    flips, offsets = epoch_augmentation(1, 2, 4000, 4)
    assert (flips.dtype, offsets.shape) == (np.bool_, (4000, 2))
    assert 0.45 < flips.mean() < 0.55
    for axis in (0, 1):
        counts = np.bincount(offsets[:, axis], minlength=9)
        assert len(counts) == 9
        assert counts.min() > 350
    again = epoch_augmentation(1, 2, 4000, 4)
    np.testing.assert_array_equal(flips, again[0])
    np.testing.assert_array_equal(offsets, again[1])
    assert not np.array_equal(offsets, epoch_augmentation(1, 3, 4000, 4)[1])
    assert not epoch_augmentation(1, 2, 10, 0)[1].any()


sizes = {"num_learners": st.integers(1, 6), "local": st.integers(1, 7)}


@given(extra=st.integers(0, 200), **sizes)
def test_drop_gives_full_disjoint_batches_of_the_permutation(extra: int, num_learners: int, local: int) -> None:
    num_samples = num_learners * local + extra
    batches = all_batches(num_samples, num_learners, local, "drop")
    assert {len(batch) for step in batches for batch in step} == {local}
    seen = np.concatenate([batch for step in batches for batch in step])
    used = num_samples // (num_learners * local) * num_learners * local
    np.testing.assert_array_equal(seen, epoch_permutation(3, 5, num_samples)[:used])


@given(num_samples=st.integers(1, 200), **sizes)
def test_keep_sees_every_sample_once(num_samples: int, num_learners: int, local: int) -> None:
    batches = all_batches(num_samples, num_learners, local, "keep")
    seen = np.concatenate([batch for step in batches for batch in step])
    np.testing.assert_array_equal(seen, epoch_permutation(3, 5, num_samples))
    assert all(len(batch) == local for step in batches[:-1] for batch in step)
    last = [len(batch) for batch in batches[-1]]
    assert last == sorted(last, reverse=True)
    assert last[0] - last[-1] <= 1
    assert sum(last) > 0


@given(num_samples=st.integers(1, 200), **sizes)
def test_wrap_fills_the_last_batch_from_the_start(num_samples: int, num_learners: int, local: int) -> None:
    batches = all_batches(num_samples, num_learners, local, "wrap")
    assert {len(batch) for step in batches for batch in step} == {local}
    seen = np.concatenate([batch for step in batches for batch in step])
    np.testing.assert_array_equal(seen, np.resize(epoch_permutation(3, 5, num_samples), len(seen)))
    assert 0 <= len(seen) - num_samples < num_learners * local


@pytest.mark.parametrize("tail", ["drop", "wrap", "keep"])
def test_a_global_batch_does_not_depend_on_the_number_of_learners(tail: Tail) -> None:
    one, *others = ([np.concatenate(step) for step in all_batches(100, k, 24 // k, tail)] for k in (1, 2, 3, 4))
    for other in others:
        for expected, batch in zip(one, other, strict=True):
            np.testing.assert_array_equal(batch, expected)


def test_steps_of_an_epoch() -> None:
    assert [steps_per_epoch(100, 32, tail) for tail in ("drop", "wrap", "keep")] == [3, 4, 4]
    assert [steps_per_epoch(96, 32, tail) for tail in ("drop", "wrap", "keep")] == [3, 3, 3]
    assert [steps_per_epoch(5, 32, tail) for tail in ("wrap", "keep")] == [1, 1]


def test_more_ranks_than_samples() -> None:
    with pytest.raises(
        UsageError, match=r"takes 128 samples, but the training split has only 100: run fewer ranks.*tail"
    ):
        steps_per_epoch(100, 128, "drop")
