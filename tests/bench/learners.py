"""Several learners on one core: one after another, fused, and as one big batch of the same samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch

from hpcsgd.config import ModelConfig, OptimizerConfig
from hpcsgd.data.batches import Batch
from hpcsgd.learners.engines.base import Engine
from hpcsgd.learners.engines.choose import choose_engine
from hpcsgd.learners.engines.fused import FusedEngine
from hpcsgd.learners.engines.loop import LoopEngine
from hpcsgd.learners.replica import Replica
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.models import build_model
from hpcsgd.optim.sgd import RowSGD
from hpcsgd.tasks.losses import cross_entropy
from hpcsgd.tasks.task import Task

RATE = 0.01
Shape = tuple[int, int, int]


class Steps:
    """Training steps as a variant; each repetition begins with one that is not timed."""

    def __init__(self, name: str, step: Callable[[], None], steps: int) -> None:
        """A repetition is ``steps`` calls of ``step``."""
        self.name, self.step, self.steps = name, step, steps

    def prepare(self) -> None:
        """Get warm."""
        self.step()

    def run(self) -> float:
        """A repetition; its seconds."""
        begin = time.perf_counter()
        for _ in range(self.steps):
            self.step()
        return time.perf_counter() - begin

    def rest(self) -> None:
        """Nothing is left running."""


def variants(model: ModelConfig, shape: Shape, m: int, n: int, steps: int) -> Iterator[Steps]:
    """m learners at batch n, with a step of momentum SGD each: the loop updates a learner right after its passes."""
    config = OptimizerConfig()
    batch = Batch(torch.randn(m * n, *shape), torch.randint(10, (m * n,)), [n] * m)
    parts, task = list(batch.learners()), Task(partial(build_model, model, shape, 10), cross_entropy, {})
    rates = [RATE * (1 + j / m) for j in range(m)]

    def stack(size: int) -> ReplicaStack:
        cpu = torch.device("cpu")
        modules = [build_model(model, shape, 10, seed) for seed in range(size)]
        replicas = [Replica(module, cpu, torch.float32, channels_last=False) for module in modules]
        return ReplicaStack(replicas, states=RowSGD.states)

    apart = [stack(1) for _ in range(m)]
    loops = [LoopEngine(one, task) for one in apart]
    optimizers = [RowSGD(config, one.rows) for one in apart]

    def one_after_another() -> None:
        for j, one in enumerate(apart):
            loops[j].one(0, parts[j], float(n), n)
            optimizers[j].step(1, rates[j])
            one.zero_gradients()

    def together(learners: ReplicaStack, engine: Engine) -> Callable[[], None]:
        sgd = RowSGD(config, learners.rows)

        def step() -> None:
            engine.passes(batch, [float(n)] * m, n)
            sgd.step(m, rates)
            learners.zero_gradients()

        return step

    fused, chosen, single = stack(m), stack(m), stack(1)
    # Without threads: they would take the other cores.
    choice = choose_engine(chosen, task, batch, n, factories={"loop": LoopEngine, "fused": FusedEngine})
    big, sgd = LoopEngine(single, task), RowSGD(config, single.rows)

    def one_big_batch() -> None:
        big.passes(Batch(batch.inputs, batch.targets, [m * n]), [float(m * n)], m * n)
        sgd.step(1, RATE)
        single.zero_gradients()

    yield Steps("one after another", one_after_another, steps)
    yield Steps("fused", together(fused, FusedEngine(fused, task)), steps)
    is_loop = choice.name == "loop"
    yield Steps("chosen", one_after_another if is_loop else together(chosen, choice.engine), steps)
    yield Steps("one big batch", one_big_batch, steps)
