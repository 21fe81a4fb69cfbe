"""The arithmetic of a run, against values worked out by hand."""

from __future__ import annotations

import dataclasses

import pytest

from hpcsgd.algorithms.schedule import Action
from hpcsgd.config import AlgorithmConfig, DataConfig, LearningRateConfig, OptimizerConfig, RunConfig
from hpcsgd.errors import UsageError
from hpcsgd.run.plan import make_plan


def test_sizes_from_the_global_batch() -> None:
    plan = make_plan(RunConfig(epochs=3, global_batch_size=128), num_learners=4, num_samples=60000)
    assert (plan.local_batch_size, plan.global_batch_size) == (32, 128)
    assert (plan.steps_per_epoch, plan.total_steps) == (468, 1404)
    assert plan.learning_rate.peak == pytest.approx(0.1 * 128 / 256)


def test_sizes_from_the_local_batch_and_max_steps() -> None:
    plan = make_plan(RunConfig(epochs=3, local_batch_size=10, max_steps=7), num_learners=3, num_samples=100)
    assert (plan.global_batch_size, plan.steps_per_epoch, plan.total_steps) == (30, 3, 7)
    assert [plan.ends_epoch(step) for step in range(7)] == [False, False, True, False, False, True, True]


@pytest.mark.parametrize(("tail", "steps", "last"), [("drop", 3, 30), ("wrap", 4, 30), ("keep", 4, 10)])
def test_samples_of_the_last_step_under_each_tail(tail: str, steps: int, last: int) -> None:
    config = RunConfig(local_batch_size=10, data=DataConfig(tail=tail))
    plan = make_plan(config, num_learners=3, num_samples=100)
    assert plan.steps_per_epoch == steps
    assert [plan.num_global(step) for step in range(steps)] == [30] * (steps - 1) + [last]


def test_a_kept_tail_that_is_full_is_full() -> None:
    plan = make_plan(RunConfig(local_batch_size=10, data=DataConfig(tail="keep")), num_learners=3, num_samples=90)
    assert [plan.num_global(step) for step in range(3)] == [30, 30, 30]


@pytest.mark.parametrize(
    ("config", "learners", "samples", "words"),
    [
        (RunConfig(global_batch_size=128), 3, 1000, ["128", "3 learners", "126 or 129"]),
        (RunConfig(global_batch_size=2), 3, 1000, ["choose 3"]),
        (RunConfig(local_batch_size=10, accumulation_steps=4), 1, 1000, ["accumulation_steps", "8 or 12"]),
        (RunConfig(local_batch_size=1), 5, 4, ["5 learners", "4 training samples"]),
        (RunConfig(local_batch_size=8), 2, 15, ["16", "15"]),
    ],
)
def test_impossible_sizes_are_refused(config: RunConfig, learners: int, samples: int, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        make_plan(config, learners, samples)
    for word in words:
        assert word in str(caught.value)


STEPWISE = LearningRateConfig(decay="step", milestones=(2.0, 3.0))


@pytest.mark.parametrize(
    ("local_start", "first"), [("first_lr_drop", 20), ("epoch:1", 10), ("step:7", 7), ("step:0", 0)]
)
def test_local_steps_begin_where_asked(local_start: str, first: int) -> None:
    algorithm = AlgorithmConfig(name="post_local_sgd", sync_period=4, local_start=local_start)
    plan = make_plan(RunConfig(epochs=4, local_batch_size=10, algorithm=algorithm, learning_rate=STEPWISE), 1, 100)
    actions = [plan.schedule(step) for step in range(40)]
    assert actions[:first] == [Action.GRADIENT] * first
    assert actions[first : first + 4] == [Action.NONE] * 3 + [Action.GLOBAL]


def test_synchronous_and_local_schedules() -> None:
    sync = make_plan(RunConfig(local_batch_size=10), 2, 100)
    assert {sync.schedule(step) for step in range(5)} == {Action.GRADIENT}
    local = RunConfig(local_batch_size=10, algorithm=AlgorithmConfig(name="local_sgd", sync_period=2))
    assert [make_plan(local, 2, 100).schedule(step) for step in range(4)] == [Action.NONE, Action.GLOBAL] * 2


def test_a_zero_rate_is_refused_where_it_is_divided_by() -> None:
    absorbed = OptimizerConfig(momentum_form="absorbed")
    rate = LearningRateConfig(decay="linear", decay_epochs=1)
    config = RunConfig(epochs=3, local_batch_size=10, optimizer=absorbed, learning_rate=rate)
    with pytest.raises(UsageError, match="momentum_form: absorbed divides by it"):
        make_plan(config, 1, 100)
    assert make_plan(dataclasses.replace(config, epochs=1), 1, 100).total_steps == 10


@pytest.mark.parametrize(("every", "steps"), [(0, []), (1, [9, 19, 24]), (2, [19, 24]), (5, [24])])
def test_evaluations_come_at_set_epochs_and_at_the_end(every: int, steps: list[int]) -> None:
    plan = make_plan(RunConfig(epochs=9, local_batch_size=10, max_steps=25), 1, 100)
    assert [step for step in range(25) if plan.evaluates(step, every)] == steps
