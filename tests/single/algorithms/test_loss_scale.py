"""The scale of float16's losses moves as torch's own does, and gives up where no scale helps."""

from __future__ import annotations

import math
from unittest import mock

import pytest
import torch

from hpcsgd.algorithms import loss_scale
from hpcsgd.algorithms.loss_scale import LossScale
from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.errors import DivergedError


def test_the_scale_is_that_of_torchs_scaler() -> None:
    """The same overflows, the same steps and scales."""
    scale = LossScale(SingleCommunicator())
    torchs = torch.amp.GradScaler("cpu", growth_interval=3)
    parameter = torch.nn.Parameter(torch.zeros(4))
    sgd = torch.optim.SGD([parameter], lr=1.0)
    assert loss_scale.GROWTH_STEPS == torch.amp.GradScaler("cpu").get_growth_interval()
    with mock.patch.object(loss_scale, "GROWTH_STEPS", 3):
        for bad in (0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0):
            assert scale.value == torchs.scale(torch.ones(())).item()
            gradient = torch.full((4,), 0.5)
            rows = gradient.repeat(2, 1) * scale.value
            rows[1, 2] = (math.inf, math.nan)[bad - 1] if bad else rows[1, 2]
            parameter.grad = rows[1].clone()
            before = parameter.detach().clone()
            torchs.step(sgd)
            torchs.update()
            stepped = not torch.equal(parameter.detach(), before)
            used = scale.value
            assert scale.unscale_(rows, alike=False) is stepped is not bool(bad)
            assert scale.taken == (used if stepped else 0.0)
            assert torch.equal(rows[0], gradient)


def test_a_scale_goes_on_from_its_state() -> None:
    first, second = (LossScale(SingleCommunicator()) for _ in range(2))
    with mock.patch.object(loss_scale, "GROWTH_STEPS", 3):
        for rows in (torch.full((1, 2), math.inf), torch.ones(1, 2), torch.ones(1, 2)):
            first.unscale_(rows, alike=True)
        second.load_state_dict(first.state_dict())
        for scale in (first, second):
            scale.unscale_(torch.ones(1, 2), alike=True)
    assert first.value == second.value == loss_scale.FIRST


def test_overflow_at_every_scale_is_the_end() -> None:
    scale = LossScale(SingleCommunicator())
    with pytest.raises(DivergedError, match="not finite in precision float16"):
        for _ in range(100):
            scale.unscale_(torch.full((1, 2), math.nan), alike=True)
    assert scale.value == loss_scale.LEAST / 2
