"""From a recipe, its data and what a caller brings to a task."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from hpcsgd.config import ModelConfig
from hpcsgd.data.dataset import Dataset
from hpcsgd.models import build_model
from hpcsgd.tasks.given import Given
from hpcsgd.tasks.losses import Figure, cross_entropy, right
from hpcsgd.tasks.metrics import Mean, Metric
from hpcsgd.tasks.task import Task


def make_task(model: ModelConfig, dataset: Dataset, label_smoothing: float = 0.0, given: Given | None = None) -> Task:
    """To classify the samples of ``dataset`` by the network that ``model`` names, as far as nothing else is given.

    Args:
        model: the recipe's section.
        dataset: what is learned from.
        label_smoothing: of the cross-entropy in training; an evaluation measures the loss without it.
        given: what a caller brings.
    """
    given = given or Given()
    make = given.model
    new_module = (
        partial(_seeded, make)
        if make is not None
        else lambda seed: build_model(model, dataset.shape, dataset.num_classes, seed)
    )
    if given.loss is not None:
        loss = measured = given.loss
    else:
        measured = cross_entropy
        loss = partial(cross_entropy, smoothing=label_smoothing) if label_smoothing else cross_entropy
    metrics: dict[str, Figure | Metric] = {"loss": measured}
    if given.metrics is not None:
        metrics |= given.metrics
    elif given.loss is None:
        metrics["accuracy"] = right
    return Task(new_module, loss, {name: _as_metric(metric) for name, metric in metrics.items()})


def _as_metric(given: Figure | Metric) -> Metric:
    """A metric, also from a figure of each sample."""
    return given if isinstance(given, Metric) else Mean(given)


def _seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network whose parameters depend on ``seed`` alone; torch's global generators stay untouched."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that would reseed the GPUs' generators too.
        torch.default_generator.manual_seed(seed)
        return make()
