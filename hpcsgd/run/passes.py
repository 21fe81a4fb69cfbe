"""The passes of the learners of a rank, and which engine takes them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hpcsgd.data.batches import Batch
from hpcsgd.learners.engines.choose import choose_engine, engines_to_try
from hpcsgd.run.parts import Parts


def choose(parts: Parts) -> Parts:
    """With the engine that the timings of all ranks choose, where recipe and tuner leave it open. Collective.

    What is timed are passes. So for one learner a graph is not tried where gradients are summed over the ranks while
    the backward pass runs: a replay lets none of that be hidden, and faster passes may make a slower step. Nor is it
    for a network, or a loss, of the user's own, which may do on the host what no replay would repeat.
    """
    own = len(parts.learners)
    factories = engines_to_try(parts.learners.device, own)
    if parts.config.engine != "auto" or len(factories) == 1 or parts.trials is not None:
        return parts
    if own == 1 and (parts.is_own or parts.gradients.overlap):
        return parts
    if parts.plan.num_global(0) < parts.plan.global_batch_size:
        return parts
    choice = choose_engine(
        parts.learners,
        parts.task,
        parts.loader.batch(0),
        part_size(parts),
        factories=factories,
        meet=parts.comm.barrier,
        gather=parts.comm.allgather_object,
    )
    if parts.learners.device.type == "cuda":
        # Streams and graphs of the engines that were not taken hold memory that torch keeps.
        torch.cuda.empty_cache()
    return replace(parts, engine=choice.engine, engine_tables=choice.tables)


def forward_backward(parts: Parts, step: int, batch: Batch) -> Tensor:
    """Add the gradients of each learner's samples to its own, part by part.

    Returns:
        The sum of all losses, 0-d; of a loss of sum and weight both, [2].
    """
    if parts.compute is None:
        return _take_passes(parts, step, batch)
    with parts.compute.passes(step, len(batch), parts.timer.lap):
        return _take_passes(parts, step, batch)


def _take_passes(parts: Parts, step: int, batch: Batch) -> Tensor:
    """See :func:`forward_backward`."""
    num_global = parts.plan.num_global(step)
    if not parts.engine.calls_hooks:
        parts.gradients.hold()
    normalisers = [parts.algorithm.normaliser(step, size, num_global) for size in batch.sizes]
    scale = parts.algorithm.loss_scale
    scaled = normalisers if scale is None else [normaliser / scale.value for normaliser in normalisers]
    losses = parts.engine.passes(batch, scaled, part_size(parts), parts.timer.lap)
    if not parts.task.is_weighted:
        return losses.sum()
    # What the losses weigh is only known now: the gradients have been divided by the number of samples.
    parts.algorithm.weigh(losses[:, 1] / losses.new_tensor(normalisers))
    return losses.sum(0)


def part_size(parts: Parts) -> int:
    """Samples of a learner in one pass."""
    return parts.plan.local_batch_size // parts.config.accumulation_steps
