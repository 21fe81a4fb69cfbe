"""Crossbow's figures from made-up logs: what is written, what stands in it, and what is said to be missing."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

import crossbow
from tests.single.analysis.crossbow_runs import crossbow_run, write_study
from tests.single.analysis.fake_runs import trial
from tests.single.analysis.pictures import few_pixels

FIGURES = (
    *("hardware", "statistical", "time", "convergence", "utilisation", "learners", "methods", "period", "rates"),
    "tuner",
)
TABLES = ("settings", "curves", "sweeps", "utilisation", "tuner", "runs")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the figures of a whole study went to."""
    root = tmp_path_factory.mktemp("crossbow")
    write_study(root / "runs")
    with few_pixels():
        assert crossbow.main([str(root / "runs"), "--out", str(root / "out"), "--target_accuracy", "0.84"]) == 0
    return root / "out"


def test_every_figure_and_table_is_written(drawn: Path) -> None:
    expected = {f"crossbow_{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    expected |= {f"crossbow_{name}.{kind}" for name in TABLES for kind in ("csv", "md")}
    assert {path.name for path in drawn.iterdir()} == expected


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hardware", ("Throughput (samples/s)", "Learners a rank, m", "SMA, b = 8", "SMA, b = 16", "--skip 5")),
        ("statistical", ("Epochs to target accuracy", "Learners of all ranks, k", "Target accuracy: 84 %", "2/2")),
        ("learners", ("Time to target accuracy (ms)", "runs that did not reach the target")),
        ("time", ("Training time to target accuracy (ms)", "2 of 2", "SMA, τ = 4, 2 ranks, m = 2, b = 16, η = 0.1")),
        ("convergence", ("Training time (ms)", "Test accuracy (%)", "target: 84 %", "differ in their learning rate")),
        ("utilisation", ("Device utilisation (%)", "Batch a learner (samples)", "fused, m = 4, 2 ranks")),
        ("methods", ("Epochs", "Final test accuracy (%)", "SGD, 1 rank", "sync. SGD", "SMA", "EA-SGD")),
        ("period", ("Period τ or H (iterations)", "Final accuracy (%)", "Throughput (samples/s)")),
        ("rates", ("Largest learning rate η as run",)),
        ("tuner", ("Learners a rank tried, in order; engine", "+50 %", "vs 1", "−7 %", "tuned: 2 learners a rank")),
    ],
)
def test_figures_say_what_they_show(drawn: Path, name: str, words: tuple[str, ...]) -> None:
    text = (drawn / f"crossbow_{name}.svg").read_text()
    for word in words:
        assert word in text, word


def test_tables_hold_what_is_drawn(drawn: Path) -> None:
    sweeps = pd.read_csv(drawn / "crossbow_sweeps.csv")
    over = ("hardware", "statistical", "learners", "period", "rates")
    assert set(sweeps["figure"]) == {f"crossbow_{name}" for name in over}
    hardware = sweeps[(sweeps["figure"] == "crossbow_hardware") & (sweeps["line"] == "SMA, b = 8")]
    assert hardware["value"].tolist() == [1, 2, 4]
    # 2 ranks of m learners of 8 samples in (1 + m / 2) / 2 times 10 or 11 ms.
    fast, slow = (2 * 4 * 8 / (3 * milliseconds / 2000) for milliseconds in (10, 11))
    assert hardware["samples_per_second"].iloc[-1] == pytest.approx((fast + slow) / 2)
    assert hardware["samples_per_second_max"].iloc[-1] == pytest.approx(fast)
    tuner = pd.read_csv(drawn / "crossbow_tuner.csv")
    assert tuner.loc[tuner["chosen"], "learners"].tolist() == [2]
    settings = pd.read_csv(drawn / "crossbow_settings.csv").set_index("setting")
    never = settings.loc["sync. SGD, 2 ranks, m = 1, b = 32, η = 0.4"]
    assert (never["epochs_to_target"], never["num_reached"]) == (math.inf, 0)
    assert " inf | " in (drawn / "crossbow_settings.md").read_text()


@pytest.mark.usefixtures("coarse")
def test_what_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crossbow_run(tmp_path / "run", accuracies=())
    assert crossbow.main([str(tmp_path / "run"), "-o", str(tmp_path / "out")]) == 0
    message = capsys.readouterr().err
    for name in FIGURES:
        lines = [line for line in message.splitlines() if line.startswith(f"crossbow.py: crossbow_{name} ")]
        assert len(lines) == 1 and "is not drawn: " in lines[0], name
    assert "--set learners_per_rank=1,2,4,8" in message
    assert "--set algorithm.name=sma,ea_sgd,sync_sgd" in message
    assert "hpcsgd train RECIPE --learners_per_rank auto" in message
    assert not list((tmp_path / "out").glob("*.png"))
    assert (tmp_path / "out" / "crossbow_runs.md").exists()


@pytest.mark.usefixtures("coarse")
def test_methods_that_are_missing_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crossbow_run(tmp_path / "runs" / "sma")
    crossbow_run(tmp_path / "runs" / "sync", "sync_sgd")
    assert crossbow.main([str(tmp_path / "runs"), "-o", str(tmp_path / "out")]) == 0
    assert "crossbow_methods (fully_connected on synthetic) lacks EA-SGD; missing are" in capsys.readouterr().err
    assert (tmp_path / "out" / "crossbow_methods.png").exists()


@pytest.mark.usefixtures("coarse")
def test_each_task_has_its_own_figures(tmp_path: Path) -> None:
    for m in (1, 2):
        crossbow_run(tmp_path / "runs" / f"a{m}", learners=m)
        crossbow_run(tmp_path / "runs" / f"b{m}", learners=m, config={"model": {"name": "lenet"}})
    assert crossbow.main([str(tmp_path / "runs"), "-o", str(tmp_path / "out")]) == 0
    assert "fully_connected on synthetic." in (tmp_path / "out" / "crossbow_hardware.svg").read_text()
    assert "lenet on synthetic." in (tmp_path / "out" / "crossbow_hardware_2.svg").read_text()


@pytest.mark.usefixtures("coarse")
def test_a_target_that_nobody_reaches_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for m in (1, 2):
        crossbow_run(tmp_path / "runs" / f"m{m}", learners=m)
    arguments = [str(tmp_path / "runs"), "-o", str(tmp_path / "out"), "--target_accuracy", "0.99"]
    assert crossbow.main(arguments) == 0
    assert "no run reaches 99 %: give a lower --target_accuracy" in capsys.readouterr().err
    assert not (tmp_path / "out" / "crossbow_time.png").exists()
    assert "no run reached it" in (tmp_path / "out" / "crossbow_statistical.svg").read_text()


@pytest.mark.usefixtures("coarse")
def test_an_impossible_number_of_learners_gives_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = {"samples_per_second": float("nan"), "engine": ""}
    trials = [trial(1, "start"), trial(2, "impossible", reason="out of memory on rank 1", **nothing)]
    crossbow_run(tmp_path / "tuned", tuner=trials)
    assert crossbow.main([str(tmp_path / "tuned"), "-o", str(tmp_path / "out")]) == 0
    assert "tuned: 2 learners a rank are impossible: out of memory on rank 1." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "-o", "out", "--target_accuracy", "88"], "--target_accuracy: 88 is not between 0 and 1"),
        (["run", "-o", "out", "--target_accuracy", "nan"], "--target_accuracy: nan is not between 0 and 1"),
        (["run", "-o", "out", "--target_accuracy", "high"], "--target_accuracy: invalid float value: 'high'"),
        (["run", "-o", "out", "--skip", "-1"], "--skip: -1 is negative"),
        (["run"], "-o/--output"),
    ],
)
def test_wrong_usage_is_exit_2(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        crossbow.main(arguments)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crossbow.main([str(tmp_path / "absent"), "-o", str(tmp_path / "out")]) == 1
    assert "error: none of the runs can be read" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert crossbow.main([str(tmp_path), "-o", str(tmp_path / "file")]) == 2
    assert "error: -o" in capsys.readouterr().err
