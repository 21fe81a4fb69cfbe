"""The public layout: what is read, what is passed over, and what is refused."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from hpcsgd.errors import UsageError
from hpcsgd.study.archive import Trial, read_archive, read_measurements
from hpcsgd.study.regimes import bootstrap, limits
from hpcsgd.study.result import steps_to_result
from hpcsgd.study.sources import pack
from tests.single.study.studies import METRIC, same_trials, study, trial, trial_lists, write_study

KEPT = Path(__file__).parents[2] / "data" / "studies" / "fashion_mnist_fc.tar.xz"


def make(root: Path, place: str, batch_size: int = 8) -> Path:
    """A study with one trial at ``place``, in the authors' own words; gives the trial's directory."""
    folder = root / place / "3"
    folder.mkdir(parents=True)
    content = {"batch_size": batch_size, "dataset": "d", "model": "m", "optimizer": "sgd", "train_steps": 0}
    (folder.parent / "study.json").write_text(json.dumps(content))
    metadata = {
        "_internal_trial_id": 7,
        "trial_id": 3,
        "status": "COMPLETE",
        "steps": 9,
        "parameters": {"momentum": 0.9},
    }
    (folder / "metadata.json").write_text(json.dumps(metadata))
    (folder / "measurements.csv").write_text("step,val/average_precision\n0,0.1\n5,\n9,0.25\n")
    return folder


@given(trial_lists())
@settings(deadline=None)
def test_what_is_written_is_read(trials: list[Trial]) -> None:
    whole = study(trials, 32, parameter_configs={"momentum": {"type": "DISCRETE", "feasible_points": [0.9]}})
    with tempfile.TemporaryDirectory() as directory:
        write_study(Path(directory), whole)
        (read,) = read_archive(Path(directory))
    assert (read.workload, read.batch_size, read.settings) == (whole.workload, 32, whole.settings)
    assert same_trials(read.trials, whole.trials)


def test_other_metrics_and_uneven_steps_are_read_as_the_header_says(tmp_path: Path) -> None:
    make(tmp_path, "d/m/sgd/8")
    (read,) = read_archive(tmp_path)
    assert (read.dataset, read.model, read.optimizer, read.batch_size) == ("d", "m", "sgd", 8)
    assert read.settings["train_steps"] == 0 and read.count("COMPLETE") == 1 and read.count("INFEASIBLE") == 0
    (only,) = read.trials
    assert (only.trial_id, only.steps, only.parameters) == (3, 9, {"momentum": 0.9})
    assert list(only.measurements) == ["step", "val/average_precision"]
    assert only.measurements["step"].tolist() == [0, 5, 9]
    np.testing.assert_array_equal(only.measurements["val/average_precision"], [0.1, np.nan, 0.25])


def test_measurements_rise_by_step_to_the_last_bit() -> None:
    read = read_measurements(b"a,step\r\n0.1,20\r\n1e-300,10\r\ninf,20\r\n")
    assert read["step"].tolist() == [10, 20, 20] and read["a"].tolist() == [1e-300, 0.1, float("inf")]


@pytest.mark.parametrize(
    ("below", "dataset"),
    [("", "d"), ("d", "d"), ("d/m", "d"), ("d/m/sgd", "d"), ("d/m/sgd/8", "d")],
)
def test_a_part_of_an_archive_has_the_names_of_the_whole(tmp_path: Path, below: str, dataset: str) -> None:
    make(tmp_path, "d/m/sgd/8")
    (read,) = read_archive(tmp_path / below)
    assert (read.workload, read.batch_size) == ((dataset, "m", "sgd"), 8)


def test_names_above_the_data_set_tell_workloads_apart(tmp_path: Path) -> None:
    """As in the authors' archive: one workload lies in it twice, the second time in a directory of another name."""
    for place in ("mnist/m/sgd", "solution_quality/mnist/m/sgd", "subsets/half/m/sgd"):
        make(tmp_path / "batch_science", f"{place}/8")
        make(tmp_path / "batch_science", f"{place}/16", 16)
    read = read_archive(tmp_path)
    assert [(item.dataset, item.batch_size) for item in read] == [
        (name, size) for name in ("half", "mnist", "solution_quality/mnist") for size in (8, 16)
    ]


def test_batch_sizes_and_trials_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    for size in (8, 1024, 64):
        write_study(tmp_path, study([trial(i, {1: 0.5}) for i in (10, 9, 2)], size))
    read = read_archive(tmp_path)
    assert [item.batch_size for item in read] == [8, 64, 1024]
    assert [[t.trial_id for t in item.trials] for item in read] == [[2, 9, 10]] * 3


def test_what_is_not_of_the_layout_is_passed_over(tmp_path: Path) -> None:
    folder = make(tmp_path, "d/m/sgd/8")
    for other in ("d/m/.sgd-8-4-abc", "d/m/sgd/8/.4", ".committed/8-0/4", "groups/metadata", "d/m/sgd/8/plots"):
        (tmp_path / other).mkdir(parents=True)
        (tmp_path / other / "metadata.json").write_text("{")
    (tmp_path / "d" / "study.json").write_text("another thing of this name")
    (folder.parent / "4").mkdir()
    (read,) = read_archive(tmp_path)
    assert [item.trial_id for item in read.trials] == [3]


def test_a_study_without_trials_and_a_directory_without_studies(tmp_path: Path) -> None:
    assert read_archive(tmp_path) == []
    write_study(tmp_path, study([]))
    (read,) = read_archive(tmp_path)
    assert read.trials == ()


def test_all_damaged_files_are_named_in_one_message(tmp_path: Path) -> None:
    damage = {
        "8": ("metadata.json", '{"trial_id": 3', "d/m/sgd/8/3/metadata.json (Expecting"),
        "16": ("metadata.json", '{"trial_id": 3, "steps": 1}', "d/m/sgd/16/3/metadata.json (status is missing)"),
        "32": ("measurements.csv", "step,a\n1,0.5\n2,0", None),
        "64": ("measurements.csv", "step,a\n1,0.5\n2\n", "64/3/measurements.csv (line 3 has 1 values, not 2)"),
        "128": ("measurements.csv", "step,a\n1.5,0.5\n", "128/3/measurements.csv (a step is no whole number"),
        "256": ("measurements.csv", "step,a\n1,x\n", "256/3/measurements.csv (could not convert"),
        "512": ("measurements.csv", "", "512/3/measurements.csv (the header has no step"),
        "1024": ("../study.json", "{}", "1024/study.json (batch_size is missing)"),
    }
    for size, (name, text, _) in damage.items():
        (make(tmp_path, f"d/m/sgd/{size}", int(size)) / name).write_text(text)
    (make(tmp_path, "d/m/sgd/2048") / "metadata.json").unlink()
    (make(tmp_path, "d/m/sgd/4096") / "measurements.csv").unlink()
    (make(tmp_path, "d/m/sgd/8192").parent / "study.json").unlink()
    with pytest.raises(UsageError) as refused:
        read_archive(tmp_path)
    said = str(refused.value)
    assert f"{tmp_path}: 10 files are damaged or missing: " in said
    assert all(text in said for _, _, text in damage.values() if text)
    for missing in ("2048/3/metadata.json", "4096/3/measurements.csv", "8192/study.json"):
        assert f"d/m/sgd/{missing} (is missing)" in said
    assert "d/m/sgd/32" not in said


@pytest.mark.parametrize(("batch_size", "status"), [(8, "DONE"), (0, "COMPLETE")])
def test_statuses_and_batch_sizes_are_checked(tmp_path: Path, batch_size: int, status: str) -> None:
    folder = make(tmp_path, "d/m/sgd/8", batch_size)
    text = (folder / "metadata.json").read_text()
    (folder / "metadata.json").write_text(text.replace("COMPLETE", status))
    with pytest.raises(UsageError, match="1 file is damaged or missing: .*(DONE' is none of|no positive batch_size)"):
        read_archive(tmp_path)


def test_a_long_list_of_damaged_files_is_cut(tmp_path: Path) -> None:
    for size in range(1, 14):
        (make(tmp_path, f"d/m/sgd/{size}") / "metadata.json").write_text("")
    with pytest.raises(UsageError, match=r"13 files are .*, and 3 more: restore them"):
        read_archive(tmp_path)


def test_a_trial_id_is_there_once(tmp_path: Path) -> None:
    folder = make(tmp_path, "d/m/sgd/8")
    folder.rename(folder.parent / "5")
    make(tmp_path / "other", "d/m/sgd/8").rename(folder)
    with pytest.raises(UsageError, match="8/study.json .two of its trials have trial_id 3"):
        read_archive(tmp_path / "d")


def test_a_real_study_is_read_from_its_packed_archive() -> None:
    """jobs/studies/fashion_mnist_fc.yaml as the command ran it."""
    studies = read_archive(KEPT)
    assert [item.batch_size for item in studies] == [8 << i for i in range(11)]
    assert {item.workload for item in studies} == {("fashion_mnist", "fully_connected_64", "nesterov_momentum")}
    assert all(item.count("COMPLETE") >= 20 and len(item.trials) == 32 for item in studies)
    assert all(METRIC in t.measurements for item in studies for t in item.trials)


def test_a_real_study_has_three_regimes() -> None:
    studies = read_archive(KEPT)
    found = {item.batch_size: steps_to_result(item, METRIC, 0.14) for item in studies}
    steps = {size: result.steps for size, result in found.items() if result is not None}
    regimes, spread = limits(steps), bootstrap(studies, METRIC, 0.14)
    assert regimes.maximal_from is not None and len(steps) == 11
    assert 8 < regimes.perfect_until < regimes.maximal_from < 8192
    assert spread.perfect_until[0] <= regimes.perfect_until <= spread.perfect_until[1]
    assert spread.maximal_from[0] <= regimes.maximal_from <= spread.maximal_from[1]
    assert all(spread.steps[size][0] == steps[size] for size in steps), "no draw can be better than all trials"


@pytest.mark.parametrize(("part", "names"), [("d/m/sgd/8", "d/m/sgd"), ("d/m/sgd", "d/m/sgd"), ("d", "d/m/sgd")])
def test_a_packed_part_of_an_archive_has_its_names_from_its_settings(tmp_path: Path, part: str, names: str) -> None:
    make(tmp_path, "d/m/sgd/8")
    pack(tmp_path / part, tmp_path / "part.zip")
    (read,) = read_archive(tmp_path / "part.zip")
    assert "/".join(read.workload) == names and read.count("COMPLETE") == 1


def test_two_runs_of_one_workload_are_told_apart(tmp_path: Path) -> None:
    for run in ("first", "second"):
        make(tmp_path / "runs" / run / "archive", "d/m/sgd/8")
    assert [item.dataset for item in read_archive(tmp_path / "runs")] == ["first/archive/d", "second/archive/d"]
    assert [item.dataset for item in read_archive(tmp_path / "runs" / "first")] == ["d"]
