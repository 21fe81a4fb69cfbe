"""Whole runs in one process: log, model, evaluation, and bit-equal repetition."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.config import (
    AlgorithmConfig,
    DataConfig,
    EvaluateConfig,
    LogConfig,
    ModelConfig,
    RunConfig,
)
from hpcsgd.data.dataset import load_dataset
from hpcsgd.data.make import make_split
from hpcsgd.data.shards import epoch_permutation
from hpcsgd.errors import DivergedError
from hpcsgd.models import build_model
from hpcsgd.record import load_run
from hpcsgd.record.frames import by_metric
from hpcsgd.run.evaluate import evaluate
from hpcsgd.tasks.build import make_task
from hpcsgd.train import run

DATA = DataConfig(name="synthetic", synthetic_shape=(1, 6, 6), synthetic_train_samples=130, synthetic_test_samples=37)
SMALL = {"data": DATA, "model": ModelConfig(widths=(16,)), "local_batch_size": 10, "progress": "none", "threads": 1}


def small(path: Path, **changes: object) -> RunConfig:
    return RunConfig(**{**SMALL, "run_dir": str(path), **changes})  # type: ignore[arg-type]


def test_a_run_learns_and_leaves_log_recipe_and_model(tmp_path: Path) -> None:
    result = run(small(tmp_path / "run", epochs=12), argv=["hpcsgd", "train"])
    assert sorted(os.listdir(tmp_path / "run")) == [".lock", "model.pt", "recipe.yaml", "run.h5"]
    log = load_run(tmp_path / "run")
    assert log.status == "completed"
    assert log.provenance["argv"] == ["hpcsgd", "train"]
    assert log.iterations["step"].tolist() == list(range(12 * 13))
    assert log.epochs["train_loss"].iloc[-1] < 0.3 * log.epochs["train_loss"].iloc[0]
    evaluations = by_metric(log.evaluations)
    assert evaluations["accuracy"].iloc[-1] == result.metrics["test"].values["accuracy"] >= 0.9
    assert evaluations["num_samples"].tolist() == [37] * 12


def test_label_smoothing_spreads_a_part_of_the_target_over_all_classes(tmp_path: Path) -> None:
    """(1 - e) -log p(label) + e times the mean of -log p over the classes, in the training loss alone."""
    losses, evaluated = {}, {}
    for smoothing in (0.0, 0.3):
        result = run(small(tmp_path / f"{smoothing}", max_steps=1, label_smoothing=smoothing))
        losses[smoothing] = load_run(tmp_path / f"{smoothing}").iterations["loss"].iloc[0]
        evaluated[smoothing] = result.metrics["test"].values["loss"]
    dataset = load_dataset(DATA)
    config = small(tmp_path)
    module = build_model(config.model, dataset.shape, dataset.num_classes, seed=0)
    samples = epoch_permutation(0, 0, 130)[:10]
    split = make_split(dataset, dataset.train, device=torch.device("cpu"), dtype=torch.float32, channels_last=False)
    images = torch.cat([batch for batch, _ in split.batches(0, 130, 130)])[samples]
    logs = module(images).log_softmax(dim=1)
    hard = -logs[torch.arange(10), torch.from_numpy(dataset.train.targets[samples])].mean()
    even = -logs.mean()
    assert losses[0.0] == pytest.approx(hard.item(), rel=1e-5)
    assert losses[0.3] == pytest.approx((0.7 * hard + 0.3 * even).item(), rel=1e-5)
    assert evaluated[0.0] != evaluated[0.3]


def test_the_saved_model_is_the_one_that_was_evaluated(tmp_path: Path) -> None:
    # At the first evaluation an averaging is under way.
    method = AlgorithmConfig(name="diloco", sync_period=6, overlap_steps=3)
    config = small(tmp_path / "run", epochs=2, algorithm=method)
    result = run(config)
    assert (load_run(tmp_path / "run").iterations["sync_period"] == 6).all()
    dataset = load_dataset(DATA)
    task = make_task(config.model, dataset)
    module = task.new_module(99)
    module.load_state_dict(torch.load(tmp_path / "run" / "model.pt", weights_only=True))
    split = make_split(dataset, dataset.test, device=torch.device("cpu"), dtype=torch.float32, channels_last=False)
    assert evaluate(task, module, split, SingleCommunicator(), 500) == result.metrics["test"]


@pytest.mark.parametrize(
    ("name", "shape"), [("fully_connected", (1, 6, 6)), ("resnet8", (3, 8, 8)), ("simple_cnn_narrow", (1, 8, 8))]
)
def test_a_repeated_run_has_the_same_bits(tmp_path: Path, name: str, shape: tuple[int, int, int]) -> None:
    data = DataConfig(
        name="synthetic", synthetic_shape=shape, synthetic_train_samples=60, flip=True, crop_padding=1, tail="keep"
    )
    runs = []
    for index in range(2):
        run(small(tmp_path / str(index), model=ModelConfig(name=name), data=data, local_batch_size=8))
        log = load_run(tmp_path / str(index))
        runs.append(
            (log.iterations["loss"].tolist(), torch.load(tmp_path / str(index) / "model.pt", weights_only=True))
        )
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(value, runs[1][1][key]) for key, value in runs[0][1].items())


def test_logging_changes_no_bit_and_can_be_left_out(tmp_path: Path) -> None:
    logged = run(small(tmp_path / "a", epochs=2))
    silent = run(small(tmp_path / "b", epochs=2, log=LogConfig(enabled=False, save_model=False)))
    assert silent.path is None and not (tmp_path / "b").exists()
    assert silent.metrics == logged.metrics


@pytest.mark.parametrize("flush_steps", [1, 4, 13, 1000])
def test_every_iteration_is_kept_whatever_the_cadence(tmp_path: Path, flush_steps: int) -> None:
    run(small(tmp_path / "run", epochs=2, max_steps=20, log=LogConfig(flush_steps=flush_steps)))
    log = load_run(tmp_path / "run")
    assert log.iterations["step"].tolist() == list(range(20))
    assert log.epochs["step"].tolist() == [13, 20]
    assert log.evaluations["step"].tolist() == [13, 13, 20, 20]
    assert log.evaluations["metric"].tolist() == ["loss", "accuracy"] * 2
    assert log.iterations["gradient_norm"].isna().all()
    assert np.isfinite(log.iterations["loss"]).all()


def test_summary_logs_have_three_statistics(tmp_path: Path) -> None:
    run(small(tmp_path / "run", log=LogConfig(ranks="summary")))
    log = load_run(tmp_path / "run")
    assert log.rank_axis == "statistic"
    assert len(log.iterations) == 13 * 3


def test_without_evaluation_there_are_no_metrics(tmp_path: Path) -> None:
    result = run(small(tmp_path / "run", evaluate=EvaluateConfig(every_epochs=0)))
    assert result.metrics == {}
    assert load_run(tmp_path / "run").evaluations.empty


def test_accumulated_parts_give_the_same_training(tmp_path: Path) -> None:
    whole = run(small(tmp_path / "a", dtype="float64"))
    parts = run(small(tmp_path / "b", dtype="float64", accumulation_steps=5))
    assert parts.metrics["test"].values["loss"] == pytest.approx(whole.metrics["test"].values["loss"], rel=1e-12)


def test_a_diverged_run_says_so(tmp_path: Path) -> None:
    from hpcsgd.config import LearningRateConfig

    with pytest.raises(DivergedError, match="step 1: the loss is not finite on rank 0"):
        run(small(tmp_path / "run", epochs=3, learning_rate=LearningRateConfig(base=1e30, scaling_rule="none")))
    assert load_run(tmp_path / "run").status == "diverged"


def test_a_run_that_is_let_diverge_does_not_end_well_and_says_no_number_of_it(tmp_path: Path) -> None:
    from hpcsgd.config import FaultConfig, LearningRateConfig

    rate, faults = LearningRateConfig(base=1e30, scaling_rule="none"), FaultConfig(check_finite=False)
    with pytest.raises(DivergedError, match="its parameters are not finite") as diverged:
        run(small(tmp_path / "run", epochs=3, learning_rate=rate, faults=faults))
    assert diverged.value.exit_code == 1
    log = load_run(tmp_path / "run")
    assert log.status == "diverged"
    assert len(log.epochs) == 3 and log.epochs["train_loss"].isna().all()
