"""Stacks of small networks, alike for every engine."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hpcsgd.config import ModelConfig
from hpcsgd.learners.replica import Replica
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.models import build_model

CPU = torch.device("cpu")
Build = Callable[[int], nn.Module]


def with_dropout(seed: int) -> nn.Module:
    """Dropout behind a convolution and behind a linear layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(48, 12),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(12, 5),
        )


def of_package(name: str, shape: tuple[int, int, int] = (1, 12, 12), **settings: object) -> Build:
    """A model of the package for 5 classes."""
    config = ModelConfig(name=name, **settings)  # type: ignore[arg-type]
    return lambda seed: build_model(config, shape, 5, seed)


def make(build: Build, m: int, dtype: torch.dtype = torch.float64, channels_last: bool = False) -> ReplicaStack:
    """m learners with parameters of their own."""
    replicas = [Replica(build(seed), CPU, dtype, channels_last=channels_last) for seed in range(m)]
    return ReplicaStack(replicas)


def batch(
    step: int, m: int, n: int = 2, shape: tuple[int, int, int] = (1, 12, 12), dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Images [m, n, C, H, W] and labels [m, n]."""
    stream = torch.Generator().manual_seed(step)
    images = torch.randn(m, n, *shape, generator=stream, dtype=torch.float64).to(dtype)
    return images, torch.randint(5, (m, n), generator=stream)
