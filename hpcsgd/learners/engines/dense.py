"""Fully connected networks, all learners in each operation, with the backward pass written out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hpcsgd.comm.flat import Slot
from hpcsgd.data.batches import Batch
from hpcsgd.data.trees import Tree
from hpcsgd.learners.engines.base import Lap, NotPossibleError, no_lap, start_training
from hpcsgd.learners.engines.loop import LoopEngine
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.tasks.losses import CrossEntropy, Figure, cross_entropy, name_of
from hpcsgd.tasks.task import Task

Layers = list[tuple[Tensor, Tensor]]
"""Weights [m, out, in] and biases [m, 1, out] of each layer, as views of rows."""


class DenseEngine:
    """Batched products, whose results go straight into the flat gradient: that saves memory traffic and autograd.

    See :class:`~hpcsgd.learners.engines.base.Engine`.
    """

    name = "dense"
    calls_hooks = False

    def __init__(self, stack: ReplicaStack, task: Task) -> None:
        """Find the layers of ``stack``.

        Raises:
            NotPossibleError: the model is not as :func:`~hpcsgd.models.fully_connected.fully_connected` makes it, the
                loss is not the cross-entropy, or autocast, which knows nothing of this backward pass, is asked for.
        """
        if task.autocast is not None:
            raise NotPossibleError(
                f"the engine dense has no form of precision {task.autocast.name}: choose the engine fused"
            )
        self.stack = stack
        self.task = task
        self._smoothing = _smoothing(task.loss)
        self._slots = _slots(stack)
        self._bind()

    def _bind(self) -> None:
        """Take the rows of the stack."""
        self._size = len(self.stack)
        self._layers, self._gradients = self._views(self.stack.parameters), self._views(self.stack.gradients)

    def _views(self, flat: Tensor) -> Layers:
        """The layers in ``flat`` [m, P]."""
        stacked = self.stack.stacked
        return [(stacked(weight, flat), stacked(bias, flat).unsqueeze(1)) for weight, bias in self._slots]

    def passes(
        self, batch: Batch, normalisers: Sequence[float], size: int, lap: Lap = no_lap, *, fresh: bool = False
    ) -> Tensor:
        """See :class:`~hpcsgd.learners.engines.base.Engine`."""
        if not batch.is_even:
            # The last batch of an epoch that is kept: some learners have one sample more than others.
            return LoopEngine(self.stack, self.task).passes(batch, normalisers, size, lap, fresh=fresh)
        m, count = len(self.stack), batch.sizes[0]
        # Without samples nothing would be set.
        start_training(self.stack, fresh and not count)
        total = torch.zeros_like(self.stack.parameters[:, 0])
        if not count:
            return total
        if m != self._size:
            self._bind()
        inputs, labels = batch.inputs.reshape(m, count, -1), batch.targets.view(m, count, 1)
        over = _same_or_each(normalisers, inputs)
        for start in range(0, count, size):
            part = slice(start, start + size)
            own = (inputs, labels) if count <= size else (inputs[:, part], labels[:, part])
            total = total + self._pass(*own, over, fresh and not start)
        lap("backward")
        return total

    @torch.no_grad()
    def _pass(self, inputs: Tensor, labels: Tensor, normaliser: float | Tensor, fill: bool) -> Tensor:
        """One pass of inputs [m, n, features] and labels [m, n, 1]; the summed losses, [m]."""
        values = [inputs]
        for weight, bias in self._layers[:-1]:
            values.append(torch.baddbmm(bias, values[-1], weight.transpose(1, 2)).relu_())
        weight, bias = self._layers[-1]
        logs = torch.baddbmm(bias, values[-1], weight.transpose(1, 2)).log_softmax(dim=2)
        losses, delta = _cross_entropy(logs, labels, self._smoothing)
        delta.div_(normaliser)
        for layer in range(len(self._layers) - 1, -1, -1):
            weight_gradient, bias_gradient = self._gradients[layer]
            if fill:
                torch.bmm(delta.transpose(1, 2), values[layer], out=weight_gradient)
                torch.sum(delta, dim=1, keepdim=True, out=bias_gradient)
            else:
                weight_gradient.baddbmm_(delta.transpose(1, 2), values[layer])
                bias_gradient.add_(delta.sum(dim=1, keepdim=True))
            if layer:
                delta = torch.bmm(delta, self._layers[layer][0]).mul_(values[layer] > 0)
        return losses.sum(dim=1)

    @torch.no_grad()
    def outputs(self, inputs: Tree) -> Tree:
        """See :class:`~hpcsgd.learners.engines.base.Engine`."""
        if len(self.stack) != self._size:
            self._bind()
        weight, bias = self._layers[0]
        # All learners see the same inputs: one product for the first layer, by far the largest.
        together = inputs.flatten(1) @ weight.reshape(-1, weight.shape[2]).t()
        values = together.view(len(inputs), *weight.shape[:2]).transpose(0, 1) + bias
        for weight, bias in self._layers[1:]:
            values = torch.baddbmm(bias, values.relu_(), weight.transpose(1, 2))
        return values


def _cross_entropy(logs: Tensor, target: Tensor, smoothing: float | Tensor) -> tuple[Tensor, Tensor]:
    """The losses [m, n] of log-probabilities [m, n, classes], and their derivatives by the logits.

    Args:
        logs: of all learners.
        target: labels, [m, n, 1].
        smoothing: of all learners, or of each, [m].
    """
    losses = -logs.gather(2, target).squeeze(2)
    delta = logs.exp()
    if not isinstance(smoothing, Tensor) and not smoothing:
        delta.scatter_add_(2, target, delta.new_full((1, 1, 1), -1.0).expand(target.shape))
        return losses, delta
    share = torch.as_tensor(smoothing, dtype=logs.dtype, device=logs.device).view(-1, 1, 1)
    losses = losses.mul_(1 - share[:, 0]).sub_(share[:, 0] * logs.mean(dim=2))
    delta.sub_(share / logs.shape[2]).scatter_add_(2, target, (share - 1).expand(target.shape))
    return losses, delta


def _smoothing(loss: Figure) -> float | Tensor:
    """The label smoothing of the loss.

    Raises:
        NotPossibleError: it is not the cross-entropy.
    """
    if loss is cross_entropy:
        return 0.0
    if isinstance(loss, CrossEntropy):
        return loss.smoothing
    raise NotPossibleError(
        f"the engine dense takes cross_entropy alone, and the loss is {name_of(loss)}: choose the engine loop"
    )


def _slots(stack: ReplicaStack) -> list[tuple[Slot, Slot]]:
    """The places of weight and bias of each layer.

    Raises:
        NotPossibleError: the model has another part, which is named.
    """
    module = stack.module
    if type(module) is not nn.Sequential:
        raise _refusal(type(module).__name__, "")
    first = stack.replicas[0]
    places = {id(p): slot for p, slot in zip(first.trainable, first.slots, strict=True)}
    found = []
    children = list(module._modules.items())  # named_children leaves out what comes again
    for number, (path, layer) in enumerate(children):
        # Flatten, Linear, and then ReLU and Linear by turns.
        wanted: type[nn.Module] = nn.Flatten if not number else nn.Linear if number % 2 else nn.ReLU
        if type(layer) is not wanted or (isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) != (1, -1)):
            raise _refusal(type(layer).__name__, path)
        if isinstance(layer, nn.Linear):
            if layer.bias is None:
                raise _refusal("Linear without bias", path)
            if not {id(layer.weight), id(layer.bias)} <= places.keys():
                raise _refusal("a layer with frozen or tied parameters", path)
            # Taken once: a layer that comes again would overwrite its gradient.
            found.append((places.pop(id(layer.weight)), places.pop(id(layer.bias))))
    if len(children) % 2 or not found:
        raise _refusal("a network that does not end in Linear", children[-1][0] if children else "")
    return found


def _refusal(what: str, path: str) -> NotPossibleError:
    """Says which part of the model is not taken."""
    where = f" at {path}" if path else ""
    return NotPossibleError(
        f"the engine dense takes fully connected networks, and has no form of {what}{where}: choose the engine loop"
    )


def _same_or_each(normalisers: Sequence[float], like: Tensor) -> float | Tensor:
    """One number, or those of the learners, [m, 1, 1]."""
    if len(set(normalisers)) == 1:
        return normalisers[0]
    return torch.tensor(normalisers, device=like.device).view(-1, 1, 1)
