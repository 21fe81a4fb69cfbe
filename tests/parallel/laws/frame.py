"""All that communicates less, together: points of the whole frame, drawn at random, against one simulation.

A point is a local optimizer, a trigger, a policy of its momentum, a wire with its error memory, a delay, an outer step,
one level or two, and a number of learners a rank.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hpcsgd.comm.communicator import Communicator
from hpcsgd.run.parts import Parts
from tests.parallel.laws.registry import law
from tests.parallel.laws.rounds import (
    BLOCKS,
    DIVERGENCE,
    POST,
    START,
    Example,
    Reference,
    Rule,
    adam,
    check,
    check_resumption,
    config_of,
    make_reference,
    nesterov,
    quadratic,
    slow,
    staged,
)
from tests.parallel.laws.wires import DENSITY, Encoder

SEED, NUM_POINTS = 6, 10

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "plain": {"momentum": 0.0, "nesterov": False},
    "heavy ball": {"momentum": 0.8, "nesterov": False},
    "nesterov": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
    "lars": {"name": "lars", "trust_coefficient": 0.5, "nesterov": False},
}
LEVELS: dict[str, dict[str, Any]] = {"one": {"name": "local_sgd"}, "late": POST, "two": BLOCKS}
OUTER: dict[str, tuple[dict[str, Any], Any]] = {
    "average": ({}, None),
    "slow": (
        {"outer_step": "slow_momentum", "slow_momentum": 0.6, "slow_learning_rate": 0.9},
        lambda: slow({}),
    ),
    "nesterov": ({"outer_step": "nesterov"}, lambda: nesterov({}, lambda step: 0.7)),
    "adam": (
        {"outer_step": "torch.optim.Adam", "outer_init_args": {"betas": [0.8, 0.9], "eps": 1e-4}}
        | {"outer_learning_rate": 0.02},
        lambda: adam({}),
    ),
}


def three(step: int, rate: float) -> int:
    return 3


def from_one_to_four(begin: int) -> Rule:
    # 1 + floor(3 t / 6), by hand.
    return lambda step, rate: [1, 1, 2, 2, 3, 3, 4][min(step - begin, 6)]


@dataclass(frozen=True)
class Point:
    """A point of the frame: what it is made of, as words, and the run of it."""

    words: tuple[str, ...]
    example: Example
    changes: dict[str, Any]
    own: int


def draw(stream: random.Random) -> Point:
    """Any point, of those that may be."""
    level, trigger = stream.choice(list(LEVELS)), stream.choice(["constant", "linear", "staged", "power", "divergence"])
    begin = START if level == "late" else 0
    settings: dict[str, Any]
    rule: Rule | None
    settings, rule = {
        "constant": ({"sync_period": 3}, three),
        "linear": ({"sync_period": 4, "period_schedule": {"kind": "linear", "warmup_epochs": 1.5}}, None),
        "staged": ({"period_schedule": {"kind": "staged"}}, staged),
        "power": ({"period_schedule": {"kind": "power", "alpha": 0.05}}, quadratic),
        "divergence": ({"sync_period": 2, "period_schedule": DIVERGENCE}, None),
    }[trigger]
    if trigger == "linear":
        rule = from_one_to_four(begin)
    delay = stream.choice([0, 1, 2]) if trigger in ("constant", "linear") else 0
    fragments = stream.choice([1, 2]) if delay else 1
    wire = "full" if delay else stream.choice(["full", "sign", "ef_sign", "top_k"])
    policy = stream.choice(["local", "average", "reset"]) if level != "two" else "local"
    optimizer, outer = stream.choice(list(OPTIMIZERS)), stream.choice(list(OUTER))
    section = LEVELS[level] | settings | OUTER[outer][0] | {"momentum_policy": policy, "overlap_steps": delay}
    section |= {"overlap_fragments": fragments} if delay else {}
    density = {"top_k_density": DENSITY} if wire == "top_k" else {}
    changes = {"comm": {"wire": wire} | density, "optimizer": OPTIMIZERS[optimizer]}
    example = Example(section, rule, OUTER[outer][1], clipped=trigger != "constant")
    return Point(
        (level, trigger, f"Q {delay}", f"in {fragments}", wire, policy, optimizer, outer),
        example,
        changes,
        stream.choice([1, 2]),
    )


def draws() -> list[Point]:
    """The points, all different; each of a kind is among them."""
    stream, found = random.Random(SEED), dict[tuple[str, ...], Point]()
    while len(found) < NUM_POINTS:
        point = draw(stream)
        found[point.words] = point
    return list(found.values())


POINTS = draws()


class Framed(Reference):
    """A reference that averages by what is read of messages."""

    encode: Encoder

    def __post_init__(self) -> None:
        super().__post_init__()
        self.errors = torch.zeros(len(self.models), self.numel, dtype=torch.float64)
        self.target: Tensor | None = None

    def mean_of(self, vectors: Tensor) -> Tensor:
        """By what is read of the learners' differences from the last consensus."""
        if self.encode.wire == "full":
            return super().mean_of(vectors)
        consensus = self.anchor if self.target is None else self.target
        assert consensus is not None
        moved = torch.zeros_like(self.errors)
        moved[:, self.places] = consensus - vectors
        moved += self.errors
        sent = torch.stack([torch.from_numpy(self.encode(row.numpy())) for row in moved])
        if self.encode.wire != "sign":
            self.errors = moved - sent
        return consensus - sent.mean(dim=0)[self.places]


def make_framed(example: Example, parts: Parts, own: int) -> Reference:
    """The reference of a point's run."""
    reference = make_reference(example, parts, own, Framed)
    assert isinstance(reference, Framed)
    reference.encode = Encoder(parts.config.comm.wire, parts)
    return reference


@law(number=list(range(NUM_POINTS)))
def a_point_of_the_frame_equals_its_simulation(comm: Communicator, number: int) -> None:
    point = POINTS[number]
    check(comm, point.example, point.own, make_framed, **point.changes)


@law(sizes=(2,), number=list(range(NUM_POINTS)))
def a_point_of_the_frame_goes_on_from_every_step_to_the_bit(comm: Communicator, number: int) -> None:
    point = POINTS[number]
    check_resumption(comm, config_of(point.example, comm, point.own, **point.changes))


@law(sizes=(1,))
def the_points_have_something_of_each_kind(comm: Communicator) -> None:
    words = {word for point in POINTS for word in point.words}
    kinds = {
        *LEVELS,
        "constant",
        "linear",
        "staged",
        "power",
        "divergence",
        "Q 1",
        "Q 2",
        "in 2",
        "full",
        "sign",
        "ef_sign",
    }
    assert words >= kinds | {"top_k", "local", "average", "reset", *OPTIMIZERS, *OUTER}, words
    assert {point.own for point in POINTS} == {1, 2}
