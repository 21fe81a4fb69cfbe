"""Stacks of small networks, alike for every engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from unittest import mock

import torch
from torch import Tensor, nn

from hpcsgd.config import ModelConfig
from hpcsgd.data.batches import Batch
from hpcsgd.learners.engines.base import Engine
from hpcsgd.learners.replica import Replica
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.models import build_model
from hpcsgd.models.densenet import DenseNet
from hpcsgd.models.vgg import Vgg11
from hpcsgd.models.wide_resnet import WideResNet
from hpcsgd.optim.sgd import RowSGD
from hpcsgd.tasks.losses import CrossEntropy
from hpcsgd.tasks.task import Task

CPU = torch.device("cpu")
Build = Callable[[int], nn.Module]


def seeded(make: Callable[[], nn.Module]) -> Build:
    """A network whose parameters depend on the seed alone."""

    def build(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return make()

    return build


@seeded
def with_dropout() -> nn.Module:
    """Dropout behind a convolution and behind a linear layer."""
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


@seeded
def vgg11_narrow() -> nn.Module:
    """VGG-11 with a sixteenth of its filters or fewer."""
    with mock.patch("hpcsgd.models.vgg.STAGES", ((4,), (8,), (8, 8), (8, 8), (8, 8))):
        return Vgg11(3, 5)


@seeded
def densenet_small() -> nn.Module:
    """DenseNet with 2 layers a block and growth 4, in the place of 12 and 12."""
    return DenseNet(3, 2, 4, 5)


@seeded
def wide_resnet_small() -> nn.Module:
    """WideResNet with a block a stage, not widened, in the place of 4 blocks, 10 times as wide."""
    return WideResNet(3, 1, 1, 5)


def of_package(name: str, shape: tuple[int, int, int] = (1, 12, 12), **settings: object) -> Build:
    """A model of the package for 5 classes."""
    config = ModelConfig(name=name, **settings)  # type: ignore[arg-type]
    return lambda seed: build_model(config, shape, 5, seed)


def make(build: Build, m: int, dtype: torch.dtype = torch.float64, channels_last: bool = False) -> ReplicaStack:
    """m learners with parameters of their own."""
    replicas = [Replica(build(seed), CPU, dtype, channels_last=channels_last) for seed in range(m)]
    return ReplicaStack(replicas, states=RowSGD.states)


def classify(smoothing: float | Tensor = 0.0) -> Task:
    """To tell classes apart; nothing of it makes networks."""
    return Task(seeded(nn.Identity), CrossEntropy(smoothing), {})


def batch(
    step: int, m: int, n: int = 2, shape: tuple[int, int, int] = (1, 12, 12), dtype: torch.dtype = torch.float64
) -> Batch:
    """Images and labels of m learners, n for each."""
    stream = torch.Generator().manual_seed(step)
    images = torch.randn(m, n, *shape, generator=stream, dtype=torch.float64).to(dtype)
    labels = torch.randint(5, (m, n), generator=stream)
    return Batch(images.flatten(0, 1), labels.flatten(), [n] * m)


def take(engine: Engine, given: Batch, normalisers: Sequence[float] | float | None = None) -> Tensor:
    """The passes of a batch, at once, over its learners' sizes or over ``normalisers``; the losses [m]."""
    if normalisers is None:
        normalisers = [float(size) for size in given.sizes]
    elif isinstance(normalisers, float):
        normalisers = [normalisers] * len(given.sizes)
    return engine.passes(given, normalisers, max(given.sizes))
