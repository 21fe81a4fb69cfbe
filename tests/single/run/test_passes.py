"""Passes that call hooks at the wrong time launch nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hpcsgd.comm.flat import layout
from hpcsgd.comm.gradients import Buckets, GradientAllreduce
from hpcsgd.data.batches import Batch
from hpcsgd.learners.engines.cuda import GraphEngine
from hpcsgd.learners.engines.dense import DenseEngine
from hpcsgd.learners.engines.fused import FusedEngine
from hpcsgd.learners.engines.loop import LoopEngine
from hpcsgd.run import passes
from hpcsgd.run.passes import forward_backward
from tests.single.learners.engines.engine_nets import batch, classify, make, of_package, take


class Sums(GradientAllreduce):
    """Doubles each bucket, as if another rank had the same, and notes when."""

    name = "sums"

    def __init__(self, buckets: Buckets) -> None:
        super().__init__(buckets, overlap=True)
        self.launched: list[int] = []

    def launch(self, index: int, bucket: Tensor) -> None:
        self.launched.append(index)
        bucket.mul_(2)

    def wait(self) -> None:
        """It is done."""

    def shut_down(self) -> None:
        """Nothing to end."""


class Warming:
    """Takes passes as a graph does: some to warm up, whose gradients are put back to zero; a replay calls no hook."""

    name = "warming"

    def __init__(self, net: nn.Module, flat: Tensor, *, calls_hooks: bool) -> None:
        self.net, self.flat, self.calls_hooks = net, flat, calls_hooks

    def passes(self, *_given: object) -> Tensor:
        for _ in range(3):
            self.net(torch.ones(1, 2)).sum().backward()
        self.flat.zero_()
        self.flat.add_(1.0)
        return torch.zeros(1)


def reduced(*, calls_hooks: bool) -> tuple[list[int], Tensor]:
    """The gradient of a step, summed over two ranks that are alike, and what was launched within its passes."""
    net = nn.Linear(2, 1)
    parameters = list(net.parameters())
    slots, total = layout(parameters)
    flat = torch.zeros(total)
    for parameter, slot in zip(parameters, slots, strict=True):
        parameter.grad = slot.view(flat)
    gradients = Sums(Buckets(flat, parameters, slots, 1))
    gradients.arm(1)
    parts: Any = SimpleNamespace(
        plan=SimpleNamespace(num_global=lambda step: 1, local_batch_size=1),
        config=SimpleNamespace(accumulation_steps=1),
        algorithm=SimpleNamespace(normaliser=lambda step, size, num_global: 1.0, loss_scale=None),
        timer=SimpleNamespace(lap=None),
        task=SimpleNamespace(is_weighted=False),
        gradients=gradients,
        compute=None,
        engine=Warming(net, flat, calls_hooks=calls_hooks),
    )
    forward_backward(parts, 0, Batch(torch.ones(1, 2), torch.zeros(1), [1]))
    within = list(gradients.launched)
    gradients.finish()
    return within, flat


def test_the_first_step_of_a_graph_is_summed_over_the_ranks() -> None:
    within, flat = reduced(calls_hooks=False)
    assert within == [] and (flat == 2.0).all()
    # What it is there for: passes that say they call hooks as they should are believed.
    within, flat = reduced(calls_hooks=True)
    assert len(within) == 2 and (flat == 1.0).all()


class OnGpu:
    """Learners of a GPU."""

    device = torch.device("cuda")

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return self.number


@pytest.mark.parametrize(
    ("number", "overlap", "is_own", "tried"),
    [
        (1, False, False, ["loop", "graph"]),
        (1, True, False, None),
        (1, False, True, None),
        (2, False, True, ["loop", "fused", "dense", "streams", "graph"]),
    ],
)
def test_for_one_learner_a_graph_is_tried_where_it_hides_nothing_and_repeats_all(
    monkeypatch: pytest.MonkeyPatch, number: int, overlap: bool, is_own: bool, tried: list[str] | None
) -> None:
    class Tried(Exception):
        """Carries what would be timed."""

    def told(*_given: object, factories: dict[str, Any], **_others: object) -> None:
        raise Tried(list(factories))

    monkeypatch.setattr(passes, "choose_engine", told)
    parts: Any = SimpleNamespace(
        config=SimpleNamespace(engine="auto", accumulation_steps=1),
        trials=None,
        learners=OnGpu(number),
        is_own=is_own,
        gradients=SimpleNamespace(overlap=overlap),
        plan=SimpleNamespace(num_global=lambda step: 4, global_batch_size=4, local_batch_size=4),
        task=None,
        loader=SimpleNamespace(batch=lambda step: None),
        comm=SimpleNamespace(barrier=None, allgather_object=None),
    )
    try:
        found = passes.choose(parts)
    except Tried as names:
        assert names.args[0] == tried
    else:
        assert tried is None and found is parts


def test_engines_say_rightly_whether_they_call_hooks() -> None:
    for kind in (LoopEngine, FusedEngine, DenseEngine):
        stack = make(of_package("fully_connected", (1, 5, 5), widths=(7,)), 1)
        called: list[int] = []
        for parameter in stack.replicas[0].trainable:
            parameter.register_post_accumulate_grad_hook(lambda _parameter, called=called: called.append(1))
        take(kind(stack, classify()), batch(0, 1, 4, (1, 5, 5)))
        assert bool(called) == kind.calls_hooks, kind.name
    # Where there is no GPU: a replay calls none.
    assert not GraphEngine.calls_hooks
