"""Lin's figures from made-up logs: what is written, what stands in it, and what is said to be missing."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import lin
from chapters.lin import FIGURES as FIGURES_OF_LIN
from chapters.lin_drawings import lacking
from chapters.lin_study import Study
from runs import logs as run_logs
from tests.single.analysis.lin_runs import lin_run, write_campaign
from tests.single.analysis.pictures import few_pixels

FIGURES = (
    *("scenarios", "epochs", "period", "workers", "minibatch", "switch", "time", "communication", "wires", "hierarchy"),
    "schedules",
)
TABLES = ("scenarios", "curves", "sweeps", "settings", "pairs", "grid", "schedules", "runs")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the figures of a whole campaign went to."""
    root = tmp_path_factory.mktemp("lin")
    write_campaign(root / "runs")
    with few_pixels():
        assert (
            lin.main([str(root / "runs"), "--out", str(root / "out"), "--target_accuracy", "0.76", "--skip", "0"]) == 0
        )
    return root / "out"


def test_every_figure_and_table_is_written(drawn: Path) -> None:
    expected = {f"lin_{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    expected |= {f"lin_{name}.{kind}" for name in TABLES for kind in ("csv", "md")}
    assert {path.name for path in drawn.iterdir()} == expected


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "scenarios",
            ("A3, H = 4", "A5, H = 32", "published: resnet20 on cifar10", "less that of A2", "not in the table"),
        ),
        ("epochs", ("Training accuracy (%)", "Test accuracy (%)", "A1, kn = 8: small mini-batch SGD")),
        ("period", ("H (local steps)", "Final accuracy (%)", "k = 4", "H = 1 is synchronous SGD")),
        ("workers", ("Learners of all ranks, k", "H = 4")),
        (
            "minibatch",
            ("mini-batch SGD", "local SGD, k = 4, n = 8", "Samples between two rounds", "Bytes of a rank (kB)"),
        ),
        ("switch", ("First epoch with local steps",)),
        (
            "time",
            ("Time to target accuracy (s)", "Speed-up to target accuracy", "Target accuracy: 76 %", "as many times"),
        ),
        ("communication", ("Rounds", "post-local SGD", "hierarchical local SGD")),
        ("wires", ("ef_sign", "full", "Bytes of a rank so far (")),
        ("hierarchy", ("H_b (block averagings)", "Averagings of all ranks", "24")),
        ("schedules", ("H as run (steps)", "post-local SGD, H = 4, from epoch 2", "kind power")),
    ],
)
def test_figures_say_what_they_show(drawn: Path, name: str, words: tuple[str, ...]) -> None:
    text = (drawn / f"lin_{name}.svg").read_text()
    for word in words:
        assert word in text, word


def test_the_published_table_stands_below_ours(drawn: Path) -> None:
    table = pd.read_csv(drawn / "lin_scenarios.csv")
    sources = table["source"].tolist()
    assert sources == sorted(sources) and sources.count("published") == 22
    ours = table[table["source"] == "our runs"]
    assert sorted(set(ours["scenario"])) == ["A1", "A2", "A3", "A4", "A5"]


@pytest.mark.usefixtures("coarse")
def test_what_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lin_run(tmp_path / "run", period=4, metric="f1")
    assert lin.main([str(tmp_path / "run"), "-o", str(tmp_path / "out")]) == 0
    message = capsys.readouterr().err
    for name in FIGURES:
        lines = [line for line in message.splitlines() if line.startswith(f"lin.py: lin_{name} ")]
        assert len(lines) == 1 and "is not drawn: " in lines[0], name
    assert "no run has the metric accuracy" in message
    assert "--set algorithm.sync_period=4,16" in message
    assert not list((tmp_path / "out").glob("*.png"))
    assert (tmp_path / "out" / "lin_runs.md").exists()


def test_scenarios_that_are_missing_and_what_is_found_are_said(tmp_path: Path) -> None:
    lin_run(tmp_path / "a2", "sync_sgd", accuracy=0.8)
    lin_run(tmp_path / "a3", "sync_sgd", batch=32, accuracy=0.7)
    lin_run(tmp_path / "a4", period=4, accuracy=0.75)
    lin_run(tmp_path / "a5", "post_local_sgd", period=4, start=3, accuracy=0.81)
    study = Study("task", 0, run_logs.load([str(tmp_path)])[0], None, 0)
    assert lacking(FIGURES_OF_LIN[0], study, study.scenarios)[0].startswith(
        "lin_scenarios (task) lacks A1 (small mini-batch SGD); missing are"
    )
    found = [line.replace("\N{NO-BREAK SPACE}", " ") for line in study.findings()]
    assert found == [
        "task: with 128 samples between two rounds, local SGD (H = 4) has 75.00 %, mini-batch SGD 70.00 %: +5.00 "
        "points (1 run and 1).",
        "task: A5, H = 4 is +1.00 points from A2.",
    ]


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lin.main([str(tmp_path / "absent"), "-o", str(tmp_path / "out")]) == 1
    assert "error: none of the runs can be read" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        lin.main(["run", "-o", "out", "--target_accuracy", "88"])
    assert stopped.value.code == 2
