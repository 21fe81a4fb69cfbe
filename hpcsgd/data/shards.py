"""Which samples a learner sees at a step: pure functions of the seed, the epoch and the sizes.

An epoch is one permutation of the training split, the same on every rank. Global batch b is its b-th stretch of
``num_learners * local_batch_size`` samples, and learner j takes slice j of that stretch. So the union of what all
learners see does not depend on how many they are, as long as the global batch is the same.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcsgd.errors import UsageError

Tail = Literal["drop", "wrap", "keep"]

# First words of the seeds, so that no two kinds of draws share a stream. SeedSequence takes missing words as
# zeros: a word in front cannot be confused, one at the end could.
_PERMUTATION_STREAM = 1
_AUGMENTATION_STREAM = 2


def epoch_permutation(seed: int, epoch: int, num_samples: int) -> NDArray[np.int64]:
    """The order of the samples in an epoch, int64 [num_samples]: the same on every rank."""
    generator = np.random.default_rng([_PERMUTATION_STREAM, seed, epoch])
    return generator.permutation(num_samples).astype(np.int64, copy=False)


def epoch_augmentation(
    seed: int, epoch: int, num_samples: int, crop_padding: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """How each sample is augmented in an epoch, whichever rank it falls to.

    Args:
        seed: of the run.
        epoch: epoch.
        num_samples: samples of the split.
        crop_padding: zero pixels around the image.

    Returns:
        Whether to mirror, bool [num_samples], and the crop's row and column in the padded image,
        int64 [num_samples, 2], each from 0 to ``2 * crop_padding``.
    """
    generator = np.random.default_rng([_AUGMENTATION_STREAM, seed, epoch])
    flips = generator.integers(0, 2, num_samples, dtype=np.uint8).astype(np.bool_)
    offsets = generator.integers(0, 2 * crop_padding + 1, (num_samples, 2))
    return flips, offsets


def steps_per_epoch(num_samples: int, global_batch_size: int, tail: Tail) -> int:
    """Optimizer steps of an epoch.

    Raises:
        UsageError: ``tail`` is drop and the split does not fill one global batch.
    """
    if tail != "drop":
        return -(-num_samples // global_batch_size)
    if num_samples < global_batch_size:
        raise UsageError(
            f"one step of all ranks takes {global_batch_size} samples, but the training split has only {num_samples}: "
            f"run fewer ranks, make global_batch_size or local_batch_size smaller (at most {num_samples} samples a "
            "step in all), or set data.tail to wrap or keep"
        )
    return num_samples // global_batch_size


def pass_sizes(num_samples: int, num_learners: int, local_batch_size: int, tail: Tail, parts: int = 1) -> set[int]:
    """How many samples of a learner the passes of an epoch take: full parts of a batch, and what a kept tail leaves.

    Args:
        num_samples, num_learners, local_batch_size, tail: as of :func:`learner_batch`.
        parts: equal parts of a full batch, each a pass of its own (gradient accumulation).
    """
    part, global_batch_size = local_batch_size // parts, num_learners * local_batch_size
    sizes = {part} if tail == "wrap" or num_samples >= global_batch_size else set()
    share, extra = divmod(num_samples % global_batch_size if tail == "keep" else 0, num_learners)
    for count in (share, share + (extra > 0)):
        sizes |= {min(part, count - first) for first in range(0, count, part)}
    return sizes


def learner_batch(
    permutation: NDArray[np.int64],
    step_in_epoch: int,
    learner: int,
    num_learners: int,
    local_batch_size: int,
    tail: Tail,
) -> NDArray[np.int64]:
    """The samples of one learner at one step.

    Args:
        permutation: the epoch's order, [N].
        step_in_epoch: from 0 to ``steps_per_epoch`` - 1.
        learner: from 0 to ``num_learners`` - 1, over all ranks.
        num_learners: learners of all ranks.
        local_batch_size: samples of a full batch of one learner.
        tail: what becomes of the samples that do not fill the last global batch (see ``DataConfig``).

    Returns:
        Sample numbers, int64 [local_batch_size]; fewer, or none, in the last batch of ``keep``, where sizes differ
        by at most 1 and earlier learners have the larger ones.
    """
    num_samples = len(permutation)
    global_batch_size = num_learners * local_batch_size
    assert 0 <= learner < num_learners
    assert 0 <= step_in_epoch < steps_per_epoch(num_samples, global_batch_size, tail)
    first = step_in_epoch * global_batch_size
    count = global_batch_size
    if tail == "keep":
        count = min(count, num_samples - first)
    share, extra = divmod(count, num_learners)
    start = first + learner * share + min(learner, extra)
    stop = start + share + (learner < extra)
    if stop <= num_samples:
        return permutation[start:stop]
    return permutation[np.arange(start, stop) % num_samples]
