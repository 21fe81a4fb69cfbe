"""Times at sizes that were not run, from the cost model: each with an interval, and what decides between them.

Every draw is a machine as it may be by the small runs (iterations, ranks and nodes drawn anew, the network solved
anew), which is replayed at each size by each algorithm. The same draws serve all of them, so that what they have in
common does not blur their differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcsgd.scaling.collectives import Costs
from hpcsgd.scaling.fit import Model
from hpcsgd.scaling.methods import GATHERED, WIRES, Method
from hpcsgd.scaling.ranks import Slowdown
from hpcsgd.scaling.replay import Durations, Meetings, replay

Array = NDArray[np.float64]

NUM_DRAWS = 100
LEVEL = 0.9
"""Of the intervals."""

MOST_NUMBERS = 1 << 24
"""Durations that are drawn for a size, of all steps, ranks and draws."""


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        gpus: sizes.
        per_node: GPUs of a node.
        methods: algorithms.
        batches: samples of a step of a GPU, one a size.
        num_samples: of an epoch; None: not known.
        epochs: of the run; None: not known.
        num_steps: of the run whose mean is predicted.
        synchronous: the part of post-local SGD before local steps begin.
    """

    gpus: tuple[int, ...]
    per_node: int
    methods: tuple[Method, ...]
    batches: tuple[int, ...]
    num_samples: int | None = None
    epochs: float | None = None
    num_steps: int = 256
    synchronous: float = 0.5


@dataclass(frozen=True)
class Answer:
    """One algorithm at one size; what is predicted has a number a draw.

    Attributes:
        method: as users write it.
        gpus: the size.
        nodes: that many.
        batch: samples of a step of a GPU.
        iteration_seconds: of an iteration, mean over the run.
        efficiency: samples/s over those of as many lone GPUs.
        exposed: share of synchronisation that compute does not hide, waiting included.
        waited: the share of waiting for slower ranks.
        epochs: of the run.
        num_samples: of an epoch.
    """

    method: str
    gpus: int
    nodes: int
    batch: int
    iteration_seconds: Array
    efficiency: Array
    exposed: Array
    waited: Array
    epochs: float | None = None
    num_samples: int | None = None

    @property
    def samples_per_second(self) -> Array:
        """Of all GPUs."""
        return np.asarray(self.gpus * self.batch / self.iteration_seconds)

    @property
    def epoch_seconds(self) -> Array | None:
        """Of an epoch."""
        return None if self.num_samples is None else np.asarray(self.num_samples / self.samples_per_second)

    @property
    def hours(self) -> Array | None:
        """Of the run, or to the target."""
        seconds = self.epoch_seconds
        return None if seconds is None or self.epochs is None else np.asarray(seconds * self.epochs / 3600)

    @property
    def gpu_hours(self) -> Array | None:
        """Hours times GPUs."""
        return None if self.hours is None else np.asarray(self.hours * self.gpus)


def interval(draws: Array) -> dict[str, float]:
    """Median, and what ``LEVEL`` of the draws lie between."""
    low, median, high = np.quantile(draws, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
    return {"median": float(median), "low": float(low), "high": float(high)}


def predict(model: Model, question: Question, num_draws: int = NUM_DRAWS, seed: int = 0) -> list[Answer]:
    """An answer for each size and algorithm, in this order."""
    generator = np.random.default_rng(seed)
    machines = [model.slowdown(generator) for _ in range(num_draws)]
    costs = [model.costs(generator) for _ in range(num_draws)]
    answers = []
    for gpus, batch in zip(question.gpus, question.batches, strict=True):
        usual = [model.usual_seconds(batch, generator) for _ in range(num_draws)]
        answers += _of_size(model, question, gpus, batch, machines, usual, costs, generator)
    return answers


def _of_size(
    model: Model,
    question: Question,
    gpus: int,
    batch: int,
    machines: Sequence[Slowdown],
    usual: Sequence[float],
    costs: Sequence[Costs],
    generator: np.random.Generator,
) -> list[Answer]:
    """The answers of a size."""
    per_node = min(question.per_node, gpus)
    durations = Durations(machines, usual, gpus, per_node, generator)
    longest = max(method.round for method in question.methods)
    fitting = MOST_NUMBERS // (gpus * len(machines))
    chunks = list(durations.chunks(max(min(question.num_steps, fitting), longest)))
    alone = np.mean([chunk.mean(axis=(0, 2)) for chunk in chunks], axis=0, dtype=float)
    answers = []
    for method in question.methods:
        parts = method.phases(question.synchronous)
        seconds, exposed, waited = np.sum(
            [share * np.array(_phase(model, own, gpus, per_node, costs, chunks)) for share, own in parts], axis=0
        )
        answers.append(
            Answer(
                method.text,
                gpus,
                -(-gpus // per_node),
                batch,
                seconds,
                alone / seconds,
                exposed / seconds,
                waited / seconds,
                question.epochs,
                question.num_samples,
            )
        )
    return answers


def _phase(
    model: Model,
    method: Method,
    gpus: int,
    per_node: int,
    costs: Sequence[Costs],
    chunks: Sequence[NDArray[np.float32]],
) -> tuple[Array, Array, Array]:
    """Seconds of a step, exposed and waited ones among them, of whole rounds of an algorithm."""
    each = [meetings(model, method, gpus, per_node, one) for one in costs]
    all_of_them = Meetings(
        np.array([one.gradient for one in each]),
        each[0].last_bucket,
        np.array([one.block for one in each]),
        np.array([one.world for one in each]),
    )
    steps = sum(map(len, chunks)) // method.round * method.round
    found = replay(_first(chunks, steps), method, all_of_them, per_node, model.passes)
    return found.step_seconds, found.exposed_seconds / steps, found.waited_seconds / steps


def _first(chunks: Sequence[NDArray[np.float32]], steps: int) -> list[NDArray[np.float32]]:
    """The first steps."""
    found = []
    for chunk in chunks:
        found.append(chunk[:steps])
        steps -= len(found[-1])
    return found


def meetings(model: Model, method: Method, gpus: int, per_node: int, costs: Costs) -> Meetings:
    """What the synchronisations of an algorithm take on so many GPUs."""
    nodes = [rank // per_node for rank in range(gpus)]
    num_bytes = model.parameter_bytes * WIRES[method.wire]
    if method.wire == "full":
        world = costs.seconds("allreduce", num_bytes, nodes)
    elif method.wire in GATHERED:
        world = costs.seconds("allgather", num_bytes, nodes)
    else:
        # Each rank sums its part of all messages, and sends it to everybody.
        world = costs.seconds("alltoall", num_bytes, nodes) + costs.seconds("allgather", num_bytes / gpus, nodes)
    count = model.num_buckets
    gradient = costs.seconds("allreduce", model.gradient_bytes, nodes, count)
    block = costs.seconds("allreduce", model.parameter_bytes, nodes[:per_node])
    return Meetings(np.asarray(gradient), 1 / count, np.asarray(block), np.asarray(world))


@dataclass(frozen=True)
class Limits:
    """What a run may take; None: as it likes."""

    hours: float | None = None
    gpu_hours: float | None = None

    def chance(self, answer: Answer) -> float:
        """The part of the draws that keep within both."""
        kept = np.ones(len(answer.iteration_seconds), bool)
        for limit, found in ((self.hours, answer.hours), (self.gpu_hours, answer.gpu_hours)):
            if limit is not None and found is not None:
                kept &= found <= limit
        return float(kept.mean())


def best(answers: Sequence[Answer], limits: Limits, by: str) -> Answer | None:
    """The one with the least ``hours`` or ``gpu_hours`` of those that keep the limits more often than not."""
    fitting = [one for one in answers if getattr(one, by) is not None and limits.chance(one) > 0.5]
    return min(fitting, key=lambda one: float(np.median(getattr(one, by))), default=None)
