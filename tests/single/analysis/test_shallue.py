"""Figures and tables of batch-size studies, from the real archive and from made-up ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

import shallue
from hpcsgd.study.sources import pack
from runs import workloads

ARCHIVE = Path(__file__).parents[2] / "data" / "studies" / "fashion_mnist_fc.tar.xz"
METRIC = "val/classification_error"


def write_study(root: Path, names: tuple[str, str, str], steps: dict[int, int], smoothing: float = 0.0) -> None:
    """Two trials a batch size: one reaches 0.1 at the given step, one diverged."""
    for size, step in steps.items():
        folder = root.joinpath(*names, str(size))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "study.json").write_text(json.dumps({"batch_size": size, "parameter_configs": {}}))
        first = len(list(folder.glob("*/metadata.json")))
        for number, status in ((first, "COMPLETE"), (first + 1, "INFEASIBLE")):
            own = folder / str(number)
            own.mkdir()
            parameters = {"learning_rate": 0.01 * size, "momentum": 0.9, "label_smoothing": smoothing}
            metadata = {"trial_id": number, "status": status, "steps": 2 * step, "parameters": parameters}
            (own / "metadata.json").write_text(json.dumps(metadata))
            (own / "measurements.csv").write_text(f"step,{METRIC}\n{step // 2},0.5\n{step},0.1\n{2 * step},0.05\n")


def test_the_real_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shallue.main([str(ARCHIVE), "-o", str(tmp_path), "--goal", "0.14"]) == 0
    said = capsys.readouterr().err
    drawn = {path.stem for path in tmp_path.glob("*.png")}
    assert drawn == {"shallue_steps", "shallue_goals", "shallue_rates", "shallue_scatter", "shallue_budgets"}
    for name in ("models", "optimizers", "datasets", "sizes", "smoothing"):
        assert f"shallue_{name} is not drawn: missing is a study" in said
    regimes = pd.read_csv(tmp_path / "shallue_regimes.csv").iloc[0]
    assert regimes["perfect_until_low"] <= regimes["perfect_until"] <= regimes["perfect_until_high"]
    assert 8 < regimes["perfect_until"] < regimes["maximal_from"] < 8192
    results = pd.read_csv(tmp_path / "shallue_results.csv")
    assert (results["num_complete"] >= 20).all() and (results["low_steps"] == results["steps_to_result"]).all()


def test_studies_that_differ_in_one_thing_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive, figures = tmp_path / "archive", tmp_path / "figures"
    steps = {8: 800, 16: 400, 32: 390}
    write_study(archive, ("mnist", "small", "sgd"), steps)
    write_study(archive, ("mnist", "small", "sgd"), {size: 2 * value for size, value in steps.items()}, 0.1)
    write_study(archive, ("mnist", "large", "sgd"), steps)
    write_study(archive, ("mnist", "small", "momentum"), steps)
    write_study(archive, ("other", "small", "sgd"), steps)
    write_study(archive, ("mnist_0.5", "small", "sgd"), steps)
    assert shallue.main([str(archive), "-o", str(figures), "--goal", "0.2"]) == 0
    said = capsys.readouterr().err
    drawn = {path.stem.removeprefix("shallue_") for path in figures.glob("*.png")}
    assert drawn >= {
        "steps",
        "goals",
        "models",
        "optimizers",
        "datasets",
        "sizes",
        "smoothing",
        "rates",
        "scatter",
        "budgets",
    }
    assert "is not drawn: missing" not in said
    assert "other, small, sgd: epoch budgets need the size of a training set that is not known." in said
    rates = pd.read_csv(figures / "shallue_rates.csv")
    own = rates[rates["workload"] == "mnist, small, sgd"].set_index("batch_size")
    # 0.01 B / (1 - 0.9): the linear heuristic is exact here.
    assert own["optimal_effective_learning_rate"].to_dict() == pytest.approx({8: 0.8, 16: 1.6, 32: 3.2})
    assert own["linear"].to_dict() == pytest.approx({8: 0.8, 16: 1.6, 32: 3.2})
    assert own["sqrt"][32] == pytest.approx(1.6)
    slopes = pd.read_csv(figures / "shallue_slopes.csv")
    assert slopes["slope"][slopes["from"] == 8].to_list() == pytest.approx([-1.0] * 5)


def test_a_goal_out_of_reach_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(tmp_path / "archive", ("mnist", "small", "sgd"), {8: 800, 16: 400})
    assert shallue.main([str(tmp_path / "archive"), "-o", str(tmp_path / "figures"), "--goal", "0.01"]) == 0
    said = capsys.readouterr().err
    assert "no COMPLETE trial reaches 0.01 at batch size 8, 16" in said
    assert "shallue_steps is not drawn: no trial of any study reaches the goal" in said


def test_without_a_goal_each_workload_gets_one_that_it_reaches(tmp_path: Path) -> None:
    write_study(tmp_path / "archive", ("mnist", "small", "sgd"), {8: 800, 16: 400})
    assert shallue.main([str(tmp_path / "archive"), "-o", str(tmp_path / "figures")]) == 0
    results = pd.read_csv(tmp_path / "figures" / "shallue_results.csv")
    # The best of each is 0.05: strictly beaten is the next of two digits.
    assert set(results["goal"]) == {0.051}
    assert results["steps_to_result"].notna().all()


def test_a_budget_that_a_batch_size_was_not_trained_for_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shallue.main([str(ARCHIVE), "-o", str(tmp_path)]) == 0
    points = pd.read_csv(tmp_path / "shallue_budgets.csv")
    batch, steps = points["batch_size"], points["trained_steps"]
    assert (steps >= points["budget"])[points["kind"] == "steps"].all()
    # A part of a step is none.
    assert ((steps + 1) * batch > points["budget"] * 55_000)[points["kind"] == "epochs"].all()
    assert len(points) == 47 and points["best_metric"].notna().all()
    assert "41 of 88 points are left out: batch sizes that were not trained for so long" in capsys.readouterr().err


def test_an_archive_that_is_given_twice_counts_once(tmp_path: Path) -> None:
    first = tmp_path / "first"
    write_study(first, ("mnist", "small", "sgd"), {8: 800, 16: 400})
    shutil.copytree(first, tmp_path / "copy")
    (tmp_path / "link").symlink_to("first")
    pack(first, tmp_path / "first.zip")
    write_study(tmp_path / "other", ("mnist", "small", "sgd"), {8: 700})
    names = ("first", "copy", "link", "first.zip", "other")
    found, said = workloads.load([str(tmp_path / name) for name in names])
    assert [item.name for item in found] == [f"mnist, small, sgd ({tmp_path / name})" for name in ("first", "other")]
    assert [len(item.studies) for item in found] == [2, 1]
    assert len(said) == 6 and all("is the same study as in" in line for line in said)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("study.json", "{"), ("study.json", '{"batch_size": 8, "train_steps": "x"}'), ("1/metadata.json", "[1]"),
        ("1/metadata.json", '{"trial_id": 1, "steps": 1, "status": "COMPLETE", "parameters": {"learning_rate": "x"}}'),
        ("0/measurements.csv", "step\nx\n"), ("0/measurements.csv", ""),
    ],
)  # fmt: skip
def test_a_broken_study_is_named_and_the_others_are_drawn(tmp_path: Path, name: str, content: str) -> None:
    write_study(tmp_path, ("mnist", "small", "sgd"), {8: 800, 16: 400})
    (tmp_path / "mnist/small/sgd/8" / name).write_text(content)
    found, said = workloads.load([str(tmp_path)])
    assert [item.batch_sizes for item in found] == [[16]]
    assert len(said) == 1 and f"mnist/small/sgd/8/{name}" in said[0]


def test_nothing_to_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shallue.main([str(tmp_path / "none"), "-o", str(tmp_path / "figures")]) == 1
    said = capsys.readouterr().err
    assert "no such directory or archive" in said and "none of the studies can be read" in said


def test_steps_that_rise_again_have_no_flat_end(tmp_path: Path) -> None:
    write_study(tmp_path / "archive", ("mnist", "small", "sgd"), {8: 800, 16: 400, 32: 800})
    assert shallue.main([str(tmp_path / "archive"), "-o", str(tmp_path / "figures"), "--goal", "0.2"]) == 0
    regimes = pd.read_csv(tmp_path / "figures" / "shallue_regimes.csv").iloc[0]
    assert regimes["perfect_until"] == 16 and regimes["maximal_from"] == float("inf")
    assert (tmp_path / "figures" / "shallue_steps.png").exists()


def test_a_metric_that_no_study_has_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(tmp_path / "archive", ("mnist", "small", "sgd"), {8: 800})
    options = [str(tmp_path / "archive"), "-o", str(tmp_path / "figures"), "--metric", "val/loss"]
    assert shallue.main(options) == 1
    assert "nothing is measured of val/loss; --metric takes val/classification_error" in capsys.readouterr().err
