"""A trial is the same whoever trains beside it, and ends as it should."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hpcsgd.config import LearningRateConfig
from hpcsgd.config.goal import ERRORS
from hpcsgd.config.study import StudyConfig
from hpcsgd.data.dataset import load_dataset
from hpcsgd.data.make import make_loader, make_split
from hpcsgd.learners.replica import Replica
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.optim.choose import all_states, make_optimizer
from hpcsgd.optim.schedule import LearningRate
from hpcsgd.run.evaluate import evaluate
from hpcsgd.study.space import draw_points
from hpcsgd.tasks.build import make_task
from hpcsgd.trials.batches import trial_seed
from hpcsgd.trials.groups import Group, SizePlan
from hpcsgd.trials.measure import SPLITS, columns_of
from hpcsgd.trials.training import Interrupted, Trial, ending, train_group
from hpcsgd.trials.workshop import Workshop

Points = list[dict[str, float]]
COLUMNS = columns_of(SPLITS, ERRORS)


def points_of(config: StudyConfig, batch_size: int) -> Points:
    """All points of the small study at a batch size."""
    space = config.space.at(batch_size, config.stop.budget(batch_size, 80))
    return draw_points(space, config.trials, config.seed, batch_size)


def train(shop: Workshop, first: int, last: int, engine: str = "dense", points: Points | None = None) -> list[Trial]:
    """Trials of batch size 4 as a group."""
    plan = SizePlan(4, shop.config.stop.budget(4, 80), engine, last - first)
    found = points_of(shop.config, 4) if points is None else points
    return train_group(shop, plan, Group(4, 0, first, last), found[first:last], lambda: False)[0]


def ordinary(shop: Workshop, trial: int, point: Mapping[str, float]) -> list[float]:
    """The validation losses of a trial as the parts of an ordinary run make it."""
    config = shop.config
    seed = trial_seed(config.seed, 4, trial)
    data = load_dataset(config.data)
    loader = make_loader(data, config.data, seed=seed, learner=0, num_learners=1, local_batch_size=4,
                          device=shop.device, dtype=shop.dtype, channels_last=False)  # fmt: skip
    task = make_task(config.model, data)
    replica = Replica(task.new_module(seed), shop.device, shop.dtype, channels_last=False)
    optimizer = replace(config.optimizer, momentum=point.get("momentum", config.optimizer.momentum))
    rows = ReplicaStack([replica], states=all_states(optimizer, None)).rows
    sgd = make_optimizer(optimizer, rows, None)
    decay = LearningRateConfig(base=point["learning_rate"], scaling_rule="none", decay="linear",
                               decay_epochs=point["learning_rate_decay_steps"] / loader.steps_per_epoch,
                               final_fraction=point["end_learning_rate_factor"])  # fmt: skip
    rate = LearningRate(decay, 4, loader.steps_per_epoch, 2)
    assert data.val is not None
    val = make_split(data, data.val, device=shop.device, dtype=shop.dtype, channels_last=False)
    losses = []
    for step in range(40):
        batch = loader.batch(step)
        replica.zero_gradients()
        F.cross_entropy(
            replica.module(batch.inputs), batch.targets, label_smoothing=point["label_smoothing"]
        ).backward()
        sgd.step(1, rate(step))
        if (step + 1) % 5 == 0:
            losses.append(evaluate(task, replica.module, val, shop.comm, 500).values["loss"])
    return losses


@pytest.mark.parametrize("engine", ["dense", "fused", "loop"])
def test_a_trial_is_the_ordinary_run_of_its_metaparameters(shop: Callable[..., Workshop], engine: str) -> None:
    parts = shop(dtype="float64")
    column = COLUMNS.index("val/cross_entropy_error")
    for trial, point in zip(train(parts, 0, 5, engine), points_of(parts.config, 4), strict=True):
        found = [row[column] for _, row in trial.measurements]
        np.testing.assert_allclose(found, ordinary(parts, trial.trial_id, point), rtol=1e-12)
        assert [step for step, _ in trial.measurements] == list(range(5, 41, 5))
        assert (trial.status, trial.steps) == ("COMPLETE", 40)


def test_trials_may_go_by_layer_at_rates_of_their_own(shop: Callable[..., Workshop]) -> None:
    parts = shop(dtype="float64", optimizer__name="lars", optimizer__trust_coefficient=0.3, optimizer__weight_decay=0.1)
    assert parts.config.optimizer_name == "lars"
    column = COLUMNS.index("val/cross_entropy_error")
    for trial, point in zip(train(parts, 0, 5), points_of(parts.config, 4), strict=True):
        found = [row[column] for _, row in trial.measurements]
        np.testing.assert_allclose(found, ordinary(parts, trial.trial_id, point), rtol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("engine", ["dense", "fused", "loop"])
def test_together_or_one_after_another(
    shop: Callable[..., Workshop], engine: str, dtype: str, tolerance: float
) -> None:
    parts = shop(dtype=dtype, stop__at_goal="true")
    together = train(parts, 0, 5, engine)
    assert len({trial.steps for trial in together}) > 1, "all end at once: the test shows nothing"
    for trial in together:
        (alone,) = train(parts, trial.trial_id, trial.trial_id + 1, "loop")
        assert (alone.status, alone.steps, alone.parameters) == (trial.status, trial.steps, trial.parameters)
        np.testing.assert_allclose(
            [row for _, row in alone.measurements], [row for _, row in trial.measurements], rtol=tolerance
        )


def test_trials_compute_in_the_precision_of_their_study(shop: Callable[..., Workshop]) -> None:
    """What is measured first is near what it would be, and not the same."""
    few, exact = (
        np.array([trial.measurements[0][1][::2] for trial in train(shop(precision=name), 0, 2, "fused")])
        for name in ("bfloat16", "float32")
    )
    assert not np.array_equal(few, exact)
    np.testing.assert_allclose(few, exact, rtol=0.05)


def test_a_group_is_the_same_bits_each_time(shop: Callable[..., Workshop]) -> None:
    first, again = (train(shop(stop__at_goal="true"), 1, 4) for _ in range(2))
    assert first == again


def test_a_trial_that_diverges_leaves_the_others_alone(shop: Callable[..., Workshop]) -> None:
    parts = shop(dtype="float64")
    points = points_of(parts.config, 4)
    points[1] = points[1] | {"learning_rate": 1e200}
    bad = train(parts, 0, 3, points=points)
    assert [trial.status for trial in bad] == ["COMPLETE", "INFEASIBLE", "COMPLETE"]
    assert bad[1].steps < 5 and bad[1].measurements == []
    for trial in (bad[0], bad[2]):
        (alone,) = train(parts, trial.trial_id, trial.trial_id + 1, "loop")
        np.testing.assert_allclose(
            [row for _, row in trial.measurements], [row for _, row in alone.measurements], rtol=1e-12
        )


def test_a_stop_gives_the_group_up(shop: Callable[..., Workshop]) -> None:
    parts, looks = shop(), []
    with pytest.raises(Interrupted):
        plan = SizePlan(4, 40, "dense", 2)
        train_group(parts, plan, Group(4, 0, 0, 2), points_of(parts.config, 4)[:2],
                    lambda: looks.append(0) or len(looks) == 3)  # type: ignore[func-returns-value]  # fmt: skip
    assert len(looks) == 3


def trial_with(errors: list[float], steps: int) -> Trial:
    """A trial with these validation errors so far."""
    rows = [
        (i + 1, tuple(e if c == "val/classification_error" else 9.0 for c in COLUMNS)) for i, e in enumerate(errors)
    ]
    return Trial(0, {}, steps=steps, measurements=rows)


@pytest.mark.parametrize(
    ("keys", "errors", "steps", "status"),
    [
        ({}, [0.5, 0.4], 10, None),
        ({}, [0.5, 0.4], 40, "COMPLETE"),
        ({}, [0.1], 10, None),
        ({"stop__at_goal": "true"}, [0.1], 10, "COMPLETE"),
        ({"stop__at_goal": "true"}, [0.2], 10, None),
        ({"stop__patience": 2}, [0.3, 0.4, 0.3], 10, "INCOMPLETE"),
        ({"stop__patience": 2}, [0.4, 0.3, 0.4], 10, None),
        ({"stop__patience": 1}, [0.3, 0.3], 40, "COMPLETE"),
    ],
)
def test_how_a_trial_ends(
    study: Callable[..., StudyConfig], keys: dict[str, object], errors: list[float], steps: int, status: str | None
) -> None:
    column = COLUMNS.index("val/classification_error")
    assert ending(trial_with(errors, steps), study(**keys), 40, column) == status


def test_metrics_are_of_the_samples_that_the_recipe_names(shop: Callable[..., Workshop]) -> None:
    parts = shop(dtype="float64", evaluate__test_samples=7, evaluate__batch_size=4)
    assert {name: len(labels) for name, (_, labels) in parts.splits.items()} == {"train": 30, "val": 40, "test": 7}
    images, labels = parts.splits["train"]
    expected, (first, targets) = load_dataset(parts.config.data), parts.training.take(torch.arange(30), None, None)
    assert torch.equal(images, first) and torch.equal(labels, targets)
    assert np.array_equal(labels.numpy(), expected.train.targets[:30])
    row = train(parts, 0, 1)[0].measurements[-1][1]
    assert all(math.isfinite(value) for value in row)
    assert row[COLUMNS.index("test/classification_error")] * 7 == pytest.approx(
        round(row[COLUMNS.index("test/classification_error")] * 7)
    )
