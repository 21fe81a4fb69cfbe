"""The update of synchronous model averaging after the backward pass: all learners at once, and one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from learners import Steps
from torch import Tensor

from hpcsgd.algorithms.central import CentralModel
from hpcsgd.comm.communicator import Communicator
from hpcsgd.config import (
    AlgorithmConfig,
    DataConfig,
    EvaluateConfig,
    LearningRateConfig,
    LogConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
)
from hpcsgd.optim.rows import Rows
from hpcsgd.optim.sgd import RowSGD
from hpcsgd.run.build import assemble

RATE = 0.01
BATCH = 8
OPTIMIZER = OptimizerConfig(momentum=0.9, weight_decay=1e-4)
CENTRAL_MOMENTUM = 0.9


class Updates(Steps):
    """One update a repetition, of gradients as large as real ones: what decays to nothing is slow to compute with."""

    def __init__(self, name: str, step: Callable[[], None], gradients: Sequence[Tensor]) -> None:
        """``step`` uses ``gradients`` up."""
        super().__init__(name, step, 1)
        self.gradients = gradients

    def prepare(self) -> None:
        """Get warm, and have gradients."""
        self._fill()
        super().prepare()
        self._fill()

    def _fill(self) -> None:
        for gradient in self.gradients:
            gradient.normal_(std=1e-3)


def variants(model: ModelConfig, m: int, comm: Communicator) -> Iterator[Updates]:
    """m learners: ours; a loop over the rows of our buffers; a loop over modules with torch's optimizers."""
    config = RunConfig(
        epochs=10**6,
        local_batch_size=BATCH,
        learners_per_rank=m,
        engine="loop",
        device="cpu",
        model=model,
        data=DataConfig(name="synthetic"),
        algorithm=AlgorithmConfig(name="sma", central_momentum=CENTRAL_MOMENTUM),
        optimizer=OPTIMIZER,
        learning_rate=LearningRateConfig(base=RATE, scaling_rule="none"),
        evaluate=EvaluateConfig(every_epochs=0),
        log=LogConfig(enabled=False),
    )
    alpha = 1 / m
    parts, rows = assemble(config, comm), assemble(config, comm)
    parts.algorithm.start()

    def ours() -> None:
        parts.timer.begin(0)
        parts.algorithm.step(0, RATE, m * BATCH)
        parts.timer.clear()

    alone = [Rows(row[None], RowSGD.states, rows.learners.rows.decay_from) for row in rows.learners.parameters]
    optimizers = [RowSGD(OPTIMIZER, row) for row in alone]
    central = CentralModel(alone[0].parameters[0], CENTRAL_MOMENTUM)
    central.place(alone[0].parameters[0])

    @torch.no_grad()
    def row_by_row() -> None:
        total = torch.zeros_like(central.model)
        for row, optimizer in zip(alone, optimizers, strict=True):
            correction = alpha * (row.parameters[0] - central.model)
            optimizer.step(1, RATE)
            row.parameters[0].sub_(correction)
            total.add_(correction)
            row.gradients.zero_()
        central.move(total)

    tensors = [list(parts.task.new_module(0).parameters()) for _ in range(m)]
    for parameter in (p for each in tensors for p in each):
        parameter.grad = torch.zeros_like(parameter)
    sgd = [torch.optim.SGD(each, RATE, momentum=0.9, weight_decay=1e-4) for each in tensors]
    z = [p.detach().clone() for p in tensors[0]]
    v = [torch.zeros_like(p) for p in z]

    @torch.no_grad()
    def module_by_module() -> None:
        totals = [torch.zeros_like(p) for p in z]
        for each, optimizer in zip(tensors, sgd, strict=True):
            corrections = [alpha * (p - center) for p, center in zip(each, z, strict=True)]
            optimizer.step()
            for p, correction, total in zip(each, corrections, totals, strict=True):
                p.sub_(correction)
                total.add_(correction)
            optimizer.zero_grad(set_to_none=False)
        for center, velocity, total in zip(z, v, totals, strict=True):
            velocity.mul_(CENTRAL_MOMENTUM).add_(total)
            center.add_(velocity)

    yield Updates("all at once", ours, [parts.learners.gradients])
    yield Updates("row by row", row_by_row, [row.gradients for row in alone])
    yield Updates(
        "module by module", module_by_module, [p.grad for each in tensors for p in each if p.grad is not None]
    )
