"""Gradients of bounded norm, against torch."""

from __future__ import annotations

import pytest
import torch

from hpcsgd.optim.clip import clip_


@pytest.mark.parametrize("max_norm", [0.1, 3.0, 100.0])
def test_each_row_is_clipped_as_torch_clips_a_module(max_norm: float) -> None:
    gradients = torch.randn(3, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gradients[2] *= 5
    expected, norms = gradients.clone(), []
    for row in expected:
        parameter = torch.nn.Parameter(torch.zeros(20, dtype=torch.float64))
        parameter.grad = row
        norms.append(torch.nn.utils.clip_grad_norm_([parameter], max_norm))
    assert torch.equal(clip_(gradients, max_norm), torch.stack(norms).max())
    torch.testing.assert_close(gradients, expected, rtol=1e-14, atol=0)


def test_rows_that_are_alike_are_scaled_alike() -> None:
    gradients = torch.randn(20, generator=torch.Generator().manual_seed(0)).expand(3, -1).clone()
    alone = gradients[:1].clone()
    assert torch.equal(clip_(gradients, 0.5, alike=True), clip_(alone, 0.5))
    assert torch.equal(gradients, alone.expand(3, -1))
