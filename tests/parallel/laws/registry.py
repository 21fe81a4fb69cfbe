"""The list of all laws, known without starting MPI."""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hpcsgd.comm.communicator import Communicator

WORLD_SIZES = (1, 2, 3, 4)
MODULES = (
    "communication",
    "reducing",
    "in_memory",
    "sync_sgd",
    "shards",
    "local_sgd",
    "rounds",
    "frame",
    "hierarchical",
    "wires",
    "quadratic",
    "batch_norm",
    "consensus",
    "sma",
    "stability",
    "learners",
    "optimizers",
    "noise",
    "weights",
    "sessions",
    "own_rounds",
    "own_modules",
    "tuning",
    "evaluation",
    "resuming",
    "precision",
    "emulation",
)

Law = Callable[..., None]


@dataclass(frozen=True)
class Case:
    """A law with its parameters, and the world sizes that it is for."""

    id: str
    body: Callable[[Communicator], None]
    sizes: tuple[int, ...]


_cases: list[Case] = []


def law(*, sizes: tuple[int, ...] = WORLD_SIZES, **values: list[Any]) -> Callable[[Law], Law]:
    """Register a law, once for each combination of ``values``, which it gets as keyword arguments."""

    def register(function: Law) -> Law:
        for choice in itertools.product(*values.values()):
            chosen = dict(zip(values, choice, strict=True))
            name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
            suffix = "-".join(str(value) for value in choice)
            body = functools.partial(function, **chosen)
            _cases.append(Case(f"{name}[{suffix}]" if suffix else name, body, sizes))
        return function

    return register


def all_cases() -> list[Case]:
    """All laws, in the order in which they run."""
    for module in MODULES:
        importlib.import_module(f"tests.parallel.laws.{module}")
    names = [case.id for case in _cases]
    assert len(set(names)) == len(names), "two laws have one name"
    return _cases
