"""All learners in one pass give what one after another give."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from hpcsgd.config import ModelConfig, OptimizerConfig
from hpcsgd.config.workload import LANGUAGE_MODELS, ModelName
from hpcsgd.learners.engines.base import Engine, NotPossibleError
from hpcsgd.learners.engines.fused import FusedEngine
from hpcsgd.learners.engines.loop import LoopEngine
from hpcsgd.learners.replica import Replica
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.models import build_model
from hpcsgd.optim.sgd import RowSGD
from tests.single.learners.engines.engine_nets import (
    CPU,
    batch,
    classify,
    densenet_small,
    make,
    of_package,
    take,
    vgg11_narrow,
    wide_resnet_small,
    with_dropout,
)

SMALL = {
    "linear": (of_package("fully_connected", widths=()), (1, 12, 12), 50),
    "fully_connected": (of_package("fully_connected", widths=(16, 8)), (1, 12, 12), 50),
    "dropout": (with_dropout, (1, 8, 8), 50),
    "lenet": (of_package("lenet"), (1, 12, 12), 50),
    "simple_cnn_narrow": (of_package("simple_cnn_narrow", (1, 4, 4)), (1, 4, 4), 50),
    "simple_cnn_base": (of_package("simple_cnn_base", (1, 4, 4)), (1, 4, 4), 50),
    "resnet8": (of_package("resnet8", (1, 8, 8)), (1, 8, 8), 50),
    # Images of which the last convolution still sees 2x2 pixels: BatchNorm of two values amplifies rounding 1e9 times.
    "vgg11": (vgg11_narrow, (3, 32, 32), 50),
    "densenet40_12": (densenet_small, (3, 8, 8), 50),
    "wideresnet28_10": (wide_resnet_small, (3, 8, 8), 50),
    "simple_cnn_wide": (of_package("simple_cnn_wide", (1, 4, 4)), (1, 4, 4), 50),
    "resnet20": (of_package("resnet20", (3, 8, 8)), (3, 8, 8), 50),
    "resnet32": (of_package("resnet32", (3, 8, 8)), (3, 8, 8), 50),
    "resnet56": (of_package("resnet56", (3, 8, 8)), (3, 8, 8), 50),
}
"""Networks, images and steps. What is too large for a test is of the package's own class, with fewer layers or filters.
"""
RATES = {"resnet20": 1e-3, "resnet32": 1e-3, "resnet56": 1e-3}
"""Learning rates where the others' is chaos: the loop against itself with one bit changed then differs as much."""
Shape = tuple[int, int, int]


def train(engine: Engine, stack: ReplicaStack, steps: int, shape: Shape, n: int = 2, rate: float = 0.01) -> Tensor:
    """The losses [steps, m] under momenta, rates and weight decays of each learner."""
    m = len(stack)
    config = OptimizerConfig(momentum=0.9, nesterov=True)
    momenta, decays = [0.9 - 0.1 * j for j in range(m)], [1e-3 * j for j in range(m)]
    sgd = RowSGD(config, stack.rows, momentum=momenta, weight_decay=decays)
    losses = []
    for step in range(steps):
        losses.append(take(engine, batch(step, m, n, shape, stack.dtype)))
        sgd.step(m, [rate / (j + 1) for j in range(m)])
        stack.zero_gradients()
    return torch.stack(losses)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", SMALL)
def test_fused_training_equals_the_loop(name: str, channels_last: bool) -> None:
    build, shape, steps = SMALL[name]
    loop, fused = (make(build, 3, channels_last=channels_last) for _ in range(2))
    steps = 2 if channels_last else steps
    rate = RATES.get(name, 0.01)
    expected = train(LoopEngine(loop, classify()), loop, steps, shape, rate=rate)
    ours = train(FusedEngine(fused, classify()), fused, steps, shape, rate=rate)
    scale = loop.parameters.abs().max()
    assert (fused.parameters - loop.parameters).abs().max() <= 1e-12 * scale
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(fused.statistics, loop.statistics, rtol=1e-12, atol=1e-12)
    assert torch.equal(fused.counts, loop.counts)
    images = batch(99, 1, 4, shape).inputs
    torch.testing.assert_close(
        FusedEngine(fused, classify()).outputs(images),
        LoopEngine(loop, classify()).outputs(images),
        rtol=1e-11,
        atol=1e-11,
    )


@pytest.mark.parametrize("n", [1, 3])
def test_fused_equals_the_loop_at_other_batches(n: int) -> None:
    build, shape, _ = SMALL["resnet8"]
    loop, fused = (make(build, 3) for _ in range(2))
    train(LoopEngine(loop, classify()), loop, 10, shape, n)
    train(FusedEngine(fused, classify()), fused, 10, shape, n)
    assert (fused.parameters - loop.parameters).abs().max() <= 1e-12 * loop.parameters.abs().max()
    torch.testing.assert_close(fused.statistics, loop.statistics, rtol=1e-12, atol=1e-12)


def test_batches_of_one_image_and_of_several_take_turns() -> None:
    build, shape, _ = SMALL["resnet8"]
    loop, fused = (make(build, 3) for _ in range(2))
    for engine in (LoopEngine(loop, classify()), FusedEngine(fused, classify())):
        for step, n in enumerate((3, 1, 1, 2)):
            take(engine, batch(step, 3, n, shape))
    torch.testing.assert_close(fused.gradients, loop.gradients, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(fused.statistics, loop.statistics, rtol=1e-12, atol=1e-12)
    assert torch.equal(fused.counts, loop.counts)


def test_float32_to_1e_5() -> None:
    build = of_package("fully_connected", widths=(16, 8))
    loop, fused = (make(build, 4, torch.float32) for _ in range(2))
    train(LoopEngine(loop, classify()), loop, 50, (1, 12, 12))
    train(FusedEngine(fused, classify()), fused, 50, (1, 12, 12))
    for ours, expected in zip(fused.parameters, loop.parameters, strict=True):
        assert (ours - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("name", SMALL)
def test_a_learner_does_not_feel_the_data_of_another(name: str, n: int) -> None:
    build, shape, _ = SMALL[name]
    results = []
    for changed in (False, True):
        stack = make(build, 4)
        given = batch(0, 4, n, shape)
        if changed:
            given.inputs[2 * n : 3 * n] = 7 - given.inputs[2 * n : 3 * n]
        take(FusedEngine(stack, classify()), given)
        results.append(torch.cat((stack.gradients, stack.statistics), dim=1))
    same = [torch.equal(a, b) for a, b in zip(*results, strict=True)]
    assert same == [True, True, False, True]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradients_are_added_and_normalised_for_each_learner(smoothing: float) -> None:
    build, shape, _ = SMALL["lenet"]
    stacks = []
    for kind in (LoopEngine, FusedEngine):
        stack = make(build, 3)
        engine = kind(stack, classify(smoothing))
        for step in range(2):
            take(engine, batch(step, 3, 2, shape), [2.0, 3.0, 5.0])
        stacks.append(stack)
    torch.testing.assert_close(stacks[1].gradients, stacks[0].gradients, rtol=1e-12, atol=1e-12)


def test_learners_can_be_dropped_between_steps() -> None:
    build, shape, _ = SMALL["dropout"]
    stacks = []
    for kind in (LoopEngine, FusedEngine):
        stack = make(build, 4)
        engine = kind(stack, classify())
        train(engine, stack, 2, shape)
        stack.keep([3, 1])
        train(engine, stack, 2, shape)
        stacks.append(stack)
    torch.testing.assert_close(stacks[1].parameters, stacks[0].parameters, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_language_models_are_refused(name: str) -> None:
    model = build_model(ModelConfig(name=name, embedding=8, hidden=8), (6,), 5, 0)  # type: ignore[arg-type]
    with pytest.raises(NotPossibleError, match="the fused engine has no form of .*: choose the engine loop"):
        FusedEngine(ReplicaStack([Replica(model, CPU, torch.float64, channels_last=False)]), classify())


def test_no_model_is_left_out() -> None:
    from_torchvision = {"resnet50"}
    assert set(get_args(ModelName)) == set(SMALL) - {"linear", "dropout"} | set(LANGUAGE_MODELS) | from_torchvision


class Sees(nn.Module):
    """A model with a part that has no fused form."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Flatten(), part, nn.Linear(4, 1))

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.inner(images)
        return result


@pytest.mark.parametrize("part", [nn.LayerNorm(4), nn.Softplus(), nn.Bilinear(2, 2, 2)])
def test_what_has_no_fused_form_is_refused_with_path_and_type(part: nn.Module) -> None:
    if isinstance(part, nn.Bilinear):
        part = nn.Sequential(nn.Linear(4, 2), nn.Tanh())
    stack = ReplicaStack([Replica(Sees(part), CPU, torch.float32, channels_last=False)])
    place = "inner.1.1" if isinstance(part, nn.Sequential) else "inner.1"
    kind = "Tanh" if isinstance(part, nn.Sequential) else type(part).__name__
    with pytest.raises(NotPossibleError, match=f"{kind} at {place}"):
        FusedEngine(stack, classify())


def test_a_forward_pass_that_depends_on_values_is_refused() -> None:
    class Branches(nn.Linear):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images if images.sum() > 0 else -images)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = Branches(2, 2)

        def forward(self, images: Tensor) -> Tensor:
            result: Tensor = self.part(images)
            return result

    stack = ReplicaStack([Replica(Outer(), CPU, torch.float32, channels_last=False)])
    with pytest.raises(NotPossibleError, match="Outer"):
        FusedEngine(stack, classify())
