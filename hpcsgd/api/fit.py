"""``hpcsgd.fit``: a run whose parts come from Python."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import torch
from torch import nn

from hpcsgd.config import AlgorithmConfig, LearningRateConfig, RunConfig
from hpcsgd.config.own import PATH_KEY, given_name
from hpcsgd.errors import UsageError
from hpcsgd.optim.probe import Factory, probe_factory
from hpcsgd.tasks.given import Given
from hpcsgd.tasks.losses import Figure
from hpcsgd.tasks.metrics import Metric
from hpcsgd.train import RunResult, run


def fit(
    *,
    model: Callable[[], nn.Module] | str | Mapping[str, Any],
    data: Any,
    data_options: Mapping[str, Any] | None = None,
    loss: Figure | str | Mapping[str, Any] | None = None,
    metrics: Mapping[str, Figure | Metric] | None = None,
    optimizer: Factory | str | Mapping[str, Any] | None = None,
    algorithm: AlgorithmConfig | str | Mapping[str, Any] = "sync_sgd",
    learning_rate: LearningRateConfig | float | Mapping[str, Any] | None = None,
    **settings: Any,
) -> RunResult:
    """Train. Collective: under ``mpirun``, every rank calls it with the same arguments.

    What can be named in a recipe can be named here; in its place can stand a thing of Python. Factories, not objects:
    several learners, the timing of engines and an exact resumption each build again.

    Args:
        model: makes the network with its initial parameters; torch's generator is seeded before each call.
        data: the splits by name, each a pair (inputs, targets) of arrays or tensors, or a Dataset of torch's; or a
            function that makes them (see :mod:`hpcsgd.data.own`); or what a recipe names, as ``{"name": "mnist"}``.
        data_options: further keys of the recipe's section, as ``{"tail": "keep", "workers": 2}``.
        loss: of outputs and targets, one number a sample, [n], or a sum and its weight.
        metrics: by name: figures of the same form, of which the mean is taken, or objects of the form of
            :class:`hpcsgd.tasks.metrics.Metric`.
        optimizer: makes an optimizer from parameters: ``lambda params: torch.optim.AdamW(params, lr=1e-3)``.
        algorithm: such as ``hpcsgd.LocalSGD(period=16)``.
        learning_rate: of every step, or the recipe's section; unset, that of ``optimizer``, where it is given.
        **settings: other keys of a recipe; sections as mappings: ``epochs=90, checkpoint={"every_epochs": 10}``.

    Returns:
        The run's directory, and the last metrics of each split.

    Raises:
        UsageError: something is wrong, on all ranks alike; nothing is left behind.
    """
    known = {field.name for field in fields(RunConfig)}
    for name in settings:
        if name not in known:
            raise UsageError(f"hpcsgd.fit takes no {name}; it takes the keys of a recipe: {', '.join(sorted(known))}")
    rate = learning_rate
    if rate is None and callable(optimizer):
        rate = probe_factory(optimizer, torch.device("cpu"), torch.float32)[1]
    is_named = isinstance(data, str) or (isinstance(data, Mapping) and data.keys() & {"name", PATH_KEY})
    named = ({"name": data} if isinstance(data, str) else data) if is_named else {"name": "given"}
    sections = {
        "model": _named(model, "model"),
        "data": {**named, **(data_options or {})},
        "loss": _named(loss, "loss"),
        "optimizer": _named(optimizer, "optimizer"),
        "algorithm": {"name": algorithm} if isinstance(algorithm, str) else algorithm,
        "learning_rate": {"base": float(rate), "scaling_rule": "none"} if isinstance(rate, int | float) else rate,
    }
    given = Given(
        model if callable(model) else None,
        loss if callable(loss) else None,
        metrics,
        optimizer if callable(optimizer) else None,
        None if is_named else data,
    )
    return run(_make_config(settings | sections), argv=sys.argv, given=given)


def _named(thing: Any, fallback: str) -> Any:
    """The section of a recipe that names a thing."""
    if callable(thing):
        return {"name": given_name(thing, fallback)}
    return {"name": thing} if isinstance(thing, str) else thing


def _make_config(values: Mapping[str, Any]) -> RunConfig:
    """A configuration whose sections may be mappings.

    Raises:
        UsageError: a key is unknown, or a value cannot be.
    """
    kinds = get_type_hints(RunConfig)
    made: dict[str, Any] = {}
    try:
        for name, value in values.items():
            kind = kinds[name]
            if isinstance(value, Mapping) and is_dataclass(kind):
                value = {"name" if key == PATH_KEY else key: part for key, part in value.items()}
                made[name] = kind(**value)  # type: ignore[operator]
            elif value is not None:
                made[name] = value
        return RunConfig(**made)
    except (TypeError, ValueError) as error:
        raise UsageError(f"hpcsgd.fit: {error}") from error
