"""The consensus of all learners, and its metrics on splits that the ranks share."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hpcsgd.algorithms.batch_norm import recompute_statistics_
from hpcsgd.comm.communicator import Communicator
from hpcsgd.data.batches import Split
from hpcsgd.data.trees import Tree
from hpcsgd.record.clocks import Evaluation
from hpcsgd.record.summary import metric_text
from hpcsgd.run.parts import Parts
from hpcsgd.tasks.compiling import as_written
from hpcsgd.tasks.task import Task


@dataclass(frozen=True)
class Metrics:
    """The value of each metric by its name, and the number of samples that they are of."""

    values: dict[str, float]
    num_samples: int


@torch.no_grad()
def evaluate(task: Task, module: nn.Module, split: Split, comm: Communicator, batch_size: int) -> Metrics:
    """Evaluate ``module``, the same on all ranks, on the whole split, each rank on its part. Collective.

    The parts are contiguous, their sizes differ by at most 1, none is skipped; the sums are taken in float64.
    The module is left in the mode that it was in.
    """
    start, stop = (len(split) * (comm.rank + i) // comm.size for i in (0, 1))
    training = module.training
    module.eval()
    if start < stop:
        sums = _counts(task, module, split.batches(start, stop, batch_size))
    else:
        # How many counts there are is only seen from one sample.
        sums = [torch.zeros_like(each) for each in _counts(task, module, split.batches(0, 1, 1))]
    module.train(training)
    totals = np.array([*torch.cat(sums).tolist(), stop - start])
    comm.sum_(totals)
    assert int(totals[-1]) == len(split), "a part of the split was not evaluated"
    parts = np.split(totals[:-1], np.cumsum([len(each) for each in sums])[:-1])
    values = {
        name: metric.value(part.tolist()) for (name, metric), part in zip(task.metrics.items(), parts, strict=True)
    }
    return Metrics(values, len(split))


def _counts(task: Task, module: nn.Module, batches: Iterable[tuple[Tree, Tree]]) -> list[Tensor]:
    """The sums of each metric over some batches, float64."""
    sums: list[Tensor] = []
    for inputs, targets in batches:
        outputs = task.forward(module, inputs)
        found = [task.compute(metric.counts, outputs, targets).double() for metric in task.metrics.values()]
        sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
    return sums


@contextmanager
def consensus_model(parts: Parts, step: int) -> Iterator[nn.Module]:
    """The one model to evaluate or save after ``step``, with its BatchNorm statistics. Collective."""
    with parts.algorithm.consensus() as module:
        if parts.config.algorithm.batch_norm_policy == "recompute":
            # A small tail may leave a rank without samples: all ranks pass over it.
            full = (s for s in range(step, -1, -1) if parts.plan.num_global(s) >= parts.plan.num_learners)
            latest = sorted(itertools.islice(full, parts.config.evaluate.recompute_batches))
            inputs = ([own.inputs for own in parts.loader.batch(s).learners()] for s in latest)
            # Each batch weighs by another number: a compiler would take every one for another model.
            with as_written(replica.module for replica in parts.learners.replicas):
                recompute_statistics_(parts.learners, parts.task.forward, inputs, parts.world)
        yield module


def evaluate_consensus(parts: Parts, step: int) -> dict[str, Metrics]:
    """Metrics of the consensus model on the splits of the recipe, after ``step``. Collective."""
    size = parts.config.evaluate.batch_size
    with consensus_model(parts, step) as module:
        return {name: evaluate(parts.task, module, split, parts.comm, size) for name, split in parts.splits.items()}


def rows_of(metrics: dict[str, Metrics], step: int, epochs: float) -> list[Evaluation]:
    """The log's rows of an evaluation after ``step``, without its clock yet."""
    return [
        Evaluation(step + 1, epochs, split, metric, value, result.num_samples)
        for split, result in metrics.items()
        for metric, value in result.values.items()
    ]


def describe(metrics: dict[str, Metrics], epochs: float) -> str:
    """An evaluation in a line."""
    results = (
        ", ".join(f"{split} {name} {metric_text(name, value)}" for name, value in m.values.items())
        for split, m in metrics.items()
    )
    return f"epoch {epochs:g}: " + "; ".join(results)
