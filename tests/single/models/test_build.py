"""Networks: sizes in closed form, outputs, determinism."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import types
import typing

import pytest
import torch
from torch import Tensor, nn

from hpcsgd.config import ModelConfig
from hpcsgd.config.workload import LANGUAGE_MODELS, ModelName
from hpcsgd.errors import UsageError
from hpcsgd.models import build_model, check_passes
from hpcsgd.models.wide_resnet import PreActivationBlock

HEAVY = ("wideresnet28_10",)
NAMES = [name for name in typing.get_args(ModelName) if name not in (*HEAVY, *LANGUAGE_MODELS, "resnet50")]
"""Networks for images that are built often here; resnet50 comes from torchvision, which tests do without."""
DIGIT, PHOTO = (1, 28, 28), (3, 32, 32)


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def convolution(inputs: int, outputs: int, side: int = 5) -> int:
    return inputs * outputs * side * side + outputs


def simple_cnn(channels: int, side: int, filters1: int, filters2: int, hidden: int) -> int:
    convolutions = convolution(channels, filters1) + convolution(filters1, filters2)
    return convolutions + linear(filters2 * (side // 4) ** 2, hidden) + linear(hidden, 10)


def lenet(channels: int) -> int:
    return convolution(channels, 6) + convolution(6, 16) + linear(400, 120) + linear(120, 84) + linear(84, 10)


def resnet(channels: int, n: int) -> int:
    """3x3 weights, and scale and shift for each filter; no biases, no shortcut parameters."""
    first = 9 * channels * 16 + 2 * 16
    within = sum((2 * n - (width > 16)) * (9 * width * width + 2 * width) for width in (16, 32, 64))
    between = sum(9 * width * 2 * width + 2 * 2 * width for width in (16, 32))
    return first + within + between + linear(64, 10)


def vgg11(channels: int) -> int:
    """3x3 weights, and scale and shift for each filter; one linear layer."""
    widths = (channels, 64, 128, 256, 256, 512, 512, 512, 512)
    return sum(9 * a * b + 2 * b for a, b in zip(widths, widths[1:], strict=False)) + linear(512, 10)


def densenet(channels: int, layers: int, growth: int) -> int:
    """Each layer: scale and shift of its inputs, 3x3 weights; each transition: the same with 1x1 weights."""
    total, width = 9 * channels * 16, 16
    for block in range(3):
        if block:
            total += 2 * width + width * width
        for _ in range(layers):
            total += 2 * width + 9 * width * growth
            width += growth
    return total + 2 * width + linear(width, 10)


def wide_resnet(channels: int, n: int, widen: int) -> int:
    """3x3 weights, scale and shift before each convolution, a 1x1 shortcut into each stage."""
    total, inputs = 9 * channels * 16, 16
    for width in (16 * widen, 32 * widen, 64 * widen):
        total += inputs * width
        for _ in range(n):
            total += 2 * inputs + 9 * inputs * width + 2 * width + 9 * width * width
            inputs = width
    return total + 2 * inputs + linear(inputs, 10)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("vgg11", PHOTO, vgg11(3)),
        ("vgg11", DIGIT, vgg11(1)),
        ("densenet40_12", PHOTO, densenet(3, 12, 12)),
        ("densenet40_12", PHOTO, 1019722),
        ("wideresnet28_10", PHOTO, wide_resnet(3, 4, 10)),
        ("wideresnet28_10", PHOTO, 36479194),
        ("fully_connected", DIGIT, linear(784, 256) + linear(256, 256) + linear(256, 10)),
        ("simple_cnn_narrow", DIGIT, simple_cnn(1, 28, 16, 32, 512)),
        ("simple_cnn_base", DIGIT, simple_cnn(1, 28, 32, 64, 1024)),
        ("simple_cnn_wide", DIGIT, simple_cnn(1, 28, 64, 128, 2048)),
        ("simple_cnn_base", PHOTO, simple_cnn(3, 32, 32, 64, 1024)),
        ("lenet", DIGIT, lenet(1)),
        ("lenet", DIGIT, 61706),
        ("lenet", PHOTO, lenet(3)),
        ("resnet8", PHOTO, resnet(3, 1)),
        ("resnet20", PHOTO, resnet(3, 3)),
        ("resnet20", PHOTO, 269722),
        ("resnet20", DIGIT, resnet(1, 3)),
        ("resnet32", PHOTO, resnet(3, 5)),
        ("resnet56", PHOTO, resnet(3, 9)),
    ],
)
def test_number_of_parameters(name: ModelName, shape: tuple[int, int, int], expected: int) -> None:
    model = build_model(ModelConfig(name=name), shape, 10, seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


@pytest.mark.parametrize("widths", [(), (7,), (8, 6, 5)])
def test_widths_of_a_fully_connected_net(widths: tuple[int, ...]) -> None:
    model = build_model(ModelConfig(widths=widths), (2, 3, 4), 5, seed=0)
    sides = (24, *widths, 5)
    assert [tuple(p.shape) for p in model.parameters() if p.dim() == 2] == list(zip(sides[1:], sides[:-1], strict=True))
    assert sum(isinstance(module, nn.ReLU) for module in model.modules()) == len(widths)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [DIGIT, PHOTO, (2, 13, 17)])
def test_outputs_and_gradients(name: ModelName, shape: tuple[int, int, int]) -> None:
    model = build_model(ModelConfig(name=name), shape, 7, seed=0)
    logits = model(torch.randn(2, *shape))
    assert logits.shape == (2, 7)
    assert logits.dtype == torch.float32
    logits.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_parameters_depend_on_the_seed_alone(name: ModelName) -> None:
    def build(seed: int) -> Tensor:
        return nn.utils.parameters_to_vector(build_model(ModelConfig(name=name), DIGIT, 10, seed).parameters())

    first = build(1)
    torch.manual_seed(123)
    state = torch.get_rng_state()
    again = build(1)
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first, build(2))


def test_initial_parameters_of_a_resnet() -> None:
    model = build_model(ModelConfig(name="resnet20"), PHOTO, 10, seed=0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            expected = (2 / (9 * module.out_channels)) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=0.15)
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
        if isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.01, rel=0.15)
            assert (module.bias == 0).all()


def test_zero_gamma_makes_each_block_its_shortcut() -> None:
    plain, zero = (
        build_model(ModelConfig(name="resnet8", zero_gamma=zero_gamma), PHOTO, 10, seed=0)
        for zero_gamma in (False, True)
    )
    zeros = [name for name, value in zero.named_parameters() if name.endswith("weight") and (value == 0).all()]
    assert zeros == [f"blocks.{block}.norm2.weight" for block in range(3)]
    features = torch.rand(2, 16, 9, 8)
    blocks: list[nn.Sequential] = [model.get_submodule("blocks") for model in (plain, zero)]  # type: ignore[misc]
    assert torch.equal(blocks[1][0](features), features)
    assert not torch.equal(blocks[0][0](features), features)
    reduced = blocks[1][1](features)
    assert torch.equal(reduced[:, 8:24], features[:, :, ::2, ::2])
    assert (reduced[:, :8] == 0).all()
    assert (reduced[:, 24:] == 0).all()
    other = dict(zero.named_parameters())
    assert all(torch.equal(value, other[name]) for name, value in plain.named_parameters() if name not in zeros)


@pytest.mark.parametrize("name", ["simple_cnn_base", "lenet", "resnet8"])
def test_channels_last_changes_the_memory_order_only(name: ModelName) -> None:
    plain, last = (
        build_model(ModelConfig(name=name, channels_last=channels_last), PHOTO, 10, 0)
        for channels_last in (False, True)
    )
    for one, other in zip(plain.parameters(), last.parameters(), strict=True):
        assert torch.equal(one, other)
        assert other.dim() < 4 or other.is_contiguous(memory_format=torch.channels_last)
    images = torch.randn(2, *PHOTO)
    torch.testing.assert_close(last(images.to(memory_format=torch.channels_last)), plain(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "smallest"), [("fully_connected", 1), ("simple_cnn_wide", 4), ("lenet", 12), ("resnet8", 8)]
)
def test_smallest_images(name: ModelName, smallest: int) -> None:
    model = build_model(ModelConfig(name=name), (3, smallest, smallest), 4, seed=0)
    assert model(torch.randn(2, 3, smallest, smallest)).shape == (2, 4)
    if smallest > 1:
        for shape in ((3, smallest - 1, 40), (3, 40, smallest - 1)):
            with pytest.raises(
                UsageError, match=f"{name}.*at least {smallest}x{smallest} pixels.*{shape[1]}x{shape[2]}"
            ):
                build_model(ModelConfig(name=name), shape, 4, seed=0)


def test_a_model_learns_from_zero_gamma_too() -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig(name="resnet8", zero_gamma=True), (1, 8, 8), 2, seed=0)
    images, labels = torch.randn(16, 1, 8, 8), torch.arange(16) % 2
    images += labels.view(-1, 1, 1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(15):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_a_wide_resnet_runs_forward_and_backward() -> None:
    model = build_model(ModelConfig(name="wideresnet28_10", zero_gamma=True), (1, 8, 8), 3, seed=0)
    logits = model(torch.randn(2, 1, 8, 8))
    assert logits.shape == (2, 3)
    logits.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_zero_gamma_makes_a_wide_block_its_shortcut() -> None:
    block = PreActivationBlock(4, 4, 1, zero_gamma=True)
    features = torch.randn(2, 4, 5, 5)
    assert torch.equal(block(features), features)


def test_resnet50_comes_from_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for torchvision: what it is asked for, and what is made of its network."""
    asked = {}

    class Stub(nn.Module):
        def __init__(self, **options: object) -> None:
            super().__init__()
            asked.update(options)
            self.fc = nn.Linear(2048, 1000)

    package = types.ModuleType("torchvision")
    package.__spec__ = importlib.machinery.ModuleSpec("torchvision", None)
    package.models = types.SimpleNamespace(resnet50=Stub)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", package)
    model = build_model(ModelConfig(name="resnet50", zero_gamma=True), (3, 224, 224), 1000, seed=0)
    assert asked == {"weights": None, "num_classes": 1000, "zero_init_residual": True}
    assert model.fc.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert (model.fc.bias == 0).all()
    with pytest.raises(UsageError, match="needs images of 3 channels, but the data set has 1"):
        build_model(ModelConfig(name="resnet50"), (1, 224, 224), 1000, seed=0)


def test_resnet50_without_torchvision_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"torchvision, and that is not installed: pip install 'hpcsgd\[imagenet\]'"):
        build_model(ModelConfig(name="resnet50"), (3, 224, 224), 1000, seed=0)


@pytest.mark.parametrize(("name", "refused"), [("vgg11", True), ("resnet8", False), ("fully_connected", False)])
def test_a_pass_of_one_sample_is_refused_where_batch_norm_cannot_take_it(name: ModelName, refused: bool) -> None:
    shape = (3, 8, 8)

    def new_module() -> nn.Module:
        return build_model(ModelConfig(name), shape, 10, seed=0)

    check_passes(new_module, lambda module: module(torch.zeros(1, *shape)), {2, 3})
    if refused:
        with pytest.raises(UsageError, match="one sample"):
            check_passes(new_module, lambda module: module(torch.zeros(1, *shape)), {1, 3})
    else:
        check_passes(new_module, lambda module: module(torch.zeros(1, *shape)), {1, 3})
