"""Networks of one architecture that train side by side: all in each operation, or one after another.

Each has its own parameters, gradient and momentum, one row of a flat buffer, and its own learning rate, momentum and
label smoothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcsgd.comm.reduce import FlatReducer
from hpcsgd.config import OptimizerConfig
from hpcsgd.learners.replica import Replica


@dataclass
class Block:
    """Rows of flat buffers that one operation works on.

    Attributes:
        parameters, gradients, momentum: [r, P].
        decay_from: first column with weight decay.
    """

    parameters: Tensor
    gradients: Tensor
    momentum: Tensor
    decay_from: int

    @torch.no_grad()
    def update(self, config: OptimizerConfig, rates: Tensor, momenta: Tensor) -> None:
        """u <- mu u + g, w <- w - eta u (Nesterov: w <- w - eta (g + mu u)), with eta and mu of each row, [r, 1]."""
        gradients, momentum = self.gradients, self.momentum
        if config.weight_decay:
            part = slice(self.decay_from, None)
            gradients[:, part].add_(self.parameters[:, part], alpha=config.weight_decay)
        torch.addcmul(gradients, momentum, momenta, out=momentum)
        if config.nesterov:
            self.parameters.addcmul_(gradients, -rates)
            self.parameters.addcmul_(momentum, -(rates * momenta))
        else:
            self.parameters.addcmul_(momentum, -rates)


class Stack(Protocol):
    """R networks."""

    blocks: list[Block]
    """In the order of the networks."""

    def add_gradients(self, images: Tensor, labels: Tensor, smoothing: Tensor | None, normaliser: int) -> Tensor:
        """Fill the gradients with those of the summed losses over ``normaliser``.

        Args:
            images: [R, n, C, H, W], each network's own.
            labels: int64 [R, n].
            smoothing: weight of the uniform distribution in the targets, [R]; None: 0 for all.
            normaliser: samples of the whole batch.

        Returns:
            The summed losses over ``normaliser``, [R].
        """

    def logits(self, images: Tensor) -> Tensor:
        """Images [n, C, H, W], the same for all, to [R, n, classes]; in evaluation mode."""

    def average_statistics(self, reducer: FlatReducer) -> None:
        """Average what the ranks of a team have seen of BatchNorm's statistics."""

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with the networks in ``rows`` only, in this order."""


def update_all(stack: Stack, config: OptimizerConfig, rates: Tensor, momenta: Tensor) -> None:
    """Update all networks with their own learning rates and momenta, [R, 1], by the gradients that are there."""
    row = 0
    for block in stack.blocks:
        part = slice(row, row := row + len(block.parameters))
        block.update(config, rates[part], momenta[part])


class LoopStack:
    """Any networks, one after another."""

    def __init__(self, modules: Sequence[nn.Module], device: torch.device, dtype: torch.dtype, channels_last: bool):
        """Take over ``modules``, moved to ``device``."""
        self._replicas = [Replica(module, device, dtype, channels_last=channels_last) for module in modules]
        self._momenta = [torch.zeros_like(replica.parameters) for replica in self._replicas]
        self._bind()

    def _bind(self) -> None:
        self.blocks = [
            Block(r.parameters[None], r.gradients[None], momentum[None], r.decay_from)
            for r, momentum in zip(self._replicas, self._momenta, strict=True)
        ]

    def add_gradients(self, images: Tensor, labels: Tensor, smoothing: Tensor | None, normaliser: int) -> Tensor:
        """See :class:`Stack`."""
        losses = []
        for row, replica in enumerate(self._replicas):
            replica.zero_gradients()
            replica.module.train()
            share = 0.0 if smoothing is None else smoothing[row]
            loss = smoothed_loss(replica.module(images[row]), labels[row], share) / normaliser
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """See :class:`Stack`."""
        return torch.stack([replica.module.eval()(images) for replica in self._replicas])

    def average_statistics(self, reducer: FlatReducer) -> None:
        """See :class:`Stack`."""
        for replica in self._replicas:
            reducer.average_(replica.statistics)

    def keep(self, rows: Sequence[int]) -> None:
        """See :class:`Stack`."""
        self._replicas = [self._replicas[row] for row in rows]
        self._momenta = [self._momenta[row] for row in rows]
        self._bind()


def smoothed_loss(logits: Tensor, labels: Tensor, share: Tensor | float) -> Tensor:
    """The summed cross-entropy with targets (1 - share) one-hot + share uniform; [n, classes] and [n] to a scalar."""
    hard = F.cross_entropy(logits, labels, reduction="sum")
    if isinstance(share, float) and share == 0:
        return hard
    return (1 - share) * hard - share * F.log_softmax(logits, dim=1).mean(dim=1).sum()


class FusedStack:
    """Fully connected networks, all in each operation: batched products along a leading axis.

    The backward pass is written out. Its products go straight into the flat gradient, which saves memory traffic.
    """

    def __init__(self, modules: Sequence[nn.Module], device: torch.device, dtype: torch.dtype):
        """Copy the parameters of ``modules``, as :func:`~hpcsgd.models.fully_connected.fully_connected` makes them."""
        replicas = [Replica(module, device, dtype, channels_last=False) for module in modules]
        first = replicas[0]
        places = {id(p): slot for p, slot in zip(first.trainable, first.slots, strict=True)}
        layers = [m for m in first.module.modules() if isinstance(m, nn.Linear)]
        self._slots = [(places[id(layer.weight)], places[id(layer.bias)]) for layer in layers]
        self._decay_from = first.decay_from
        parameters = torch.stack([replica.parameters for replica in replicas])
        self._bind(parameters, torch.zeros_like(parameters))

    def _bind(self, parameters: Tensor, momentum: Tensor) -> None:
        """Make the views that the products work on, weights [R, out, in] and biases [R, 1, out]."""
        gradients = torch.zeros_like(parameters)
        self.blocks = [Block(parameters, gradients, momentum, self._decay_from)]

        def views(flat: Tensor) -> list[tuple[Tensor, Tensor]]:
            cut = [[flat[:, slot.start : slot.start + slot.numel] for slot in pair] for pair in self._slots]
            shapes = [weight.shape for weight, _ in self._slots]
            return [(w.view(-1, *shape), b.unsqueeze(1)) for (w, b), shape in zip(cut, shapes, strict=True)]

        self._layers, self._gradients = views(parameters), views(gradients)

    @torch.no_grad()
    def add_gradients(self, images: Tensor, labels: Tensor, smoothing: Tensor | None, normaliser: int) -> Tensor:
        """See :class:`Stack`."""
        inputs = [images.flatten(2)]
        for weight, bias in self._layers[:-1]:
            inputs.append(torch.baddbmm(bias, inputs[-1], weight.transpose(1, 2)).relu_())
        weight, bias = self._layers[-1]
        logs = torch.baddbmm(bias, inputs[-1], weight.transpose(1, 2)).log_softmax(dim=2)
        target = labels.unsqueeze(2)
        losses = -logs.gather(2, target).squeeze(2)
        delta = logs.exp()
        if smoothing is None:
            delta.scatter_add_(2, target, delta.new_full((1, 1, 1), -1.0).expand(target.shape))
        else:
            share = smoothing.view(-1, 1, 1)
            losses = losses.mul_(1 - share[:, 0]).sub_(share[:, 0] * logs.mean(dim=2))
            delta.sub_(share / logs.shape[2]).scatter_add_(2, target, (share - 1).expand(target.shape))
        delta.div_(normaliser)
        for layer in range(len(self._layers) - 1, -1, -1):
            weight_gradient, bias_gradient = self._gradients[layer]
            torch.bmm(delta.transpose(1, 2), inputs[layer], out=weight_gradient)
            torch.sum(delta, dim=1, keepdim=True, out=bias_gradient)
            if layer:
                delta = torch.bmm(delta, self._layers[layer][0]).mul_(inputs[layer] > 0)
        return losses.sum(dim=1).div_(normaliser)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """See :class:`Stack`."""
        weight, bias = self._layers[0]
        # All networks see the same images: one product for the first layer, by far the largest.
        together = images.flatten(1) @ weight.reshape(-1, weight.shape[2]).t()
        values = together.view(len(images), *weight.shape[:2]).transpose(0, 1) + bias
        for weight, bias in self._layers[1:]:
            values = torch.baddbmm(bias, values.relu_(), weight.transpose(1, 2))
        return values

    def average_statistics(self, reducer: FlatReducer) -> None:
        """There are none."""

    def keep(self, rows: Sequence[int]) -> None:
        """See :class:`Stack`."""
        block = self.blocks[0]
        self._bind(block.parameters[list(rows)], block.momentum[list(rows)])
