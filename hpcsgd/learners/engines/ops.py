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

    def leaf(self) -> Tensor:
        """The values as autograd takes them; backward adds to the gradient in place."""
        if self.values.grad is None:
            self.values = self.values.detach().requires_grad_()
            self.values.grad = self.gradients
        return self.values


def as_images(batches: Tensor) -> Tensor:
    """[m, n, C, H, W] to [n, m C, H, W]."""
    return batches.transpose(0, 1).flatten(1, 2)


def as_features(images: Tensor, num_learners: int) -> Tensor:
    """[n, m C, ...] to [m, n, F]."""
    return images.reshape(len(images), num_learners, -1).transpose(0, 1)


class _Product(torch.autograd.Function):
    """x W' + b for each learner. The gradients of W and b go straight to the flat gradient, without a copy between."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Weights, bias: Weights | None, anchor: Tensor) -> Tensor:
        """Features [m, n, inputs] to [m, n, outputs]; ``anchor`` makes autograd come here at all."""
        ctx.save_for_backward(x)
        ctx.weight, ctx.bias = weight, bias
        transposed = weight.values.detach().transpose(1, 2)
        return torch.bmm(x, transposed) if bias is None else torch.baddbmm(bias.values.unsqueeze(1), x, transposed)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, None, None, None]:
        """Add to the gradients of W and b; that of x is given back."""
        (x,) = ctx.saved_tensors
        (outer_x,) = outer
        ctx.weight.gradients.baddbmm_(outer_x.transpose(1, 2), x)
        if ctx.bias is not None:
            ctx.bias.gradients.add_(outer_x.sum(1))
        return (torch.bmm(outer_x, ctx.weight.values.detach()) if ctx.needs_input_grad[0] else None), None, None, None


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

    def __init__(self, layer: nn.Conv2d, weight: Weights, bias: Weights | None) -> None:
        """Weights [m, O, I, kh, kw], biases [m, O]; the rest as ``layer`` has it."""
        self.weight, self.bias = weight, bias
        self.stride, self.padding, self.dilation, self.groups = (
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Images [n, m I, H, W] to [n, m O, H', W']."""
        weight = self.weight.leaf()
        bias = None if self.bias is None else self.bias.leaf().flatten()
        groups = self.groups * len(weight)
        return F.conv2d(images, weight.flatten(0, 1), bias, self.stride, self.padding, self.dilation, groups)


class BatchNorm:
    """BatchNorm of every learner: one with m times the channels. The running statistics go back to their rows."""

    def __init__(
        self, layer: nn.modules.batchnorm._BatchNorm, weight: Weights, bias: Weights, mean: Tensor, variance: Tensor
    ) -> None:
        """All of them [m, C]."""
        self.layer = layer
        self.weight, self.bias, self.mean, self.variance = weight, bias, mean, variance

    def __call__(self, images: Tensor) -> Tensor:
        """Images [n, m C, H, W] to the same shape."""
        mean, variance = self.mean.flatten(), self.variance.flatten()
        weight, bias = self.weight.leaf().flatten(), self.bias.leaf().flatten()
        training, momentum = self.layer.training, self.layer.momentum
        assert momentum is not None
        result = F.batch_norm(images, mean, variance, weight, bias, training, momentum, self.layer.eps)
        if training and mean.data_ptr() != self.mean.data_ptr():
            self.mean.copy_(mean.view_as(self.mean))
            self.variance.copy_(variance.view_as(self.variance))
        return result


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
