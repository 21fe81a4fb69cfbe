"""The passes of the learners of a rank, and which engine takes them."""

from __future__ import annotations

import torch
from torch import Tensor

from hpcsgd.build import Parts
from hpcsgd.learners.engines.choose import choose_engine
from hpcsgd.learners.engines.loop import LoopEngine
from hpcsgd.loss import summed_loss


def choose(parts: Parts) -> None:
    """Let the timings of all ranks choose the engine, where recipe and tuner leave it open. Collective."""
    sizes = set(parts.loader.sizes(0))
    if parts.config.engine != "auto" or len(parts.learners) == 1 or len(sizes) > 1 or parts.trials is not None:
        return
    images, labels = (rows(part, parts) for part in parts.loader.batch(0))
    size = part_size(parts)
    choice = choose_engine(
        parts.learners,
        images[:, :size],
        labels[:, :size],
        label_smoothing=parts.config.label_smoothing,
        meet=parts.comm.barrier,
        gather=parts.comm.allgather_object,
    )
    parts.engine, parts.engine_tables = choice.engine, choice.tables


def forward_backward(parts: Parts, step: int, images: Tensor, labels: Tensor) -> Tensor:
    """Add the gradients of this rank's batch to the flat gradients, part by part; the sum of the losses."""
    timer = parts.timer
    total = torch.zeros((), device=labels.device)
    if not len(labels):
        return total
    if len(parts.learners) > 1 or parts.engine.name != "loop":
        return learners_passes(parts, step, images, labels)
    normaliser = parts.algorithm.normaliser(step, len(labels), parts.plan.num_global(step))
    size = parts.plan.local_batch_size // parts.config.accumulation_steps
    for part, targets in zip(images.split(size), labels.split(size), strict=True):
        loss = summed_loss(parts.replica.module(part), targets, parts.config.label_smoothing)
        timer.lap("forward")
        (loss / normaliser).backward()
        timer.lap("backward")
        total = total + loss.detach()
    return total


def learners_passes(parts: Parts, step: int, images: Tensor, labels: Tensor) -> Tensor:
    """Add the gradient of each learner's batch to its own, part by part; the sum of all losses.

    The clock gives all of it to the backward pass: the engines mix the two.
    """
    sizes, size = parts.loader.sizes(step), part_size(parts)
    num_global = parts.plan.num_global(step)
    total = torch.zeros((), device=labels.device)
    if len(set(sizes)) == 1:
        normaliser = parts.algorithm.normaliser(step, sizes[0], num_global)
        every = zip(rows(images, parts).split(size, dim=1), rows(labels, parts).split(size, dim=1), strict=True)
        for part, targets in every:
            total = total + parts.engine.forward_backward(part, targets, normaliser).sum()
    else:
        # The last batch of an epoch that is kept: some learners have one sample more than others.
        loop = LoopEngine(parts.learners, parts.config.label_smoothing)
        parts.learners.train()
        for j, (own, targets) in enumerate(zip(images.split(sizes), labels.split(sizes), strict=True)):
            normaliser = parts.algorithm.normaliser(step, len(own), num_global)
            for part, part_targets in zip(own.split(size), targets.split(size), strict=True):
                if len(part):
                    total = total + loop.one(j, part, part_targets, normaliser)
    parts.timer.lap("backward")
    return total


def part_size(parts: Parts) -> int:
    """Samples of a learner in one pass."""
    return parts.plan.local_batch_size // parts.config.accumulation_steps


def rows(batch: Tensor, parts: Parts) -> Tensor:
    """A rank's batch [m n, ...] as [m, n, ...]."""
    learners = len(parts.learners)
    return batch.view(learners, len(batch) // learners, *batch.shape[1:])
