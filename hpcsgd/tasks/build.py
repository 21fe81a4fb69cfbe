"""From a recipe, its data and what a caller brings to a task."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hpcsgd.config import LossConfig, ModelConfig
from hpcsgd.config.check import is_import_path
from hpcsgd.config.imports import build, check_arguments, find_object
from hpcsgd.config.workload import LANGUAGE_MODELS
from hpcsgd.data.make import Data
from hpcsgd.data.trees import Tree, leaves
from hpcsgd.errors import UsageError
from hpcsgd.models import build_model
from hpcsgd.tasks.given import NOTHING, Given
from hpcsgd.tasks.losses import CrossEntropy, Figure, cross_entropy, right, squared_error
from hpcsgd.tasks.metrics import Mean, Metric
from hpcsgd.tasks.task import Task

LOSSES: Mapping[str, Figure] = {"cross_entropy": cross_entropy, "squared_error": squared_error}


def make_task(
    model: ModelConfig,
    dataset: Data,
    loss: LossConfig | None = None,
    metrics: Mapping[str, Any] | None = None,
    label_smoothing: float = 0.0,
    given: Given = NOTHING,
) -> Task:
    """What a recipe says is to be learned of ``dataset``, as far as nothing else is given.

    Args:
        model, loss, metrics: the recipe's.
        dataset: what is learned from.
        label_smoothing: of the cross-entropy in training; an evaluation measures the loss without it.
        given: what a caller brings.

    Raises:
        UsageError: what an import path names is not there, or cannot be used so.
    """
    loss = loss or LossConfig()
    measured = given.loss if given.loss is not None else _make_loss(loss)
    if loss.reduction == "mean":
        measured = _as_each(measured)
    if label_smoothing and measured is not cross_entropy:
        raise UsageError("label_smoothing is for cross_entropy: leave it at 0 with a loss of your own")
    trained = CrossEntropy(label_smoothing) if measured is cross_entropy else measured
    wanted: dict[str, Figure | Metric] = {"loss": measured}
    if given.metrics is not None:
        wanted |= given.metrics
    elif metrics is not None:
        wanted |= {name: _make_metric(name, value) for name, value in metrics.items()}
    elif measured is cross_entropy:
        wanted["accuracy"] = right
    named = {name: metric if isinstance(metric, Metric) else Mean(metric) for name, metric in wanted.items()}
    return Task(_module_factory(model, dataset, given.model), trained, named)


def _module_factory(
    model: ModelConfig, dataset: Data, given: Callable[[], nn.Module] | None
) -> Callable[[int], nn.Module]:
    """From a seed to the network."""
    if given is not None:
        return partial(_seeded, given)
    if is_import_path(model.name):
        return partial(_seeded, partial(build, model.name, model.init_args, "model"))
    return partial(build_model, model, *_pictures_with_classes(model, dataset))


def _pictures_with_classes(model: ModelConfig, dataset: Data) -> tuple[tuple[int, ...], int]:
    """What the package's own networks are made for: the shape of an input, and the number of classes.

    Raises:
        UsageError: the data is of another kind.
    """
    shape, number = dataset.shape, dataset.num_classes
    if model.name in LANGUAGE_MODELS:
        form, fits = "sequences of tokens", shape is not None and len(shape) == 1
    elif model.name == "fully_connected":
        form, fits = "one tensor a sample", bool(shape)
    else:
        form, fits = "pictures [channels, height, width]", shape is not None and len(shape) == 3
    if not fits or number is None:
        has = (
            f"inputs of shape {list(shape)}"
            if shape is not None
            else "inputs that are not one tensor, or not known before they are read"
        )
        classes = "" if number is not None else ", and no classes that are known (its attribute classes says how many)"
        raise UsageError(
            f"model.name is {model.name!r}, which is for {form} with classes, and the data {dataset.name} has {has}"
            f"{classes}: choose another model, or one of your own by its import path"
        )
    assert shape is not None
    return shape, number


def _seeded(make: Callable[[], Any], seed: int) -> nn.Module:
    """A network whose parameters depend on ``seed`` alone; torch's global generators stay untouched."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that would reseed the GPUs' generators too.
        torch.default_generator.manual_seed(seed)
        module = make()
    if not isinstance(module, nn.Module):
        raise UsageError(f"the model is {module!r}, no torch.nn.Module")
    return module


def _make_loss(config: LossConfig) -> Figure:
    """The loss of the recipe's section."""
    return _make_function(config.name, config.init_args, "loss") if is_import_path(config.name) else LOSSES[config.name]


def _make_metric(name: str, given: Any) -> Figure | Metric:
    """A metric of the recipe's mapping."""
    path, arguments = (given["class_path"], given.get("init_args", {})) if isinstance(given, dict) else (given, {})
    made: Figure | Metric = _make_function(path, arguments, f"metrics.{name}")
    return made


def _make_function(path: str, arguments: Mapping[str, Any], key: str) -> Any:
    """A function, perhaps with some arguments already, or an object of a class."""
    found = find_object(path, key)
    if inspect.isclass(found):
        return build(path, arguments, key)
    if not arguments:
        return found
    check_arguments(found, arguments, key, given=2)
    return partial(found, **arguments)


def _as_each(loss: Figure) -> Figure:
    """The mean over a batch as the loss of each of its samples."""

    def each(outputs: Tree, targets: Tree) -> Tensor:
        mean = loss(outputs, targets)
        if not isinstance(mean, Tensor) or mean.dim():
            found = list(mean.shape) if isinstance(mean, Tensor) else f"a {type(mean).__name__}"
            raise ValueError(f"the loss gives {found}: with loss.reduction mean it must give one number")
        return mean.expand(len(next(leaves(targets))))

    return each
