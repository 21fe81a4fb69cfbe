"""Engines in fewer bits: the fused one computes as the loop does, the dense one says that it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hpcsgd.learners.engines.base import NotPossibleError
from hpcsgd.learners.engines.choose import make_engine
from hpcsgd.learners.engines.fused import FusedEngine
from hpcsgd.learners.engines.loop import LoopEngine, ThreadsEngine
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.tasks.precision import make_autocast
from hpcsgd.tasks.task import Task
from tests.single.learners.engines.engine_nets import CPU, Build, batch, classify, make, of_package, take

SHAPE = (1, 8, 8)
EPS = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
"""Distance of 1 from the next number."""


def task(precision: str) -> Task:
    return replace(classify(), autocast=make_autocast(precision, CPU))


def after_two_passes(kind: type[LoopEngine | FusedEngine], build: Build, n: int, precision: str) -> ReplicaStack:
    stack = make(build, 3, torch.float32)
    engine = kind(stack, task(precision))
    for step in range(2):
        take(engine, batch(step, 3, n, SHAPE, torch.float32))
    return stack


def error(ours: Tensor, theirs: Tensor) -> float:
    """Of a row as a whole: a single element may be next to nothing, and all error."""
    return float(((ours - theirs).norm(dim=1) / theirs.norm(dim=1)).max())


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize(
    ("name", "precision"), [("fully_connected", "bfloat16"), ("fully_connected", "float16"), ("resnet8", "bfloat16")]
)
def test_the_fused_engine_computes_in_few_bits_as_the_loop_does(name: str, precision: str, n: int) -> None:
    """Sums of a convolution may be taken in another order, and then round to the next number; against float32 a few
    values change sign before a ReLU, which moves a gradient by more than any rounding."""
    build = of_package(name, SHAPE, **({"widths": (300, 80)} if name == "fully_connected" else {}))
    ours, theirs = (after_two_passes(kind, build, n, precision) for kind in (FusedEngine, LoopEngine))
    exact = after_two_passes(LoopEngine, build, n, "float32")
    assert error(ours.gradients, theirs.gradients) < 8 * EPS[precision]
    assert EPS[precision] / 2 < error(theirs.gradients, exact.gradients) < 64 * EPS[precision]
    if ours.statistics.numel():
        assert error(ours.statistics, theirs.statistics) < EPS[precision]
    outputs = [
        kind(theirs, task(precision)).outputs(batch(9, 1, 5, SHAPE, torch.float32).inputs)
        for kind in (FusedEngine, LoopEngine)
    ]
    assert outputs[0].dtype is outputs[1].dtype is not torch.float32
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=8 * EPS[precision] * float(outputs[1].abs().max()))


def test_threads_compute_in_few_bits_too() -> None:
    """Autocast is of the thread that enters it."""
    build = of_package("fully_connected", SHAPE, widths=(30,))
    ours, theirs = (after_two_passes(kind, build, 4, "bfloat16") for kind in (ThreadsEngine, LoopEngine))
    assert torch.equal(ours.gradients, theirs.gradients)


def test_the_dense_engine_has_no_form_of_it() -> None:
    stack = make(of_package("fully_connected", SHAPE, widths=(4,)), 2, torch.float32)
    with pytest.raises(NotPossibleError, match="dense has no form of precision bfloat16: choose the engine fused"):
        make_engine("dense", stack, task("bfloat16"))
