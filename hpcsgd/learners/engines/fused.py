"""All learners in one pass, their parameters stacked along a learner axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hpcsgd.data.batches import Batch
from hpcsgd.data.trees import Tree, map_tree
from hpcsgd.learners.engines.base import Lap, check_draws, check_loss, no_lap, start_training
from hpcsgd.learners.engines.convert import convert
from hpcsgd.learners.engines.loop import LoopEngine
from hpcsgd.learners.engines.ops import memory_order
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.tasks.task import Task


class FusedEngine:
    """Grouped convolutions and batched products; see :class:`~hpcsgd.learners.engines.base.Engine`."""

    name = "fused"
    calls_hooks = False

    def __init__(self, stack: ReplicaStack, task: Task) -> None:
        """Convert the model of ``stack``.

        Raises:
            NotPossibleError: the model has a part that has no fused form, or the loss gives sum and weight.
        """
        check_loss(task, self.name)
        check_draws(stack, self.name)
        self.stack = stack
        self.task = task
        self._convert(memory_order(stack.device, num_images=2))

    def _convert(self, order: torch.memory_format) -> None:
        self._program = convert(self.stack, order)
        self._size = len(self.stack)

    def passes(
        self, batch: Batch, normalisers: Sequence[float], size: int, lap: Lap = no_lap, *, fresh: bool = False
    ) -> Tensor:
        """See :class:`~hpcsgd.learners.engines.base.Engine`."""
        if not batch.is_even:
            # The last batch of an epoch that is kept: some learners have one sample more than others.
            return LoopEngine(self.stack, self.task).passes(batch, normalisers, size, lap, fresh=fresh)
        rows = batch.rows()
        total = torch.zeros(len(self.stack), dtype=self.stack.dtype, device=self.stack.device)
        start_training(self.stack, fresh)
        for start in range(0, batch.sizes[0], size):
            count = min(size, batch.sizes[0] - start)
            inputs, targets = (_columns(tree, start, count) for tree in (rows.inputs, rows.targets))
            total = total + self._pass(inputs, targets, count, normalisers)
        lap("backward")
        return total

    def _pass(self, inputs: Tensor, targets: Tree, count: int, normalisers: Sequence[float]) -> Tensor:
        """One pass of ``count`` samples of each learner, [m, n, ...]."""
        order = memory_order(inputs.device, count)
        if len(self.stack) != self._size or order is not self._program.copies.order:
            self._convert(order)
        outputs = self.task.compute(self._program, inputs)
        flat = map_tree(lambda tensor: tensor.flatten(0, 1), targets)
        each = self.task.losses(outputs.flatten(0, 1), flat, len(self.stack) * count).view(len(self.stack), count)
        losses = each.detach().sum(1)
        if len(set(normalisers)) > 1:
            each = each / each.new_tensor(normalisers).unsqueeze(1)
            normalisers = [1.0]
        self._program.backward(each.sum() / normalisers[0])
        if self.stack.counts.numel():
            self.stack.counts.add_(1)
        return losses

    @torch.no_grad()
    def outputs(self, inputs: Tree) -> Tree:
        """See :class:`~hpcsgd.learners.engines.base.Engine`."""
        if len(self.stack) != self._size:
            self._convert(self._program.copies.order)
        module = self.stack.module
        training = module.training
        module.eval()
        result = self.task.compute(self._program, inputs.expand(self._size, *inputs.shape))
        module.train(training)
        return result


def _columns(tree: Tree, start: int, count: int) -> Tree:
    """So many samples of each learner, of tensors [m, n, ...]."""
    return map_tree(lambda tensor: tensor[:, start : start + count], tree)
