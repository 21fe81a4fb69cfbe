"""What can be learned of an optimizer class of torch before the training: which state it keeps, and how to make it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hpcsgd.config import OptimizerConfig
from hpcsgd.config.imports import call, check_arguments, find_object, in_words
from hpcsgd.errors import UsageError

ELEMENT_WISE = frozenset(
    getattr(torch.optim, name)
    for name in (
        "ASGD",
        "Adadelta",
        "Adagrad",
        "Adam",
        "AdamW",
        "Adamax",
        "NAdam",
        "RAdam",
        "RMSprop",
        "Rprop",
        "SGD",
    )
)
"""Classes whose update of an element depends on that element alone, of parameter, gradient and state."""

KEY, ARGS_KEY = "optimizer.name", "optimizer.init_args"
CHOICES = {"fused", "foreach", "capturable", "differentiable"}
"""Arguments that choose an implementation: where none is given, ``fused`` is taken if it can be."""


Factory = Callable[[Any], torch.optim.Optimizer]
"""From parameters, or groups of them, as torch's optimizers take them, to an optimizer."""


@dataclass(frozen=True)
class Kind:
    """An optimizer class with its arguments.

    Attributes:
        make: from the parameters without weight decay and those with it, an optimizer of them.
        states: names of the state tensors that have the shape and type of their parameter.
        element_wise: whether it may be given any stretches of parameters, in the place of the parameters.
    """

    make: Callable[[Sequence[nn.Parameter], Sequence[nn.Parameter]], torch.optim.Optimizer]
    states: tuple[str, ...]
    element_wise: bool


def probe_factory(factory: Factory, device: torch.device, dtype: torch.dtype) -> tuple[Kind, float]:
    """Let what a caller's ``factory`` makes step tiny parameters, to see what it is; and its learning rate.

    Raises:
        UsageError: it makes no optimizer, or one that cannot train a replica.
    """

    def make(plain: Sequence[nn.Parameter], decayed: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        groups: list[dict[str, Any]] = [{"params": list(plain), "weight_decay": 0.0}] if plain else []
        groups += [{"params": list(decayed)}] if decayed else []
        return call(factory, {}, "optimizer", groups)  # type: ignore[no-any-return]

    made = make([], [nn.Parameter(torch.ones(2, 2, device=device, dtype=dtype))])
    if not isinstance(made, torch.optim.Optimizer):
        raise UsageError(f"the optimizer is {made!r}, no torch.optim.Optimizer")
    _check_class(type(made), type(made).__qualname__)
    states = _states(make, ((2, 3), (4,)), device, dtype)
    return Kind(make, states, type(made) in ELEMENT_WISE), float(made.param_groups[0]["lr"])


def probe(config: OptimizerConfig, device: torch.device, dtype: torch.dtype) -> Kind:
    """Let the optimizer of ``config`` step tiny parameters, to see what it is.

    Raises:
        UsageError: there is no such class, it does not take the arguments, or it cannot train a replica: it asks for
            a closure, or for sparse gradients.
    """
    found = find_object(config.name, KEY)
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise UsageError(f"{KEY} is {config.name!r}, which is no class of torch.optim.Optimizer's kind")
    _check(found, config)
    takes = set(inspect.signature(found).parameters)
    element_wise = found in ELEMENT_WISE
    arguments = dict(config.init_args)
    tries = [arguments]
    if element_wise and "fused" in takes and not CHOICES & arguments.keys():
        tries.insert(0, arguments | {"fused": True})
    failure: Exception | None = None
    for settings in tries:
        make = _maker(found, settings, has_decay="weight_decay" in takes)
        for shapes in (((2, 3), (4,)), ((2, 3),)):  # some take matrices alone
            try:
                return Kind(make, _states(make, shapes, device, dtype), element_wise)
            except Exception as error:  # whatever a class raises
                failure = failure or error
    assert failure is not None
    raise UsageError(
        f"{KEY} is {config.name}, which cannot step a small {str(dtype).removeprefix('torch.')} parameter "
        f"on the {device.type} ({in_words(failure)}): choose other {ARGS_KEY}, or another class"
    ) from failure


def _check(found: type[torch.optim.Optimizer], config: OptimizerConfig) -> None:
    """Refuse what is known to be impossible."""
    name, takes = config.name, inspect.signature(found).parameters
    if "lr" in config.init_args:
        raise UsageError(f"{ARGS_KEY} has lr: the learning rate of each step is that of the section learning_rate")
    if "lr" not in takes:
        raise UsageError(f"{KEY} is {name}, which takes no learning rate lr: it cannot follow learning_rate")
    check_arguments(found, config.init_args | {"lr": 1.0}, "optimizer", given=1)
    _check_class(found, name)
    if config.init_args.get("differentiable"):
        raise UsageError(f"{ARGS_KEY} has differentiable: true: nothing goes backward through a step; leave it out")


def _check_class(found: type[torch.optim.Optimizer], name: str) -> None:
    """Refuse a class that is known to be impossible."""
    closure = inspect.signature(found.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise UsageError(f"{KEY} is {name}, which computes the loss again by a closure: choose another")
    if found is torch.optim.SparseAdam:
        raise UsageError(f"{KEY} is {name}, which is for sparse gradients, and these are dense: choose Adam")


def _maker(
    found: type[torch.optim.Optimizer], settings: dict[str, Any], *, has_decay: bool
) -> Callable[[Sequence[nn.Parameter], Sequence[nn.Parameter]], torch.optim.Optimizer]:
    """Makes optimizers of a class."""
    factory: Callable[..., torch.optim.Optimizer] = found

    def make(plain: Sequence[nn.Parameter], decayed: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        groups: list[dict[str, Any]] = []
        if plain:
            groups.append({"params": list(plain)} | ({"weight_decay": 0.0} if has_decay else {}))
        if decayed:
            groups.append({"params": list(decayed)})
        try:
            return factory(groups, lr=1.0, **settings)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UsageError(f"{KEY} {found.__qualname__} with {ARGS_KEY} {settings}: {in_words(error)}") from error

    return make


def _states(
    make: Callable[[Sequence[nn.Parameter], Sequence[nn.Parameter]], torch.optim.Optimizer],
    shapes: Sequence[tuple[int, ...]],
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[str, ...]:
    """The names of what one step leaves for parameters of these shapes that has their shape and type."""
    parameters = [nn.Parameter(torch.ones(shape, device=device, dtype=dtype)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 0.5)
    optimizer = make([], parameters)
    with torch.no_grad():
        optimizer.step()
    names: dict[str, None] = {}
    for parameter in parameters:
        for name, value in optimizer.state[parameter].items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.dtype == dtype:
                names[str(name)] = None
    return tuple(names)
