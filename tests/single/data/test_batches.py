"""The checksum that tells whether two ranks have the same batch."""

from __future__ import annotations

import numpy as np
import torch

from hpcsgd.data.batches import checksum


def test_a_checksum_is_that_of_the_values_whatever_holds_them() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    tree = {"x": torch.from_numpy(values), "n": torch.tensor(3), "ok": torch.tensor([True])}
    same = {"x": torch.from_numpy(values.T.copy()).t().requires_grad_(), "n": np.array(3), "ok": np.array([True])}
    assert checksum(tree) == checksum(same)
    for key, other in (("x", torch.zeros(2, 3)), ("n", torch.tensor(4)), ("ok", torch.tensor([False]))):
        assert checksum(tree | {key: other}) != checksum(tree), key
