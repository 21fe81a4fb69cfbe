"""What the reader makes of good, missing, foreign and unfinished files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from hpcsgd.errors import UsageError
from hpcsgd.record import columns as log_columns
from hpcsgd.record import reader
from hpcsgd.record.reader import find_runs, load_run
from hpcsgd.record.schema import ITERATION_COLUMNS, RANK_COLUMNS, TABLES
from tests.single.record import log_samples
from tests.single.record.log_files import old_log

METRICS = ("loss", "accuracy")


def make_run(directory: Path, num_steps: int = 3) -> Path:
    """A finished run in a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    with log_samples.make_writer(directory / "run.h5") as writer:
        writer.append_iterations(*log_samples.iterations(0, num_steps, 2))
        writer.append_epochs(log_samples.table_rows("epochs", 0, 1))
        writer.set_status("completed")
    return directory


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_columns, "PAUSE_SECONDS", 0.0)


def test_importing_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, hpcsgd, hpcsgd.config, hpcsgd.record.reader, hpcsgd.record.summary\n"
        "from hpcsgd.record import load_run, find_runs\n"
        "print(sorted({'h5py', 'pandas', 'numpy', 'torch', 'mpi4py'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_tables_have_the_columns_of_the_schema(tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path))
    assert list(run.iterations.columns) == ["step", "rank", *(c.name for c in ITERATION_COLUMNS + RANK_COLUMNS)]
    for name, columns in TABLES.items():
        assert list(getattr(run, name).columns) == [c.name for c in columns]
    assert run.iterations["action"].tolist() == ["none", "none", "gradient", "gradient", "block", "block"]
    assert run.iterations["epoch"].dtype == np.int64
    assert run.evaluations.empty


def test_a_run_is_named_by_its_directory_or_its_file(tmp_path: Path) -> None:
    make_run(tmp_path)
    assert load_run(tmp_path).path == load_run(str(tmp_path / "run.h5")).path == tmp_path / "run.h5"


def test_the_file_is_not_changed_by_reading(tmp_path: Path) -> None:
    make_run(tmp_path)
    (tmp_path / "run.h5").chmod(0o400)
    before = (tmp_path / "run.h5").read_bytes()
    load_run(tmp_path)
    assert (tmp_path / "run.h5").read_bytes() == before


def test_a_missing_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing: no run log here .*give a run's directory or its run\.h5"):
        load_run(tmp_path / "nothing")
    with pytest.raises(UsageError, match=r"run\.h5 does not exist"):
        load_run(tmp_path)


def test_a_file_that_is_no_hdf5_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.h5").write_text("step,loss\n")
    with pytest.raises(UsageError, match=r"run\.h5: not a run log of hpcsgd: no HDF5"):
        load_run(tmp_path)


def test_a_foreign_hdf5_file_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(UsageError, match="not a run log of hpcsgd: it has no schema_version"):
        load_run(tmp_path)


def test_a_log_of_version_1_has_no_trials_and_no_utilisation(tmp_path: Path) -> None:
    make_run(tmp_path)
    whole = load_run(tmp_path)
    missing = ["utilisation", "gradient_norm", "loss_weight", "loss_scale", "sync_period", "divergence"]
    missing += ["gradient_square", "gradient_variance", "learner_gradient_norm"]
    missing += ["hidden_seconds", "energy_joules", "node_energy_joules", "clock_hertz", "memory_bytes"]
    with h5py.File(tmp_path / "run.h5", "r+") as file:
        file.attrs["schema_version"] = 1
        del file["tuner"]
        for name in missing:
            del file[f"iterations/{name}"]
        for name in METRICS:
            file[f"evaluations/{name}"] = file["evaluations/value"][:]
        del file["evaluations/metric"], file["evaluations/value"]
    old = load_run(tmp_path)
    assert old.tuner.empty
    assert list(old.tuner.columns) == list(whole.tuner.columns)
    assert old.iterations[missing].isna().all(axis=None)
    pd.testing.assert_frame_equal(old.iterations.drop(columns=missing), whole.iterations.drop(columns=missing))


def test_a_log_of_version_2_has_a_row_a_metric_too(tmp_path: Path) -> None:
    run = load_run(old_log(2, tmp_path))
    assert (run.status, len(run.iterations), len(run.epochs)) == ("completed", 36, 3)
    assert list(run.evaluations.columns) == [c.name for c in TABLES["evaluations"]]
    rows = run.evaluations[["step", "split", "metric", "num_samples"]]
    expected = [(s, split, m, n) for s in (6, 12, 18) for split, n in (("train", 130), ("test", 37)) for m in METRICS]
    assert list(rows.itertuples(index=False, name=None)) == expected
    assert run.evaluations["value"].round(4).tolist()[-4:] == [2.06, 0.3615, 2.0614, 0.4324]
    assert run.iterations[["gradient_norm", "loss_weight", "loss_scale"]].isna().all(axis=None)
    assert list(run.iterations.columns) == ["step", "rank", *(c.name for c in ITERATION_COLUMNS + RANK_COLUMNS)]


def test_a_log_of_version_2_that_lost_a_metric_is_refused(tmp_path: Path) -> None:
    with h5py.File(old_log(2, tmp_path) / "run.h5", "r+") as file:
        del file["evaluations/accuracy"]
    with pytest.raises(UsageError, match="cannot be read as a run log: .*accuracy"):
        load_run(tmp_path)


def test_a_log_of_a_newer_hpcsgd_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path)
    with h5py.File(tmp_path / "run.h5", "r+") as file:
        file.attrs["schema_version"] = 99
    with pytest.raises(UsageError, match="schema version is 99, this hpcsgd reads up to 6"):
        load_run(tmp_path)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.99])
def test_a_log_that_was_cut_off_is_refused(tmp_path: Path, fraction: float) -> None:
    make_run(tmp_path)
    data = (tmp_path / "run.h5").read_bytes()
    (tmp_path / "run.h5").write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(UsageError, match=r"run\.h5: cannot be read as a run log: .*truncated"):
        load_run(tmp_path)


def test_a_log_that_lost_a_column_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path)
    with h5py.File(tmp_path / "run.h5", "r+") as file:
        del file["iterations/loss"]
    with pytest.raises(UsageError, match="cannot be read as a run log: .*loss"):
        load_run(tmp_path)


def test_rows_count_only_once_all_their_columns_and_their_index_are_there(tmp_path: Path) -> None:
    make_run(tmp_path, num_steps=5)
    with h5py.File(tmp_path / "run.h5", "r+") as file:
        file["iterations/step"][4] = -1
    assert load_run(tmp_path).iterations["step"].max() == 3
    with h5py.File(tmp_path / "run.h5", "r+") as file:
        file["iterations/loss"].resize(2, axis=0)
    assert load_run(tmp_path).iterations["step"].max() == 1
    assert len(load_run(tmp_path).epochs) == 1


def test_a_half_written_status_counts_as_running(tmp_path: Path) -> None:
    make_run(tmp_path)
    with h5py.File(tmp_path / "run.h5", "r+") as file:
        file["status"][()] = b"complg"
    assert load_run(tmp_path).status == "running"


def test_a_read_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path)
    real, failures = reader._read, [OSError("addr overflow"), KeyError("loss")]

    def read(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*arguments)

    monkeypatch.setattr(reader, "_read", read)
    assert len(load_run(tmp_path).iterations) == 6
    assert not failures


def test_a_log_that_was_written_meanwhile_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = log_samples.make_writer(tmp_path / "run.h5")
    real, lengths = reader._read, []

    def read(*arguments: Any) -> Any:
        run = real(*arguments)
        lengths.append(len(run.iterations))
        if len(lengths) < 3:
            writer.append_iterations(*log_samples.iterations(len(lengths) - 1, 1, 2))
        return run

    monkeypatch.setattr(reader, "_read", read)
    assert len(load_run(tmp_path).iterations) == 4
    assert lengths == [0, 2, 4]
    writer.close()


def test_runs_are_found_below_directories_and_each_problem_is_told(tmp_path: Path) -> None:
    first, second, third = (make_run(tmp_path / name) for name in ("runs/b", "runs/a", "runs/deep/down/c"))
    (tmp_path / "runs/broken").mkdir()
    (tmp_path / "runs/broken/run.h5").write_text("no log")
    (tmp_path / "empty").mkdir()
    single = make_run(tmp_path / "single")
    runs, problems = find_runs([tmp_path / "runs", str(single), tmp_path / "empty", tmp_path / "gone", first])
    assert [run.path.parent for run in runs] == [second, first, third, single]
    assert [line.split(":")[0] for line in problems] == [
        str(tmp_path / "runs/broken/run.h5"),
        str(tmp_path / "empty"),
        str(tmp_path / "gone"),
    ]


def test_a_run_named_twice_is_read_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "x")
    runs, problems = find_runs([run, run / "run.h5", tmp_path, run / ".." / "x"])
    assert len(runs) == 1
    assert problems == []
