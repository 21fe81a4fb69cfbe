"""Which engine is fastest for the model, the batch and the number of learners at hand."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from hpcsgd.data.batches import Batch
from hpcsgd.errors import is_out_of_memory
from hpcsgd.learners.engines.base import Engine, NotPossibleError
from hpcsgd.learners.engines.cuda import GraphEngine, StreamsEngine
from hpcsgd.learners.engines.dense import DenseEngine
from hpcsgd.learners.engines.fused import FusedEngine
from hpcsgd.learners.engines.loop import LoopEngine, ThreadsEngine
from hpcsgd.learners.stack import PassState, ReplicaStack
from hpcsgd.tasks.task import Task

Factory = Callable[[ReplicaStack, Task], Engine]
Table = dict[str, float | str]
"""Seconds of the passes by engine; a reason where an engine is not possible."""

ON_CPU: Mapping[str, Factory] = {
    "loop": LoopEngine,
    "fused": FusedEngine,
    "dense": DenseEngine,
    "threads": ThreadsEngine,
}
ON_GPU: Mapping[str, Factory] = {
    "loop": LoopEngine,
    "fused": FusedEngine,
    "dense": DenseEngine,
    "streams": StreamsEngine,
    "graph": GraphEngine,
}
FOR_ONE = ("loop", "graph")
"""Those that may be fastest for one learner: on a GPU, where a graph launches all of its kernels at once."""

MARGIN = 0.95
"""An engine must take less than this part of the loop's time to be taken in its place: noise must not choose."""


@dataclass(frozen=True)
class Choice:
    """The engine, its name, and the figures of the decision on each rank."""

    engine: Engine
    name: str
    tables: list[Table]


def possible_engines(device: torch.device) -> Mapping[str, Factory]:
    """The engines of a kind of device, by name."""
    return ON_CPU if device.type == "cpu" else ON_GPU


def engines_to_try(device: torch.device, num_learners: int) -> Mapping[str, Factory]:
    """The engines of which one may be fastest for so many learners, by name."""
    factories = possible_engines(device)
    return factories if num_learners > 1 else {name: factories[name] for name in FOR_ONE if name in factories}


def make_engine(name: str, stack: ReplicaStack, task: Task) -> Engine:
    """The engine ``name`` for ``task``; ``auto`` is the loop until it is chosen.

    Raises:
        NotPossibleError: it is none of the device's, or cannot take the model.
    """
    factories = possible_engines(stack.device)
    if name == "auto":
        name = "loop"
    if name not in factories:
        raise NotPossibleError(
            f"engine is {name}, which does not run on the {stack.device.type}: choose one of auto, "
            f"{', '.join(factories)}"
        )
    return factories[name](stack, task)


def choose_engine(
    stack: ReplicaStack,
    task: Task,
    batch: Batch,
    size: int,
    *,
    rounds: int = 5,
    factories: Mapping[str, Factory] | None = None,
    meet: Callable[[], None] = lambda: None,
    gather: Callable[[Table], Sequence[Table]] = lambda table: [table],
) -> Choice:
    """Time all engines and take the fastest. Collective if ``gather`` is. The stack is left as it was, to the bit.

    An engine that fails is not possible: where one is only tried, that must not end the run.

    Ranks of one machine share its cores and its memory: all of them time the same engine at the same time.

    Args:
        stack: the learners.
        task: what they learn.
        batch: of one step, as many samples for each.
        size: samples of a learner in one pass.
        rounds: times that every engine is timed, in turn, after one pass to warm up; the median counts.
        factories: engines by name; unset, all of the device. "loop" must be there.
        meet: returns when all ranks have called it; unset, there is one.
        gather: gives the tables of all ranks to each of them; unset, this process decides alone.

    Raises:
        NotPossibleError: not even the loop can take the passes.
    """
    factories = factories if factories is not None else possible_engines(stack.device)
    engines: dict[str, Engine] = {}
    reasons: Table = {}
    times: dict[str, list[float]] = {}
    saved = PassState(stack)
    for round_ in range(rounds + 1):
        for name, factory in factories.items():
            meet()
            if name in reasons:
                continue
            try:
                if round_ == 0:
                    engines[name] = factory(stack, task)
                seconds = _time(engines[name], batch, size)
            except (RuntimeError, NotPossibleError) as error:
                without_memory = is_out_of_memory(error, tried=True)
                if name == "loop" and not (without_memory or isinstance(error, NotPossibleError)):
                    # The loop takes any model: this is the model's own.
                    raise
                reasons[name] = "out of memory" if without_memory else _in_a_line(error)
                engines.pop(name, None)
                continue
            if round_:
                times.setdefault(name, []).append(seconds)
    saved.put_back()
    table: Table = {n: reasons[n] if n in reasons else statistics.median(times[n]) for n in factories}
    tables = list(gather(table))
    name = fastest(tables)
    return Choice(engines[name], name, tables)


def fastest(tables: Sequence[Table]) -> str:
    """The engine with the least time, where each rank waits for the slowest; one decision from the tables of all ranks.

    An engine that is not possible on some rank is so on all. Another one than the loop must beat it by a margin.

    Raises:
        NotPossibleError: no engine is possible on all ranks.
    """
    times: dict[str, float] = {}
    for name in tables[0]:
        numbers = [table[name] for table in tables]
        seconds = [number for number in numbers if not isinstance(number, str)]
        if len(seconds) == len(numbers):
            times[name] = max(seconds) * (1.0 if name == "loop" else 1 / MARGIN)
    if not times:
        why = "; ".join(f"{name}: {value}" for name, value in tables[0].items())
        raise NotPossibleError(f"no engine is possible on all ranks: {why}")
    return min(times, key=lambda name: times[name])


def _in_a_line(error: Exception) -> str:
    """What went wrong, without the stack that torch may add."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _time(engine: Engine, batch: Batch, size: int) -> float:
    """Seconds of the passes of one step."""
    wait_for(batch.device)
    begin = time.perf_counter()
    engine.passes(batch, [float(count) for count in batch.sizes], size)
    wait_for(batch.device)
    return time.perf_counter() - begin


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done all that is queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
