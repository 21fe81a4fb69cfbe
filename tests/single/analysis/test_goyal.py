"""Goyal's figures from made-up logs: what is written, what stands in it, and what is said to be missing."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

import goyal
from tests.single.analysis.goyal_runs import goyal_run
from tests.single.analysis.pictures import few_pixels

FIGURES = ("error", "warmup", "training", "curves", "timing", "throughput", "schedules")
TABLES = ("settings", "curves", "sizes", "schedules", "runs")


def write_study(root: Path) -> None:
    """Two sizes on one rank and the second on two as well; two seeds; at it no warm-up, one run of which diverged."""
    for seed in (0, 1):
        down = [40.0, 20.0, 12.0, 11.0, 10.0 + seed]
        goyal_run(root / f"small-{seed}", 64, seed=seed, test=down, train=[e - 5 for e in down])
        goyal_run(root / f"large-{seed}", 128, seed=seed, test=[e + 1 for e in down], train=down)
    goyal_run(root / "none-0", 128, warmup="none", test=[90.0, 60.0, 40.0, 30.0, 20.0], train=[80.0] * 5)
    goyal_run(root / "none-1", 128, warmup="none", seed=1, test=[95.0], train=[95.0], status="diverged")
    goyal_run(root / "ranks", 128, ranks=2, test=[15.0] * 5, train=[10.0] * 5)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the figures of a whole study went to."""
    root = tmp_path_factory.mktemp("goyal")
    write_study(root / "runs")
    with few_pixels():
        assert goyal.main([str(root / "runs"), "-o", str(root / "out")]) == 0
    return root / "out"


def text(drawn: Path, name: str) -> str:
    """The figure's, each space of one kind."""
    return (drawn / f"goyal_{name}.svg").read_text().replace("\N{NO-BREAK SPACE}", " ")


def test_every_figure_and_table_is_written(drawn: Path) -> None:
    expected = {f"goyal_{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    expected |= {f"goyal_{name}.{kind}" for name in TABLES for kind in ("csv", "md")}
    assert {path.name for path in drawn.iterdir()} == expected


def test_errors_stand_beside_the_published_ones(drawn: Path) -> None:
    shown = text(drawn, "error")
    for words in ("Test error (%)", "Minibatch kn (samples)", "published: ResNet-50 on ImageNet", "runs that diverged"):
        assert words in shown
    assert "1 of 2" in shown and "published: square-root η, gradual warm-up" in shown
    table = pd.read_csv(drawn / "goyal_settings.csv")
    rows = table.set_index(["warmup", "global_batch_size", "num_ranks"])
    small = rows.loc[("gradual", 64, 1)]
    assert (small["error_percent"], small["error_std_percent"]) == pytest.approx((12.0, 0.0))
    lost = rows.loc[("none", 128, 1)]
    assert (lost["error_percent"], lost["num_diverged"]) == (pytest.approx(40.0), 1)


def test_each_warm_up_is_a_panel_with_the_small_minibatch(drawn: Path) -> None:
    shown = text(drawn, "warmup")
    for words in ("Training error (%)", "Epochs", "no warm-up", "40.00 %, 1 of 2 diverged"):
        assert words in shown
    # One minibatch on one rank and on two.
    assert "gradual warm-up, 1 rank<" in shown and "gradual warm-up, 2 ranks<" in shown
    assert "small minibatch: kn = 64, 12.00 ± 0.00 %" in shown
    assert "24.84 ± 0.37 %" in shown, "the published one"


def test_each_minibatch_is_a_panel_and_a_colour(drawn: Path) -> None:
    assert "kn = 128, η = 0.02, 1 rank" in text(drawn, "training")
    shown = text(drawn, "curves")
    assert all(words in shown for words in ("kn = 64", "kn = 128", "Training error (%)", "Test error (%)"))


def test_times_and_images_a_second_stand_among_the_published(drawn: Path) -> None:
    for name, words in (("timing", "Time per epoch"), ("throughput", "Throughput (images/s)")):
        shown = text(drawn, name)
        assert words in shown and "published: Goyal 2017, ResNet-50, P100" in shown and "ideal" in shown
    sizes = pd.read_csv(drawn / "goyal_sizes.csv")
    assert set(sizes["scaling"]) == {"weak", "strong"}
    assert "published" not in set(sizes["run"]), "the table of ours"
    # 0.128 s of compute and 1 ms of allreduce on one rank, half the compute on each of two.
    rows = sizes[sizes["scaling"] == "strong"].set_index("run")
    assert rows.loc["ranks", "iteration_seconds"] == pytest.approx(0.065)
    assert rows.loc["large-0", "iteration_seconds"] == pytest.approx(0.129)


def test_the_learning_rate_as_run(drawn: Path) -> None:
    assert "Learning rate η" in text(drawn, "schedules")
    rates = pd.read_csv(drawn / "goyal_schedules.csv").groupby("setting")["learning_rate"].unique()
    assert rates["η = 0.01·kn/64, gradual warm-up; kn = 64; 1 rank"].tolist() == [0.01]
    assert rates["η = 0.01·kn/64, no warm-up; kn = 128; 1 rank"].tolist() == [0.02]


def test_the_table_of_runs_has_every_run_and_what_became_of_it(drawn: Path) -> None:
    runs = pd.read_csv(drawn / "goyal_runs.csv").set_index("run")
    assert sorted(runs.index) == ["large-0", "large-1", "none-0", "none-1", "ranks", "small-0", "small-1"]
    assert runs.loc["none-1", "status"] == "diverged" and math.isnan(runs.loc["none-1", "error_percent"])
    assert runs.loc["large-1", "error_percent"] == pytest.approx(13.0)
    notes = (drawn / "goyal_runs.md").read_text()
    assert "none-1: diverged; it is counted beside the mean of its setting, not in it." in notes


def test_what_a_comparison_lacks_is_said(coarse: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for warmup in ("none", "gradual"):
        goyal_run(tmp_path / "runs" / warmup, 128, warmup=warmup, test=[20.0] * 5)
    assert goyal.main([str(tmp_path / "runs"), "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "goyal_warmup (kn = 128) lacks the runs with constant warm-up and the linear rule." in said
    assert "goyal_warmup (kn = 128) lacks the runs at a smaller minibatch to compare with." in said
    # No run has evaluated the training set.
    assert "Training loss (nats)" in (tmp_path / "out" / "goyal_warmup.svg").read_text()


def test_what_cannot_be_drawn_names_the_missing_runs(
    coarse: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = goyal_run(tmp_path / "alone", status="diverged", num_epochs=1)
    assert goyal.main([str(run), "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "goyal_error is not drawn: no run has come to its end with an evaluation." in said
    for name, option in (
        ("goyal_warmup is not drawn", "--set learning_rate.warmup=none,constant,gradual"),
        ("goyal_training is not drawn", "--set global_batch_size="),
        ("goyal_curves is not drawn", "--set global_batch_size="),
        ("goyal_timing is not drawn", "--set global_batch_size="),
        ("goyal_throughput is not drawn", "hpcsgd scale RECIPE --gpus 1,2,4,8 --mode weak"),
    ):
        (line,) = [line for line in said.splitlines() if name in line]
        assert option in line
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"goyal_schedules.png"}


def test_no_readable_run_is_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert goyal.main([str(tmp_path / "absent"), "-o", str(tmp_path / "out")]) == 1
    assert "error: none of the runs can be read" in capsys.readouterr().err
