"""A study in one process: what it leaves, how it is gone on with, and what its status says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hpcsgd.cli import main
from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.comm.stop import StopSignals
from hpcsgd.config.study import StudyConfig
from hpcsgd.errors import Preempted, UsageError
from hpcsgd.study.regimes import bootstrap, limits
from hpcsgd.trials import training
from hpcsgd.trials.job import run
from hpcsgd.trials.prepare import claim_study
from hpcsgd.trials.status import describe, describe_regimes
from tests.single.study.studies import METRIC, curve
from tests.single.trials.conftest import RECIPE

Study = Callable[..., StudyConfig]


def start(config: StudyConfig, signals: StopSignals | None = None) -> Path:
    return run(config, SingleCommunicator(), ["hpcsgd", "study", "run", "x.yaml"], signals)


def archive(path: Path) -> dict[str, bytes]:
    root = path / "archive"
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_what_a_study_leaves(study: Study, tmp_path: Path) -> None:
    path = start(study(study_dir=tmp_path / "s", fuse=2))
    assert {file.name for file in path.iterdir()} == {
        "study.yaml", "provenance.json", "plan.json", "archive", "groups", ".committed", ".work", ".lock"
    }  # fmt: skip
    assert list((path / ".work").iterdir()) == list((path / ".committed").iterdir()) == []
    folder = path / "archive" / "synthetic" / "fully_connected_6" / "nesterov_momentum" / "4"
    settings = json.loads((folder / "study.json").read_text())
    assert (settings["batch_size"], settings["train_steps"], settings["early_stopping"]) == (4, 40, False)
    assert settings["parameter_configs"]["learning_rate_decay_steps"]["max_value"] == 40
    metadata = json.loads((folder / "3" / "metadata.json").read_text())
    assert (metadata["trial_id"], metadata["status"], metadata["steps"]) == (3, "COMPLETE", 40)
    rows = (folder / "3" / "measurements.csv").read_text().splitlines()
    assert rows[0] == (
        "step,train/cross_entropy_error,train/classification_error,val/cross_entropy_error,val/classification_error,"
        "test/cross_entropy_error,test/classification_error"
    )
    assert [row.split(",")[0] for row in rows[1:]] == ["5", "10", "15", "20", "25", "30", "35", "40"]
    provenance = json.loads((path / "provenance.json").read_text())
    assert provenance[0]["argv"] == ["hpcsgd", "study", "run", "x.yaml"] and "torch" in provenance[0]["versions"]
    groups = [json.loads(file.read_text()) for file in (path / "groups").iterdir()]
    assert sorted((group["batch_size"], *group["trials"]) for group in groups) == [
        (4, 0, 1), (4, 2, 3), (4, 4), (16, 0, 1), (16, 2, 3), (16, 4)
    ]  # fmt: skip


def test_a_stop_keeps_what_is_finished_and_the_next_start_does_the_rest(study: Study, tmp_path: Path) -> None:
    whole = archive(start(study(study_dir=tmp_path / "whole", fuse=2)))
    config = study(study_dir=tmp_path / "s", fuse=2)
    signals, before = StopSignals(), training.measure

    def measure_and_stop(*args: object) -> object:
        signals.came = len(list((tmp_path / "s" / "groups").iterdir())) == 2
        return before(*args)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "measure", measure_and_stop)
        with pytest.raises(Preempted, match="with 4 groups of trials left"):
            start(config, signals)
    records = {file.name: file.read_text() for file in (tmp_path / "s" / "groups").iterdir()}
    assert len(records) == 2
    assert archive(start(config)) == whole
    assert all((tmp_path / "s" / "groups" / name).read_text() == text for name, text in records.items())
    assert len(json.loads((tmp_path / "s" / "provenance.json").read_text())) == 2


def test_a_study_of_another_recipe_is_left_alone(study: Study, tmp_path: Path) -> None:
    path = start(study(study_dir=tmp_path / "s"))
    before = archive(path)
    with pytest.raises(UsageError, match="holds a study with trials 5, not 6: a study is resumed with the recipe"):
        start(study(study_dir=path, trials=6))
    with pytest.raises(UsageError, match="holds a study already"):
        start(study(study_dir=path, resume="none"))
    assert archive(path) == before
    assert archive(start(study(study_dir=path, seed=1, overwrite="true"))).keys() == before.keys()
    assert archive(path) != before


def test_one_job_a_study(study: Study, tmp_path: Path) -> None:
    config = study(study_dir=tmp_path / "s")
    with claim_study(tmp_path / "s", config), pytest.raises(UsageError, match="is in use by .* another study_dir"):
        start(config)
    start(config)


DAMAGED = [
    "",
    "{",
    "[" * 100_000,
    '[{"a": 1}]',
    '{"a": 1}',
    '[{"batch_size": 4, "budget": -1, "engine": "loop", "fuse": 0}]',
]


@pytest.mark.parametrize("name", ["plan.json", "provenance.json", "groups/4-0.json", "study.yaml"])
def test_a_damaged_file_is_named_and_nothing_is_changed(study: Study, tmp_path: Path, name: str) -> None:
    config = study(study_dir=tmp_path / "s", trials=1, stop__steps=5)
    path = start(config)
    sound = (path / name).read_bytes()
    for content in DAMAGED:
        if name == "provenance.json" and content.startswith('[{"'):
            continue
        (path / name).write_text(content)
        before = archive(path.parent / "s"), sorted(path.rglob("*")), (path / "study.yaml").read_bytes()
        with pytest.raises(UsageError, match=name.replace("/", ".")):
            start(config)
        assert before == (archive(path), sorted(path.rglob("*")), (path / "study.yaml").read_bytes())
    (path / name).write_bytes(sound)
    start(config)


def test_a_study_goes_on_with_its_own_data_only(study: Study, tmp_path: Path) -> None:
    path = start(study(study_dir=tmp_path / "s", trials=1, stop__steps=5))
    starts = json.loads((path / "provenance.json").read_text())
    assert starts[0]["data"]["samples"] == {"train": 80, "val": 40, "test": 20}
    starts[0]["data"]["samples"]["train"] = 90
    (path / "provenance.json").write_text(json.dumps([{"argv": []}, *starts]))  # the first of an older version
    before = archive(path)
    with pytest.raises(UsageError, match="other data than this: here, train has 80 samples, not 90"):
        start(study(study_dir=path, trials=1, stop__steps=5))
    assert len(json.loads((path / "provenance.json").read_text())) == 2 and archive(path) == before
    start(study(study_dir=path, trials=1, stop__steps=5, overwrite="true"))


def test_what_is_no_study_is_not_overwritten(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "s"
    (path / "archive").mkdir(parents=True)
    (path / "archive" / "photos.zip").write_text("mine")
    with pytest.raises(UsageError, match="holds archive, but has no study.yaml of a study"):
        start(study(study_dir=path, overwrite="true"))
    assert [file.name for file in path.rglob("*")] == ["archive", "photos.zip"]


def test_how_trials_are_grouped_is_settled_once(study: Study, tmp_path: Path) -> None:
    path = start(study(study_dir=tmp_path / "s", fuse="auto"))
    plan = json.loads((path / "plan.json").read_text())
    assert [entry["batch_size"] for entry in plan] == [4, 16]
    for entry in plan:
        entry["fuse"], entry["engine"] = 3, "fused"  # what an older version called it
    (path / "plan.json").write_text(json.dumps(plan))
    for file in (path / "groups").iterdir():
        file.unlink()
    start(study(study_dir=path, fuse="auto"))
    assert sorted(file.name for file in (path / "groups").iterdir()) == [
        "16-0.json",
        "16-1.json",
        "4-0.json",
        "4-1.json",
    ]
    assert {json.loads(file.read_text())["engine"] for file in (path / "groups").iterdir()} == {"dense"}


def test_the_status_of_a_study(study: Study, tmp_path: Path) -> None:
    path = start(study(study_dir=tmp_path / "s", goal__value=0.5))
    said = describe(path)
    header, first, second = (line.split() for line in said.splitlines()[2:5])
    assert header[:5] == ["batch", "COMPLETE", "INCOMPLETE", "INFEASIBLE", "left"]
    assert first[:5] == ["4", "5", "0", "0", "0"] and second[:5] == ["16", "5", "0", "0", "0"]
    assert "perfect scaling up to batch size" in said and "10 trials in" in said and "bookkeeping" in said
    with pytest.raises(UsageError, match="holds no study"):
        describe(tmp_path)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ({8: 100, 16: 50, 32: 45}, "from 16 on (16 to 16) steps stay within"),
        ({8: 100, 16: 50, 32: 100}, "at the largest batch size steps are not within 2^0.5 of the least: no flat end"),
    ],
)
def test_the_limits_of_a_study_are_said(steps: dict[int, int], said: str) -> None:
    first, second = describe_regimes(limits(steps), bootstrap(curve(steps), METRIC, 0.1, draws=9))
    assert first == "perfect scaling up to batch size 16 (95 % over trials: 16 to 16)"
    assert second.startswith(said)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(yaml.safe_dump(RECIPE | {"progress": "lines"}))
    assert main(["study", "run", "small.yaml", "--trials", "2"]) == 0
    said = capsys.readouterr().err
    assert "trial 4/4: done, 2 of 2 batch sizes done" in said and "the study is in runs/small" in said
    assert main(["study", "status", "runs/small"]) == 0
    assert "COMPLETE" in capsys.readouterr().out
    assert main(["study", "run", "small.yaml", "--print_config", "--trials", "7"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["trials"] == 7
    assert main(["study", "run", "small.yaml", "--trails", "7"]) == 2
    assert "did you mean trials?" in capsys.readouterr().err
