"""Losses and the share of right labels: a sample counts once, however many labels it has."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from hpcsgd.tasks.losses import CrossEntropy, cross_entropy, right, squared_error


def test_images_have_the_cross_entropy_itself() -> None:
    logits, labels = torch.randn(7, 4), torch.randint(0, 4, (7,))
    for smoothing in (0.0, 0.2):
        expected = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
        assert torch.equal(cross_entropy(logits, labels, smoothing), expected)
    assert torch.equal(right(logits, labels), (logits.argmax(1) == labels).float())


def test_a_row_of_labels_counts_as_their_mean() -> None:
    logits, labels = torch.randn(3, 5, 4, dtype=torch.float64), torch.randint(0, 4, (3, 5))
    each = [F.cross_entropy(logits[i], labels[i]).item() for i in range(3)]
    assert cross_entropy(logits, labels).tolist() == pytest.approx(each)
    assert right(logits, labels).tolist() == pytest.approx((logits.argmax(2) == labels).double().mean(dim=1).tolist())


def test_equal_logits_lose_the_logarithm_of_the_classes() -> None:
    losses = cross_entropy(torch.zeros(2, 9, 10), torch.ones(2, 9, dtype=torch.int64))
    assert losses.tolist() == pytest.approx([math.log(10)] * 2)


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 2, 3)])
def test_the_squared_error_is_the_mean_over_the_values_of_a_sample(shape: tuple[int, ...]) -> None:
    outputs, targets = torch.randn(4, *shape[1:], dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    expected = ((outputs - targets) ** 2).reshape(4, -1).mean(1)
    assert squared_error(outputs, targets).tolist() == pytest.approx(expected.tolist())
    # A column of outputs for a row of targets is meant, and is not broadcast.
    if shape == (4,):
        assert torch.equal(squared_error(outputs.unsqueeze(1), targets), squared_error(outputs, targets))


@pytest.mark.parametrize("places", [(), (3,)])
def test_each_learner_can_have_its_own_smoothing(places: tuple[int, ...]) -> None:
    shares = (0.0, 0.1, 0.7)
    logits = torch.randn(6, *places, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(logits[..., 0].numel()).view(6, *places) % 5
    loss = CrossEntropy(torch.tensor(shares, dtype=torch.float64))
    together = loss(logits, labels)
    for learner, share in enumerate(shares):
        own = slice(2 * learner, 2 * learner + 2)
        expected = cross_entropy(logits[own], labels[own], share)
        torch.testing.assert_close(together[own], expected, rtol=1e-14, atol=1e-14)
        torch.testing.assert_close(loss.of_learner(learner)(logits[own], labels[own]), expected, rtol=1e-14, atol=1e-14)
