"""Which networks get channels-last memory order unasked."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from hpcsgd.config import ModelConfig, RunConfig
from hpcsgd.tasks.losses import CrossEntropy
from hpcsgd.tasks.memory_order import is_channels_last
from hpcsgd.tasks.task import Task

IMAGE, GPU = torch.zeros(1, 3, 6, 6), torch.device("cuda")


class Flattens(nn.Module):
    """A convolution and a linear layer."""

    def __init__(self, by_view: bool) -> None:
        super().__init__()
        self.convolution, self.linear, self.by_view = nn.Conv2d(3, 4, 3), nn.Linear(64, 2), by_view

    def forward(self, images: Tensor) -> Tensor:
        found = self.convolution(images)
        flat = found.view(len(found), -1) if self.by_view else found.flatten(1)
        result: Tensor = self.linear(flat)
        return result


def is_last(module: nn.Module, device: torch.device = GPU, **keys: str) -> bool:
    config = RunConfig(local_batch_size=1, **{"precision": "bfloat16", **keys})  # type: ignore[arg-type]
    return is_channels_last(config, Task(lambda seed: module, CrossEntropy(0.0), {}), device, IMAGE)


def test_convolutions_on_tensor_cores_get_it_where_they_take_it() -> None:
    assert is_last(Flattens(by_view=False))
    assert not is_last(Flattens(by_view=True))
    assert not is_last(nn.Sequential(nn.Flatten(), nn.Linear(108, 2)))
    assert not is_last(Flattens(by_view=False), torch.device("cpu"))
    assert not is_last(Flattens(by_view=False), precision="float32")


@pytest.mark.parametrize("asked", [True, False])
def test_what_is_asked_for_is_not_tried(asked: bool) -> None:
    config = replace(RunConfig(local_batch_size=1), model=ModelConfig(channels_last=asked))
    task = Task(lambda seed: Flattens(by_view=True), CrossEntropy(0.0), {})
    assert is_channels_last(config, task, torch.device("cpu"), IMAGE) is asked
