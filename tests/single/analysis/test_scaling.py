"""The script of the scaling figures as it is called: files, what is named, exit codes, and the text of a table."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

import scaling
from draw import figures
from hpcsgd.record.study_file import Entry, Study
from tests.single.analysis.fake_runs import FakeRun, constant

GOLDEN = """\
# Strong scaling: the global batch is kept

| series                     | num_ranks | local_batch_size | global_batch_size | num_runs | reference_ranks | ideal_speedup | samples_per_second | speedup | iteration_efficiency | iteration_seconds | epoch_seconds | exposed_share | wait_share | epoch_source |
| -------------------------- | --------: | ---------------: | ----------------: | -------: | --------------: | ------------: | -----------------: | ------: | -------------------: | ----------------: | ------------: | ------------: | ---------: | ------------ |
| sync. SGD; global batch 64 |         1 |               64 |                64 |        1 |               1 |             1 |                 64 |       1 |                    1 |                 1 |             4 |             0 |          0 | median of 2  |
| sync. SGD; global batch 64 |         2 |               32 |                64 |        1 |               1 |             2 |              106.7 |   1.667 |               0.8333 |               0.6 |           2.4 |        0.1667 |          0 | median of 2  |

- Each value is the median over the runs of a size; lowest and highest are over these runs.
- The time of record is the maximum over ranks. Percentiles are linear between the two nearest values.
- Speed-up is samples/s over those of the reference, the smallest size of the series (median of its runs); efficiency is speed-up over ideal speed-up.
- Exposed communication is the gradient allreduce that the backward pass does not hide, and averagings; the wait, which is a part of it, is a call's own duration less the shortest over its ranks. Both are the mean over ranks, as a share of the time of record.
- The first 5 iterations after each start of a run are left out (--skip 5, the default).
"""  # noqa: E501


pytestmark = pytest.mark.usefixtures("coarse")


def write_size(directory: Path, ranks: int, *, local: int = 0, **options: object) -> Path:
    """A run of two epochs of 4 steps: 1 s of compute at one rank, and 0.1 s of communication at several."""
    spans = {
        "forward_seconds": constant(1 / ranks, 8, ranks),
        "gradient_allreduce_seconds": constant(0.1 if ranks > 1 else 0, 8, ranks),
    }
    settings: dict[str, object] = {"local_batch_size": local or 64 // ranks, "steps_per_epoch": 4, **options}
    return FakeRun(spans, ["gradient"] * 8, **settings).write(directory / f"gpus-{ranks}")  # type: ignore[arg-type]


def test_golden_table_and_files_in_the_study_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "study"
    for ranks in (1, 2):
        write_size(study, ranks)
    assert scaling.main([str(study)]) == 0
    assert (study / "figures" / "scaling_strong.md").read_text() == GOLDEN
    said = capsys.readouterr()
    assert said.err == ""
    names = {f"scaling_strong.{kind}" for kind in ("png", "svg", "csv", "md")} | {"scaling_runs.csv", "scaling_runs.md"}
    assert {path.name for path in (study / "figures").iterdir()} == names
    assert sorted(said.out.splitlines()) == sorted(f"wrote {study / 'figures' / name}" for name in names)


def test_a_second_call_reads_the_same_runs(tmp_path: Path) -> None:
    for ranks in (1, 2):
        write_size(tmp_path, ranks)
    assert scaling.main([str(tmp_path)]) == 0
    first = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert scaling.main([str(tmp_path)]) == 0
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}


def test_strong_and_weak_have_figures_of_their_own(tmp_path: Path) -> None:
    for ranks in (1, 2):
        write_size(tmp_path / "strong", ranks)
        write_size(tmp_path / "weak", ranks, local=16)
    assert scaling.main([str(tmp_path / "strong"), str(tmp_path / "weak"), "-o", str(tmp_path / "out")]) == 0
    strong, weak = ((tmp_path / "out" / f"scaling_{kind}.svg").read_text() for kind in ("strong", "weak"))
    assert "sync. SGD; global batch 64" in strong and "local batch" not in strong.replace("Weak", "")
    assert "sync. SGD; local batch 16" in weak and "global batch" not in weak
    for words in (
        "Speed-up",
        "Efficiency (%)",
        "Time per iteration (s)",
        "Time per epoch (s)",
        "Wait",
        "smallest size",
    ):
        assert words in strong and words in weak
    assert "Ranks" in strong


def test_nothing_overlaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    finish = figures.finish
    monkeypatch.setattr(figures, "finish", lambda figure, *a, **b: (drawn.append(figure), finish(figure, *a, **b))[1])
    for ranks in (1, 2, 4, 8, 16, 32, 64):
        write_size(tmp_path, ranks, device="cuda")
        write_size(tmp_path / "local", ranks, algorithm={"name": "local_sgd", "sync_period": 1})
    write_size(tmp_path / "again", 1)
    assert scaling.main([str(tmp_path), "--skip", "0"]) == 0
    figure = drawn[0]
    (legend,), (text,) = figure.legends, figure.texts
    parts = [ax.get_tightbbox() for ax in figure.axes]
    parts += [legend.get_window_extent(), text.get_window_extent()]
    assert all(not a.overlaps(b) for a, b in itertools.combinations(parts, 2))
    width, height = figure.get_size_inches() * figure.dpi
    assert all(-1 <= b.x0 and b.x1 <= width + 1 and -1 <= b.y0 and b.y1 <= height + 1 for b in parts)
    assert width < 6 * figure.dpi, "shrunk to a column, its letters would be too small"


def test_gpus_are_called_gpus_and_ticks_stand_at_the_sizes(tmp_path: Path) -> None:
    for ranks in (1, 3, 6):
        write_size(tmp_path, ranks, local=8, device="cuda:0 NVIDIA H100")
    assert scaling.main([str(tmp_path)]) == 0
    text = (tmp_path / "figures" / "scaling_weak.svg").read_text()
    assert "GPUs (one rank each)" in text
    assert all(f">{size}</text>" in text for size in (1, 3, 6))


def test_what_is_missing_or_unfinished_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "study"
    one = write_size(study, 1)
    write_size(study, 2, status="failed")
    half = study / "gpus-4"
    half.mkdir()
    (half / "run.h5").write_bytes((one / "run.h5").read_bytes()[:2000])
    (study / "gpus-8").mkdir()
    (study / "gpus-8" / "recipe.yaml").touch()
    entries = tuple(Entry(f"gpus-{ranks}", None) for ranks in (1, 2, 4, 8, 16))
    Study(study, ("hpcsgd", "scale"), "/", entries).save()
    assert scaling.main([str(study)]) == 0
    message = capsys.readouterr().err
    table = (study / "figures" / "scaling_strong.md").read_text()
    for text in (message, table):
        assert "gpus-2: failed; what its log holds so far is used." in text
        assert f"Not read: {half / 'run.h5'}" in text
        for ranks in (8, 16):
            assert f"{study / f'gpus-{ranks}'}: no log: the run was not begun, or failed before" in text
    figure = (study / "figures" / "scaling_strong.svg").read_text()
    assert all(f"gpus-{ranks}" in figure for ranks in (4, 8, 16)) and "[failed]" in figure


def test_an_epoch_that_max_steps_cut_is_estimated_and_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for ranks in (1, 2):
        write_size(tmp_path, ranks, steps_per_epoch=100, provenance={"steps_per_epoch": 100})
    assert scaling.main([str(tmp_path)]) == 0
    assert "gpus-2: time per epoch: estimated from 3 iterations." in capsys.readouterr().err
    figure = (tmp_path / "figures" / "scaling_strong.svg").read_text()
    assert "Open markers: epoch estimated" in figure.replace("\n", " ") or "Open markers" in figure
    assert "estimated from 3 iterations" in (tmp_path / "figures" / "scaling_strong.csv").read_text()


def test_runs_that_are_no_series_are_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_size(tmp_path, 1)
    assert scaling.main([str(tmp_path)]) == 1
    assert "No two runs differ only in their ranks" in capsys.readouterr().err


def test_a_kept_prediction_is_drawn_beside_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, large = (write_size(tmp_path, ranks, local=32) for ranks in (1, 2))
    digest = hashlib.sha256((small / "run.h5").read_bytes()).hexdigest()
    spread = {"median": 0.5, "low": 0.4, "high": 0.7}
    one = {"algorithm": "sync_sgd", "local_batch": 32, "iteration_seconds": spread, "samples_per_second": spread}
    kept = {
        **{"format": 1, "made": "2026-01-01", "level": 0.9, "logs": [{"sha256": digest}], "unknown": ["a thing"]},
        "predictions": [one | {"gpus": gpus} for gpus in (1, 2, 4)],
    }
    file = tmp_path / "prediction.json"
    file.write_text(json.dumps(kept))
    assert scaling.main([str(small), str(large), "-o", str(tmp_path / "out"), "--prediction", str(file)]) == 0
    table = (tmp_path / "out" / "scaling_prediction.md").read_text()
    assert "Not known: a thing" in table
    rows = pd.read_csv(tmp_path / "out" / "scaling_prediction.csv").set_index("run")
    assert list(rows["kind"]) == ["fitted", "seen"] and list(rows["inside"]) == [False, True]
    # 0.6 s were measured on two ranks, and 0.5 s, at most 0.7, predicted.
    assert rows["error"]["gpus-2"] == pytest.approx(0.5 / 0.6 - 1, rel=1e-3)
    assert "90% interval" in (tmp_path / "out" / "scaling_prediction.svg").read_text()
    file.write_text("{}")
    assert scaling.main([str(small), str(large), "-o", str(tmp_path / "out"), "--prediction", str(file)]) == 2
    assert "not a prediction of hpcsgd predict" in capsys.readouterr().err


def test_wrong_usage_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert scaling.main([str(tmp_path), "-o", str(tmp_path / "file")]) == 2
    with pytest.raises(SystemExit) as stopped:
        scaling.main([str(tmp_path), "--skip", "-1"])
    assert stopped.value.code == 2
    assert "--skip: -1 is negative" in capsys.readouterr().err
