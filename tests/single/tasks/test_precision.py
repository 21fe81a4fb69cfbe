"""A task computes in its precision wherever a network, a loss or a metric of it is called, and only there."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.config import RunConfig
from hpcsgd.config.study import StudyConfig
from hpcsgd.data.batches import Batch
from hpcsgd.errors import UsageError
from hpcsgd.run.evaluate import evaluate
from hpcsgd.tasks.attempt import attempt
from hpcsgd.tasks.metrics import Mean
from hpcsgd.tasks.precision import AUTOCAST, float32_flags, make_autocast, set_float32
from hpcsgd.tasks.task import Task

CPU = torch.device("cpu")


def first_output(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss that leaves the type of the outputs as it is."""
    return outputs[:, 0] * (targets + 1)


class Halves:
    """A split of eight samples, in whatever batches."""

    def __len__(self) -> int:
        return 8

    def batches(self, start: int, stop: int, batch_size: int):  # type: ignore[no-untyped-def]
        """One batch."""
        yield torch.full((stop - start, 3), 0.1), torch.zeros(stop - start, dtype=torch.int64)


def task(precision: str) -> Task:
    """Three numbers to two."""
    made = Task(lambda seed: nn.Linear(3, 2), first_output, {"loss": Mean(first_output)})
    return replace(made, autocast=make_autocast(precision, CPU))


@pytest.mark.parametrize("precision", AUTOCAST)
def test_passes_and_metrics_are_cast_and_sums_are_not(precision: str) -> None:
    own = task(precision)
    module = own.new_module(0)
    inputs = torch.full((2, 3), 0.1)
    outputs = own.forward(module, inputs)
    assert outputs.dtype is AUTOCAST[precision]
    losses = own.losses(outputs, torch.zeros(2, dtype=torch.int64), 2)
    assert losses.dtype is torch.float32
    losses.sum().backward()
    assert {p.grad.dtype for p in module.parameters() if p.grad is not None} == {torch.float32}
    found = evaluate(own, module, Halves(), SingleCommunicator(), 8).values["loss"]
    assert found == outputs[0, 0].item() != module(inputs)[0, 0].item()
    # A new context each time: a step on the parameters is seen by the next pass.
    with torch.no_grad():
        module.weight.add_(1.0)
    assert own.forward(module, inputs)[0, 0].item() == pytest.approx(outputs[0, 0].item() + 0.3, abs=0.02)


def test_float32_asks_for_no_context() -> None:
    with mock.patch("torch.autocast", side_effect=AssertionError):
        for precision in ("float32", "tf32"):
            own = task(precision)
            outputs = own.forward(own.new_module(0), torch.ones(2, 3))
            own.losses(outputs, torch.zeros(2, dtype=torch.int64), 2)


def test_what_cannot_be_computed_so_is_named() -> None:
    class OnlyFloat32(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            if torch.is_autocast_enabled("cpu"):
                raise RuntimeError("no kernel")
            return super().forward(input)

    own = replace(task("float16"), new_module=lambda seed: OnlyFloat32(3, 2))
    batch = Batch(torch.ones(2, 3), torch.zeros(2, dtype=torch.int64), [2])
    with pytest.raises(UsageError, match="the model's forward pass fails in precision float16: .*no kernel"):
        attempt(own, own.new_module(0), batch)


def test_float32_on_a_gpu_is_what_the_recipe_says() -> None:
    try:
        for precision, kind in (("tf32", "tf32"), ("float32", "ieee"), ("bfloat16", "ieee")):
            set_float32(precision)
            assert float32_flags() == {"matmul": kind, "conv": kind, "rnn": kind}
            # Where these two sorts of settings disagree, torch refuses to read them.
            assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == (kind == "tf32")
    finally:
        set_float32("float32")


def test_precisions_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="precision is 'bfloat16', which counts for dtype float32 only"):
        RunConfig(local_batch_size=1, dtype="float64", precision="bfloat16")
    with pytest.raises(ValueError, match="precision is 'tf32', which counts for dtype float32 only"):
        StudyConfig(batch_sizes=(4,), dtype="float64", precision="tf32")
