"""The operations of the fused engine: each does for all learners at once what a layer does for one.

Values have one of three forms: ``Form.BATCHES`` [m, n, C, H, W], the input as it comes; ``Form.IMAGES``
[n, m C, H, W], as grouped convolutions take it; ``Form.FEATURES`` [m, n, F], as batched products take it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcsgd.learners.dropout import StreamDropout

SMALL = 16384
"""Weights of a learner: with fewer, one batched product and a sum take less time than a product added to each row."""


class Form(Enum):
    """How a value holds the learner axis."""

    BATCHES = "[m, n, C, H, W]"
    IMAGES = "[n, m C, H, W]"
    FEATURES = "[m, n, F]"


@dataclass
class Weights:
    """One parameter of all learners, [m, ...], and its gradient; both are views of the stack."""

    values: Tensor
    gradients: Tensor


@dataclass
class Moments:
    """What a BatchNorm layer found of ``size`` values a channel, and what it moves by them: all [m C]."""

    mean: Tensor
    inverse_deviation: Tensor
    running_mean: Tensor
    running_variance: Tensor
    layer: nn.modules.batchnorm._BatchNorm
    size: int


def _move_statistics(found: Sequence[Moments]) -> None:
    """What ``F.batch_norm`` does with running statistics, for several layers: they take the variance without bias."""
    rates = [one.layer.momentum or 0.0 for one in found]
    unbiased = [rate * one.size / (one.size - 1) for rate, one in zip(rates, found, strict=True)]
    variances = torch._foreach_pow([one.inverse_deviation for one in found], -2.0)
    torch._foreach_sub_(variances, [one.layer.eps for one in found])
    torch._foreach_mul_(variances, unbiased)
    means = torch._foreach_mul([one.mean for one in found], rates)
    running = [one.running_mean for one in found] + [one.running_variance for one in found]
    torch._foreach_mul_(running, [1 - rate for rate in rates] * 2)
    torch._foreach_add_(running, [*means, *variances])


class Copies:
    """Dense copies [m O, ...] of what the kernels do not take in rows, and their way back to the rows.

    All are copied in one call before a pass, and one call brings the results back after it.
    """

    def __init__(self, order: torch.memory_format) -> None:
        """``order``: how filters lie in memory."""
        self.order = order
        self._rows: list[Tensor] = []
        self._dense: list[Tensor] = []
        self._gradients: list[Tensor] = []
        self.leaves: list[Tensor] = []
        self._statistics: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._found: list[Moments] = []

    def weights(self, weights: Weights) -> Tensor:
        """The copy of a parameter, a leaf of autograd."""
        dense = weights.values.flatten(0, 1)
        order = self.order if dense.dim() == 4 else torch.contiguous_format
        leaf = dense.clone(memory_format=order).requires_grad_()
        self._add(weights.values, leaf)
        self.leaves.append(leaf)
        self._gradients.append(weights.gradients)
        return leaf

    def statistics(self, rows: Tensor) -> Tensor:
        """The copy of running statistics, which a pass changes."""
        dense = rows.flatten(0, 1).clone()
        self._add(rows, dense)
        self._statistics[0].append(rows)
        self._statistics[1].append(dense.view(rows.shape))
        return dense

    def _add(self, rows: Tensor, dense: Tensor) -> None:
        self._rows.append(rows)
        self._dense.append(dense.detach().unflatten(0, rows.shape[:2]))

    def take(self) -> None:
        """Copy from the rows."""
        self._found.clear()
        if self._rows:
            torch._foreach_copy_(self._dense, self._rows)

    def found(self, moments: Moments) -> None:
        """Let running statistics move at the end of the pass, those of all layers together."""
        self._found.append(moments)

    def give_statistics(self) -> None:
        """Copy the statistics back to the rows."""
        if self._found:
            _move_statistics(self._found)
            self._found.clear()
        if self._statistics[0]:
            torch._foreach_copy_(*self._statistics)

    def add_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Add the gradients of the leaves to the rows."""
        if gradients:
            rows = self._gradients
            torch._foreach_add_(rows, [g.unflatten(0, t.shape[:2]) for g, t in zip(gradients, rows, strict=True)])


def memory_order(device: torch.device, num_images: int) -> torch.memory_format:
    """The order in which grouped convolutions of so many images of a learner are fastest."""
    return torch.channels_last if device.type == "cpu" and num_images > 1 else torch.contiguous_format


def as_images(batches: Tensor) -> Tensor:
    """[m, n, C, H, W] to [n, m C, H, W], in :func:`memory_order`."""
    images = batches.transpose(0, 1).flatten(1, 2)
    return images.contiguous(memory_format=memory_order(images.device, len(images)))


def as_features(images: Tensor, num_learners: int) -> Tensor:
    """[n, m C, ...] to [m, n, F]."""
    return images.reshape(len(images), num_learners, -1).transpose(0, 1)


class _Product(torch.autograd.Function):
    """x W' + b for each learner. The gradients of W and b go straight to the flat gradient, without a copy between.

    Within autocast the product is of few bits, and so are those of the backward pass; the flat gradient is not.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Weights, bias: Weights | None, anchor: Tensor) -> Tensor:
        """Features [m, n, inputs] to [m, n, outputs]; ``anchor`` makes autograd come here at all."""
        ctx.weight, ctx.bias = weight, bias
        transposed = weight.values.detach().transpose(1, 2)
        product = torch.bmm(x, transposed) if bias is None else torch.baddbmm(bias.values.unsqueeze(1), x, transposed)
        ctx.save_for_backward(x if x.dtype is product.dtype else x.to(product.dtype))
        return product

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, None, None, None]:
        """Add to the gradients of W and b; that of x is given back."""
        (x,) = ctx.saved_tensors
        (outer_x,) = outer
        gradients, values = ctx.weight.gradients, ctx.weight.values.detach()
        is_cast = outer_x.dtype is not values.dtype
        if is_cast or gradients[0].numel() < SMALL:
            gradients.add_(torch.bmm(outer_x.transpose(1, 2), x))
        else:
            gradients.baddbmm_(outer_x.transpose(1, 2), x)
        if ctx.bias is not None:
            ctx.bias.gradients.add_(outer_x.sum(1))
        if not ctx.needs_input_grad[0]:
            return None, None, None, None
        return torch.bmm(outer_x, values.to(outer_x.dtype) if is_cast else values), None, None, None


class Linear:
    """A linear layer of every learner: one batched product."""

    def __init__(self, weight: Weights, bias: Weights | None, anchor: Tensor) -> None:
        """Weights [m, outputs, inputs], biases [m, outputs]."""
        self.weight, self.bias, self.anchor = weight, bias, anchor

    def __call__(self, features: Tensor) -> Tensor:
        """Features [m, n, inputs] to [m, n, outputs]."""
        result: Tensor = _Product.apply(features, self.weight, self.bias, self.anchor)  # type: ignore[no-untyped-call]
        return result


class Convolution:
    """A convolution of every learner: one with m times the groups."""

    def __init__(self, layer: nn.Conv2d, weight: Tensor, bias: Tensor | None, num_learners: int) -> None:
        """Weights [m O, I, kh, kw], biases [m O]; the rest as ``layer`` has it."""
        self.weight, self.bias, self.groups = weight, bias, layer.groups * num_learners
        self.stride, self.padding, self.dilation = layer.stride, layer.padding, layer.dilation

    def __call__(self, images: Tensor) -> Tensor:
        """Images [n, m I, H, W] to [n, m O, H', W']."""
        return F.conv2d(images, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class BatchNorm:
    """BatchNorm of every learner: one with m times the channels."""

    def __init__(
        self,
        layer: nn.modules.batchnorm._BatchNorm,
        copies: Copies,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
    ) -> None:
        """All of them [m C]; the running statistics, of ``copies``, are changed in place."""
        self.layer = layer
        self.copies = copies
        self.weight, self.bias, self.mean, self.variance = weight, bias, mean, variance

    def __call__(self, images: Tensor) -> Tensor:
        """Images [n, m C, H, W] to the same shape."""
        layer = self.layer
        assert layer.momentum is not None
        n, channels, height, width = images.shape
        size = height * width
        if layer.training and n == 1 and size > 1 and images.device.type == "cpu":
            # Of one image, a channel is a plane, for which there is a faster kernel: a group of one channel each.
            result, mean, inverse = torch.native_group_norm(
                images, self.weight, self.bias, n, channels, size, channels, layer.eps
            )
            found = (mean.detach().flatten(), inverse.detach().flatten())
            self.copies.found(Moments(*found, self.mean, self.variance, layer, size))
            return result
        return F.batch_norm(
            images, self.mean, self.variance, self.weight, self.bias, layer.training, layer.momentum, layer.eps
        )


class Dropout:
    """Dropout of every learner, each from its own stream."""

    def __init__(self, layers: Sequence[StreamDropout], form: Form) -> None:
        """One layer of each learner."""
        self.layers, self.form = layers, form

    def __call__(self, values: Tensor) -> Tensor:
        """Drop some of ``values``."""
        if not self.layers[0].training or not self.layers[0].p:
            return values
        if self.form is Form.FEATURES:
            return values * torch.stack([layer.mask(part) for layer, part in zip(self.layers, values, strict=True)])
        parts = values.chunk(len(self.layers), dim=1)
        return values * torch.cat([layer.mask(part) for layer, part in zip(self.layers, parts, strict=True)], dim=1)


def pad(images: Tensor, pads: Sequence[int], value: float, num_learners: int) -> Tensor:
    """``F.pad`` with ``pads`` of the last axes, perhaps of the channels of each learner."""
    if len(pads) <= 4:
        return F.pad(images, list(pads), value=value)
    apart = images.unflatten(1, (num_learners, -1))
    return F.pad(apart, list(pads), value=value).flatten(1, 2)


def concatenate(images: Sequence[Tensor], num_learners: int) -> Tensor:
    """Concatenate the channels of each learner."""
    return torch.cat([part.unflatten(1, (num_learners, -1)) for part in images], dim=2).flatten(1, 2)
