"""The choice of an engine, and engines that are not of a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from hpcsgd.data.batches import Batch
from hpcsgd.learners.engines import choose
from hpcsgd.learners.engines.base import Lap, NotPossibleError, no_lap
from hpcsgd.learners.engines.choose import MARGIN, Table, choose_engine, fastest
from hpcsgd.learners.engines.cuda import GraphEngine, StreamsEngine
from hpcsgd.learners.engines.loop import LoopEngine, ThreadsEngine
from hpcsgd.learners.replica import Replica
from hpcsgd.learners.stack import ReplicaStack
from tests.single.learners.engines.engine_nets import batch, classify, make, of_package, take, with_dropout

SHAPE = (1, 8, 8)


class Hungry(LoopEngine):
    """Runs out of memory."""

    def passes(
        self, batch: Batch, normalisers: Sequence[float], size: int, lap: Lap = no_lap, *, fresh: bool = False
    ) -> Tensor:
        raise RuntimeError("CUDA out of memory. Tried to allocate")


class Broken(LoopEngine):
    """Fails for another reason."""

    def passes(
        self, batch: Batch, normalisers: Sequence[float], size: int, lap: Lap = no_lap, *, fresh: bool = False
    ) -> Tensor:
        raise RuntimeError("shapes cannot be multiplied")


def test_threads_give_the_bits_of_the_loop() -> None:
    stacks = [make(with_dropout, 3) for _ in range(2)]
    for engine in (LoopEngine(stacks[0], classify()), ThreadsEngine(stacks[1], classify())):
        for step in range(3):
            take(engine, batch(step, 3, 4, SHAPE))
    assert torch.equal(stacks[0].gradients, stacks[1].gradients)
    assert torch.equal(stacks[0].statistics, stacks[1].statistics)


def test_a_choice_leaves_the_stack_as_it_was_and_gives_all_figures() -> None:
    stack = make(with_dropout, 3)
    buffers = ("parameters", "gradients", "statistics", "counts")
    before = [getattr(stack, name).clone() for name in buffers]
    streams = stack.random_states()
    choice = choose_engine(stack, classify(), batch(0, 3, 4, SHAPE), 4, rounds=2)
    assert all(torch.equal(getattr(stack, name), old) for name, old in zip(buffers, before, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(stack.random_states(), streams, strict=True))
    assert list(choice.tables[0]) == ["loop", "fused", "dense", "threads"]
    assert "Conv2d at 0" in str(choice.tables[0].pop("dense"))
    assert all(isinstance(seconds, float) and seconds > 0 for seconds in choice.tables[0].values())
    assert choice.name == choice.engine.name == fastest(choice.tables)


def test_an_engine_without_memory_is_not_possible() -> None:
    stack = make(with_dropout, 2)
    choice = choose_engine(
        stack, classify(), batch(0, 2, 4, SHAPE), 4, factories={"loop": LoopEngine, "hungry": Hungry}
    )
    assert choice.name == "loop" and choice.tables[0]["hungry"] == "out of memory"
    with pytest.raises(NotPossibleError, match="hungry: out of memory"):
        choose_engine(stack, classify(), batch(0, 2, 4, SHAPE), 4, factories={"hungry": Hungry})


def test_an_engine_that_is_only_tried_ends_no_run_and_the_loop_does() -> None:
    stack, given = make(with_dropout, 2), batch(0, 2, 4, SHAPE)
    choice = choose_engine(stack, classify(), given, 4, factories={"loop": LoopEngine, "broken": Broken})
    assert choice.name == "loop" and choice.tables[0]["broken"] == "shapes cannot be multiplied"
    with pytest.raises(RuntimeError, match="multiplied"):
        choose_engine(stack, classify(), given, 4, factories={"loop": Broken, "fused": LoopEngine})


def test_ranks_meet_before_every_timing_even_of_what_is_not_possible_on_one() -> None:
    meetings = 0

    def meet() -> None:
        nonlocal meetings
        meetings += 1

    factories = {"loop": LoopEngine, "hungry": Hungry}
    choose_engine(make(with_dropout, 2), classify(), batch(0, 2, 4, SHAPE), 4, rounds=3, factories=factories, meet=meet)
    assert meetings == (1 + 3) * 2


def test_what_does_not_convert_is_not_possible() -> None:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LayerNorm(64), torch.nn.Linear(64, 5))
    stack = ReplicaStack([Replica(module, torch.device("cpu"), torch.float64, channels_last=False)])
    choice = choose_engine(stack, classify(), batch(0, 1, 4, SHAPE), 4, rounds=1)
    assert "LayerNorm at 1" in str(choice.tables[0]["fused"]) and choice.name != "fused"


def test_the_ranks_decide_together() -> None:
    here: Table = {"loop": 1.0, "fused": 0.2, "threads": 0.5}
    there: Table = {"loop": 1.0, "fused": "out of memory", "threads": 0.6}
    assert fastest([here]) == "fused"
    assert fastest([here, there]) == "threads"
    assert fastest([here, {**here, "fused": 2.0}]) == "threads"


def test_the_loop_is_left_for_a_clear_gain_only() -> None:
    assert fastest([{"loop": 1.0, "fused": MARGIN + 0.01}]) == "loop"
    assert fastest([{"loop": 1.0, "fused": MARGIN - 0.01}]) == "fused"


def test_engines_of_a_gpu_say_so() -> None:
    for kind in (StreamsEngine, GraphEngine):
        with pytest.raises(NotPossibleError, match="needs a GPU"):
            kind(make(with_dropout, 1), classify())
    assert list(choose.possible_engines(torch.device("cuda"))) == ["loop", "fused", "dense", "streams", "graph"]


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["streams", "graph", "fused"])
def test_engines_of_a_gpu_equal_the_loop(name: str) -> None:
    device = torch.device("cuda")
    build = of_package("resnet8", SHAPE)
    stacks = []
    for kind in ("loop", name):
        replicas = [Replica(build(seed), device, torch.float64, channels_last=False) for seed in range(3)]
        stack = ReplicaStack(replicas)
        engine = choose.ON_GPU[kind](stack, classify())
        for step in range(3):
            given = batch(step, 3, 4, SHAPE)
            take(engine, Batch(given.inputs.to(device), given.targets.to(device), given.sizes))
        stacks.append(stack)
    torch.testing.assert_close(stacks[1].gradients, stacks[0].gradients, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(stacks[1].statistics, stacks[0].statistics, rtol=1e-10, atol=1e-10)
    assert torch.equal(stacks[1].counts, stacks[0].counts)
