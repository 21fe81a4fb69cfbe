"""Figures of runs by other metrics than accuracy, and of logs of older versions."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import crossbow
import goyal
import learning_curves
import timing_curves
from tests.single.analysis.fake_runs import FakeRun, constant
from tests.single.record.log_files import old_log

pytestmark = pytest.mark.usefixtures("coarse")


def run_of(directory: Path, metric: str, **options: object) -> Path:
    """Three epochs of two steps, each evaluated by the loss and one metric."""
    run = FakeRun(
        {"forward_seconds": constant(1, 6, 2)},
        ["gradient"] * 6,
        steps_per_epoch=2,
        accuracies=[0.25, 0.5, 0.75],
        metric=metric,
        **options,  # type: ignore[arg-type]
    )
    return run.write(directory)


def test_learning_curves_have_a_panel_for_each_metric_that_the_runs_have(tmp_path: Path) -> None:
    run = run_of(tmp_path / "own", "iou", config={"loss": {"name": "mynets.losses.dice"}})
    assert learning_curves.main([str(run), "-o", str(tmp_path)]) == 0
    text = (tmp_path / "learning_epoch.svg").read_text()
    assert "iou<" in text and "Loss<" in text
    assert "Accuracy" not in text and "cross-entropy" not in text
    table = pd.read_csv(tmp_path / "learning_evaluations.csv")
    assert table["iou"].tolist() == [0.25, 0.5, 0.75] and table["loss"].tolist() == [1.75, 1.5, 1.25]
    results = pd.read_csv(tmp_path / "learning_results.csv")
    costs = ["last_step", "last_train_seconds", "last_sync_bytes"]
    columns = ["run", "status", "split", "last_loss", "last_iou", *costs, "num_evaluations"]
    assert list(results.columns) == columns
    assert results["last_iou"].tolist() == [0.75]


def test_a_metric_is_called_as_its_user_calls_it(tmp_path: Path) -> None:
    """Not as mathematics, which this is none."""
    assert learning_curves.main([str(run_of(tmp_path / "own", "$^$")), "-o", str(tmp_path)]) == 0
    assert "$^$" in (tmp_path / "learning_epoch.svg").read_text()


def test_learning_curves_of_runs_with_different_metrics(tmp_path: Path) -> None:
    run_of(tmp_path / "runs/own", "iou")
    run_of(tmp_path / "runs/classes", "accuracy")
    assert learning_curves.main([str(tmp_path / "runs"), "-o", str(tmp_path)]) == 0
    text = (tmp_path / "learning_epoch.svg").read_text()
    assert "iou<" in text and "Accuracy (%)" in text
    table = pd.read_csv(tmp_path / "learning_evaluations.csv").set_index("run")
    assert table.loc["own", "accuracy"].isna().all() and table.loc["classes", "iou"].isna().all()


@pytest.mark.parametrize(
    ("script", "names"), [(goyal, ["goyal_error"]), (crossbow, ["crossbow_time", "crossbow_convergence"])]
)
def test_a_figure_that_needs_accuracy_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], script: object, names: list[str]
) -> None:
    for size in (1, 2):
        run_of(tmp_path / f"runs/{size}", "iou", local_batch_size=32 * size)
    assert script.main([str(tmp_path / "runs"), "-o", str(tmp_path), "--skip", "0"]) == 0  # type: ignore[attr-defined]
    said = capsys.readouterr().err
    for name in names:
        (line,) = (line for line in said.splitlines() if f"{name} " in line and "is not drawn" in line)
        assert line.endswith("no run has the metric accuracy: their logs have loss, iou.")
        assert not (tmp_path / f"{name}.png").exists()


def test_a_log_of_version_2_is_drawn(tmp_path: Path) -> None:
    run = old_log(2, tmp_path / "old")
    assert learning_curves.main([str(run), "-o", str(tmp_path)]) == 0
    assert timing_curves.main([str(run), "-o", str(tmp_path)]) == 0
    results = pd.read_csv(tmp_path / "learning_results.csv").set_index("split")
    assert results["last_accuracy"].round(4).to_dict() == {"train": 0.3615, "test": 0.4324}
    assert "Accuracy (%)" in (tmp_path / "learning_epoch.svg").read_text()
    assert (tmp_path / "timing_iteration.png").exists()
