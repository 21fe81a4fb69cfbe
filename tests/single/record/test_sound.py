"""Files that are no run logs, or no longer: one message each, whatever is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hpcsgd.errors import UsageError
from hpcsgd.record import columns, find_runs, load_run
from tests.single.record import log_samples


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A sound log of three steps."""
    with log_samples.make_writer(tmp_path / "run.h5") as writer:
        writer.append_iterations(*log_samples.iterations(0, 3, 2))
        writer.append_epochs(log_samples.table_rows("epochs", 0, 1))
    return tmp_path / "run.h5"


def attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__(name, value)


def recipe(**config: Any) -> Callable[[h5py.File], None]:
    return attribute("provenance", json.dumps({"config": config}))


def column(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = value

    return change


FOREIGN = [
    (attribute("schema_version", "two"), "schema_version is 'two', no number"),
    (attribute("schema_version", [1, 2]), "no number from 1 to 6"),
    (attribute("schema_version", 1.5), "no number from 1 to 6"),
    (attribute("schema_version", -1), "no number from 1 to 6"),
    (attribute("schema_version", h5py.Empty("f8")), "no number from 1 to 6"),
    (attribute("provenance", "{"), "provenance is no JSON"),
    (attribute("provenance", 3), "provenance is no JSON"),
    (attribute("provenance", np.bytes_(b"\xff")), "provenance is no JSON"),
    (attribute("provenance", "[" * 50_000 + "]" * 50_000), "provenance is no JSON"),
    (attribute("provenance", "[1]"), "its provenance has no recipe"),
    (attribute("provenance", '{"config": [1]}'), "its provenance has no recipe"),
    (attribute("provenance", '{"argv": 3}'), "argv of its provenance is 3"),
    (attribute("provenance", '{"steps_per_epoch": 0}'), "steps_per_epoch of its provenance is 0, no positive"),
    (attribute("provenance", '{"total_steps": "x"}'), "total_steps of its provenance is 'x', no positive"),
    (recipe(algorithm="x"), "algorithm of its recipe is 'x', no section"),
    (recipe(local_batch_size="x"), "local_batch_size of its recipe is 'x', which no recipe can have"),
    (recipe(learners_per_rank=[2]), "learners_per_rank of its recipe is"),
    (recipe(seed=True), "seed of its recipe is True"),
    (recipe(algorithm={"sync_period": "x"}), "algorithm.sync_period of its recipe is 'x'"),
    (recipe(learning_rate={"scaling_rule": "cubic"}), "learning_rate.scaling_rule of its recipe is 'cubic'"),
    (column("iterations/loss", np.full((3, 2), b"x")), "/iterations/loss is no column of type f8 and width"),
    (column("iterations/loss", np.zeros(3)), "/iterations/loss is no column"),
    (column("iterations/loss", np.zeros((3, 3))), "/iterations/loss is no column"),
    (column("iterations/step", np.zeros(3)), "/iterations/step is no column of type i8"),
    (column("epochs/train_loss", np.zeros(1, "i8")), "/epochs/train_loss is no column of type f8"),
    (lambda file: file["iterations"].move("rank", "ranks"), "neither rank nor statistic"),
]


@pytest.mark.parametrize(("change", "said"), FOREIGN)
def test_a_file_that_is_no_run_log_is_refused(log: Path, change: Callable[[h5py.File], None], said: str) -> None:
    with h5py.File(log, "r+") as file:
        change(file)
    with pytest.raises(UsageError, match="not a run log of hpcsgd: ") as refused:
        load_run(log)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.__delitem__("epochs"),
        lambda file: file.__delitem__("status"),
        column("status", 3),
        lambda file: file["iterations/action"].__setitem__(1, 200),
        lambda file: (file.__delitem__("epochs"), file.__setitem__("epochs", h5py.SoftLink("/epochs"))),
        lambda file: (file.__delitem__("epochs"), file.__setitem__("epochs", h5py.ExternalLink("/no", "/x"))),
        lambda file: (file.__delitem__("epochs/epoch"), file.create_group("epochs/epoch")),
    ],
)
def test_a_damaged_log_is_named_and_the_others_are_read(
    log: Path, change: Callable[[h5py.File], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "PAUSE_SECONDS", 0)
    (log.parent / "good").mkdir()
    (log.parent / "good/run.h5").write_bytes(log.read_bytes())
    with h5py.File(log, "r+") as file:
        change(file)
    runs, problems = find_runs([log.parent])
    assert [run.path for run in runs] == [log.parent / "good/run.h5"]
    assert len(problems) == 1 and problems[0].startswith(f"{log}: ")


def test_statistics_that_are_none_are_told(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "PAUSE_SECONDS", 0)
    with h5py.File(log, "r+") as file:
        file["iterations"].move("rank", "statistic")
    with pytest.raises(UsageError, match=r"its statistics are \[0, 1\], not min, median, max"):
        load_run(log)


def test_a_length_that_the_file_does_not_hold_counts_for_no_rows(log: Path) -> None:
    """A damaged length of rows that are in no chunk: 2^40 of them would fill the memory."""
    with h5py.File(log, "r+") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((512,))
        space = h5py.h5s.create_simple((1 << 40,), (h5py.h5s.UNLIMITED,))
        del file["iterations/step"]
        h5py.h5d.create(file["iterations"].id, b"step", h5py.h5t.NATIVE_INT64, space, plist)
        file["iterations/step"][:3] = range(3)
    assert load_run(log).iterations["step"].unique().tolist() == [0, 1, 2]


def test_a_directory_in_place_of_the_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run/run.h5").mkdir(parents=True)
    runs, problems = find_runs([tmp_path])
    assert runs == [] and len(problems) == 1 and "no run log here" in problems[0]
    with pytest.raises(UsageError, match="not a run log of hpcsgd"):
        load_run(tmp_path / "run")
