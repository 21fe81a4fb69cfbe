"""Loss and share of right labels: a sample counts once, however many labels it has."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from hpcsgd.loss import num_right, summed_loss


def test_images_have_the_cross_entropy_itself() -> None:
    logits, labels = torch.randn(7, 4), torch.randint(0, 4, (7,))
    for smoothing in (0.0, 0.2):
        expected = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
        assert torch.equal(summed_loss(logits, labels, smoothing), expected)
    assert num_right(logits, labels) == (logits.argmax(1) == labels).sum()


def test_a_row_of_labels_counts_as_their_mean() -> None:
    logits, labels = torch.randn(3, 5, 4, dtype=torch.float64), torch.randint(0, 4, (3, 5))
    each = [F.cross_entropy(logits[i], labels[i]) for i in range(3)]
    assert summed_loss(logits, labels).item() == pytest.approx(sum(each).item())
    right = (logits.argmax(2) == labels).double().mean(dim=1).sum()
    assert num_right(logits, labels).item() == pytest.approx(right.item())


def test_equal_logits_lose_the_logarithm_of_the_classes() -> None:
    assert summed_loss(torch.zeros(2, 9, 10), torch.ones(2, 9, dtype=torch.int64)).item() == pytest.approx(
        2 * math.log(10)
    )
