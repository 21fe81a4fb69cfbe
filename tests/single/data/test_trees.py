"""Trees of tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hpcsgd.data.trees import count_samples

BATCH = torch.zeros(3, 2)


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (BATCH, 3),
        (np.zeros((4, 1)), 4),
        ((torch.tensor(1.0), [{"a": BATCH}]), 3),
        ({"text": "words", "x": (BATCH, torch.zeros(5))}, 3),
        ((torch.zeros(0, 2), BATCH), 0),
        ((torch.tensor(1.0), "words", None), None),
    ],
)
def test_a_batch_has_as_many_samples_as_its_first_tensor(tree: Any, expected: int | None) -> None:
    assert count_samples(tree) == expected
