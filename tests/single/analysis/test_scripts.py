"""The scripts as they are called: files, messages, exit codes, and the text of a table of a run worked by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import learning_curves
import timing_curves
from tests.single.analysis.fake_runs import FakeRun, constant

ROOT = Path(__file__).resolve().parents[3]
TIMING = ("iteration", "along_run", "epoch", "wait_transfer", "throughput")
SIZES = ("batch", "ranks")
LEARNING = ("epoch", "step", "seconds", "bytes")
GOLDEN = """\
# Time of record per iteration

| run | iterations                            | num_iterations | left_out_iterations | mean_seconds | median_seconds | p5_seconds | p95_seconds |
| --- | ------------------------------------- | -------------: | ------------------: | -----------: | -------------: | ---------: | ----------: |
| two | every iteration                       |              5 |                   5 |            8 |              8 |        6.2 |         9.8 |
| two | mean over each synchronisation period |              5 |                   5 |            8 |              8 |        6.2 |         9.8 |

- The time of record is the maximum over ranks. Percentiles are linear between the two nearest values.
- The first 5 iterations after each start of a run are left out (--skip 5, the default).
- A synchronisation period is the iterations up to and with the next synchronisation of all ranks; its mean is the maximum over ranks of their sum, divided by their number. Periods with a left-out iteration and the unfinished last one are left out whole.
"""  # noqa: E501


def rising(ranks: int, **options: object) -> FakeRun:
    """10 steps of 1, 2, ... 10 s on rank 0 and 5 s on the others."""
    forward = np.full((10, ranks), 5.0)
    forward[:, 0] = np.arange(1, 11)
    spans = {"forward_seconds": forward, "gradient_allreduce_seconds": constant(0, 10, ranks)}
    return FakeRun(spans, ["gradient"] * 10, steps_per_epoch=5, accuracies=[0.5, 0.75], **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, subprocess.CompletedProcess[str]]]:
    """Both scripts on runs of two sizes, a half-written log and one that still runs; the figures' directory."""
    root = tmp_path_factory.mktemp("scripts")
    good = rising(1).write(root / "runs" / "one")
    rising(2).write(root / "runs" / "two")
    rising(2, status="running", algorithm={"name": "local_sgd", "sync_period": 1}).write(root / "runs" / "going")
    (root / "runs" / "half").mkdir()
    (root / "runs" / "half" / "run.h5").write_bytes((good / "run.h5").read_bytes()[:2000])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = {}
    for name in ("timing_curves", "learning_curves"):
        command = [sys.executable, str(ROOT / "analysis" / f"{name}.py"), str(root / "runs"), "-o", str(root / "out")]
        done[name] = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=root, timeout=120, check=False
        )
    return root / "out", done


def test_every_figure_and_its_table_is_written_and_named(called: tuple[Path, dict[str, object]]) -> None:
    out, done = called
    pictures = [f"timing_{name}" for name in (*TIMING, *SIZES)] + [f"learning_{name}" for name in LEARNING]
    tables = [f"timing_{name}" for name in (*TIMING, "iteration_of_record", "sizes", "runs")]
    tables += [f"learning_{name}" for name in ("evaluations", "training_loss", "results", "runs")]
    expected = {f"{name}.{kind}" for name in pictures for kind in ("png", "svg")}
    expected |= {f"{name}.{kind}" for name in tables for kind in ("csv", "md")}
    assert {path.name for path in out.iterdir()} == expected
    said = [line for result in done.values() for line in result.stdout.splitlines()]  # type: ignore[attr-defined]
    assert sorted(said) == sorted(f"wrote {path}" for path in out.iterdir())


def test_unread_and_unfinished_runs_are_named_everywhere(called: tuple[Path, dict[str, object]]) -> None:
    out, done = called
    for name, result in done.items():
        assert result.returncode == 0  # type: ignore[attr-defined]
        message = result.stderr  # type: ignore[attr-defined]
        assert f"{name}.py: Not read: " in message
        assert "half/run.h5" in message.replace(os.sep, "/")
        assert "going: still running, or killed" in message
        assert "Traceback" not in message
    for path in out.glob("*.md"):
        assert "half/run.h5" in path.read_text().replace(os.sep, "/"), path
    for path in out.glob("*.svg"):
        text = path.read_text().replace(os.sep, "/")
        assert "half/run.h5" in text, path
        assert "[running]" in text, path


def test_axes_have_units_and_captions_the_left_out_iterations(called: tuple[Path, dict[str, object]]) -> None:
    out, _ = called
    text = (out / "timing_iteration.svg").read_text()
    assert all(words in text for words in ("Time per iteration (s)", "Rank", "forward", "--skip 5, the default"))
    assert "averaging of replicas" not in text, "a span that no run has"
    assert "Global batch (samples)" in (out / "timing_batch.svg").read_text()
    assert "Throughput (samples/s)" in (out / "timing_ranks.svg").read_text()
    assert "Training clock (s)" in (out / "learning_seconds.svg").read_text()
    assert "Communicated bytes per rank (kB)" in (out / "learning_bytes.svg").read_text()


def test_numbers_behind_the_figures(called: tuple[Path, dict[str, object]]) -> None:
    out, _ = called
    epochs = pd.read_csv(out / "timing_epoch.csv")
    two = epochs[epochs["run"] == "two"]
    assert two["train_seconds"].tolist() == [25, 40]
    sizes = pd.read_csv(out / "timing_sizes.csv")
    assert sizes["run"].tolist() == ["one", "two"]
    assert sizes["iteration_seconds"].tolist() == [8, 8]
    assert sizes["iteration_efficiency"].tolist() == [1, 1]
    assert sizes["epoch_efficiency"].tolist() == pytest.approx([1, (15 + 40) / 2 / 2 / ((25 + 40) / 2)])
    results = pd.read_csv(out / "learning_results.csv")
    assert results["best_accuracy"].tolist() == [0.75] * 3
    assert results["best_train_seconds"].tolist() == [55, 55, 55]


@pytest.mark.usefixtures("coarse")
def test_golden_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = rising(2).write(tmp_path / "two")
    assert timing_curves.main([str(run), "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "timing_iteration_of_record.md").read_text() == GOLDEN
    assert "No two runs differ only in their ranks or batch" in capsys.readouterr().err
    assert not (tmp_path / "out" / "timing_ranks.png").exists()


@pytest.mark.usefixtures("coarse")
def test_figures_that_cannot_be_drawn_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = FakeRun({"forward_seconds": constant(1, 3, 1)}, ["none"] * 3, steps_per_epoch=9).write(tmp_path / "bare")
    assert timing_curves.main([str(run), "-o", str(tmp_path)]) == 0
    assert learning_curves.main([str(run), "-o", str(tmp_path)]) == 0
    message = capsys.readouterr().err
    assert "bare: 3 iterations, none left after --skip 5" in message
    for name in ("timing_epoch", "timing_wait_transfer", "learning_epoch", "learning_bytes"):
        assert f"{name} is not drawn: " in message
        assert not (tmp_path / f"{name}.png").exists()
    assert "timing_iteration is not drawn: " in message
    assert (tmp_path / "timing_along_run.png").exists()
    assert (tmp_path / "learning_step.png").exists()


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize("labels", ["summary", [0, 2]])
def test_logs_of_few_ranks_work(tmp_path: Path, labels: object) -> None:
    run = rising(4, labels=labels, blocks=[0, 0, 1, 1]).write(tmp_path / "few")
    assert timing_curves.main([str(run), "-o", str(tmp_path), "--skip", "0"]) == 0
    text = (tmp_path / "timing_iteration.md").read_text()
    assert "No iteration is left out (--skip 0; the default is 5)." in text
    assert "few: log.ranks is " in text
    assert (tmp_path / "timing_wait_transfer.png").exists()


@pytest.mark.usefixtures("coarse")
def test_learning_curves_of_statistics(tmp_path: Path) -> None:
    run = rising(4, labels="summary").write(tmp_path / "few")
    assert learning_curves.main([str(run), "-o", str(tmp_path)]) == 0
    assert "its training loss is the median over the ranks" in (tmp_path / "learning_training_loss.md").read_text()


@pytest.mark.parametrize("script", [timing_curves, learning_curves])
def test_no_readable_run_is_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str], script: object) -> None:
    assert script.main([str(tmp_path / "absent"), "-o", str(tmp_path / "out")]) == 1  # type: ignore[attr-defined]
    message = capsys.readouterr().err
    assert str(tmp_path / "absent") in message
    assert "error: none of the runs can be read" in message


@pytest.mark.parametrize("script", [timing_curves, learning_curves])
def test_an_unusable_directory_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str], script: object) -> None:
    (tmp_path / "file").touch()
    assert script.main([str(tmp_path), "-o", str(tmp_path / "file")]) == 2  # type: ignore[attr-defined]
    assert "error: -o" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "-o/--output"),
        (["-o", "out"], "RUN"),
        (["run", "-o", "out", "--skip", "-1"], "--skip: -1 is negative"),
        (["run", "-o", "out", "--skip", "many"], "--skip: invalid int value: 'many'"),
    ],
)
def test_wrong_usage_is_exit_2(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        timing_curves.main(arguments)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err
