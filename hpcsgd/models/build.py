"""From a ``ModelConfig`` to a network with its initial parameters."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hpcsgd.config import ModelConfig
from hpcsgd.config.workload import LANGUAGE_MODELS
from hpcsgd.errors import UsageError
from hpcsgd.models.convolutional import lenet, simple_cnn
from hpcsgd.models.densenet import DenseNet
from hpcsgd.models.fully_connected import fully_connected
from hpcsgd.models.imagenet import resnet50
from hpcsgd.models.language import LSTMModel, Transformer
from hpcsgd.models.resnet import CifarResNet
from hpcsgd.models.vgg import Vgg11
from hpcsgd.models.wide_resnet import WideResNet

# filters of the two convolutions, units of the hidden layer
_SIMPLE_CNN_SIZES = {
    "simple_cnn_narrow": (16, 32, 512),
    "simple_cnn_base": (32, 64, 1024),
    "simple_cnn_wide": (64, 128, 2048),
}
_SMALLEST_SIDE = {
    "fully_connected": 1,
    "simple_cnn": 4,
    "lenet": 12,
    "resnet50": 32,
    "resnet": 8,
    "vgg": 8,
    "densenet": 8,
    "wideresnet": 8,
}
"""Height and width that a family needs; the first that a name begins with counts."""


def build_model(config: ModelConfig, shape: tuple[int, ...], num_classes: int, seed: int) -> nn.Module:
    """Build a network whose parameters depend on ``seed`` alone; torch's global generators stay untouched.

    Args:
        config: architecture.
        shape: channels, height, width of an image; of a text, the tokens of a sequence.
        num_classes: outputs.
        seed: of the initial parameters.

    Returns:
        The network, float32 on the CPU, in training mode: images [n, C, H, W] to logits [n, num_classes], or tokens
        [n, T] to logits [n, T, num_classes].

    Raises:
        UsageError: the images are too small for the architecture.
    """
    if config.name not in LANGUAGE_MODELS:
        _check_size(config, shape)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that would reseed the GPUs' generators too.
        torch.default_generator.manual_seed(seed)
        model = _build(config, shape, num_classes)
    if config.channels_last is True:
        for parameter in model.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


def check_none_made(module: nn.Module, known: Collection[int]) -> None:
    """Refuse parameters that a module has made, or put in the place of others, since it was built.

    Args:
        module: the network.
        known: the ``id`` of each parameter that it had.

    Raises:
        UsageError: there is another one; names it.
    """
    for name, parameter in module.named_parameters():
        if id(parameter) not in known:
            raise UsageError(
                f"the model's parameter {name} was made after the start: no optimizer steps it, and no ranks share it; "
                "make all parameters where the model is made, and change their values in place"
            )


def check_passes(
    new_module: Callable[[], nn.Module], forward: Callable[[nn.Module], object], sizes: Collection[int]
) -> None:
    """Refuse passes of one sample where a BatchNorm layer then sees one value a channel, whose variance is not there.

    Args:
        new_module: makes the network.
        forward: takes one sample through it.
        sizes: samples of the passes in training.

    Raises:
        UsageError: a pass of one sample is among them, and the network cannot take it.
    """
    if 1 not in sizes:
        return
    module = new_module().train()
    if not any(isinstance(layer, _BatchNorm) for layer in module.modules()):
        return
    try:
        with torch.no_grad():
            forward(module)
    except Exception as error:
        if "more than 1 value per channel" not in str(error):
            # What else is wrong with a user's network is said where a batch is tried.
            return
        raise UsageError(
            "a pass of training would have one sample, of which BatchNorm can take no variance in this network: choose "
            "a larger local batch, fewer accumulation_steps or, where the last batch of an epoch is so small, "
            "data.tail: drop or wrap"
        ) from error


def _check_size(config: ModelConfig, shape: tuple[int, ...]) -> None:
    """Refuse images that are too small for the architecture."""
    smallest = next(side for family, side in _SMALLEST_SIDE.items() if config.name.startswith(family))
    if min(shape[1:], default=smallest) < smallest:
        raise UsageError(
            f"model.name is {config.name!r}, which needs images of at least {smallest}x{smallest} pixels, but the data "
            f"set has {shape[1]}x{shape[2]}: choose fully_connected or another data set"
        )


def _build(config: ModelConfig, shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """The network, initialised from torch's generator."""
    if config.name == "lstm":
        return LSTMModel(num_classes, config.embedding, config.hidden, config.layers)
    if config.name == "transformer":
        sizes = (config.embedding, config.hidden, config.layers, config.heads)
        return Transformer(num_classes, shape[0], *sizes)
    if config.name == "fully_connected":
        return fully_connected(shape, config.widths, num_classes)
    return _build_for_images(config, (shape[0], shape[1], shape[2]), num_classes)


def _build_for_images(config: ModelConfig, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """A network for images [n, C, H, W]."""
    if config.name == "lenet":
        return lenet(shape, num_classes)
    if config.name in _SIMPLE_CNN_SIZES:
        return simple_cnn(shape, *_SIMPLE_CNN_SIZES[config.name], num_classes)
    if config.name == "vgg11":
        return Vgg11(shape[0], num_classes)
    if config.name == "densenet40_12":
        return DenseNet(shape[0], 12, 12, num_classes)
    if config.name == "wideresnet28_10":
        return WideResNet(shape[0], 4, 10, num_classes, zero_gamma=config.zero_gamma)
    if config.name == "resnet50":
        return resnet50(shape[0], num_classes, zero_gamma=config.zero_gamma)
    num_layers = int(config.name.removeprefix("resnet"))
    return CifarResNet(shape[0], (num_layers - 2) // 6, num_classes, zero_gamma=config.zero_gamma)
