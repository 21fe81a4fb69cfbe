"""A study of a user's own model, optimizer or text."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path

import pytest
import yaml

from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.config.recipe import load
from hpcsgd.config.study import StudyConfig
from hpcsgd.errors import UsageError
from hpcsgd.trials.job import run
from tests.single.trials.conftest import RECIPE

OWN = "tests.single.tasks.own_task"


def study(tmp_path: Path, *words: str) -> StudyConfig:
    """The small study of two trials, without a search of the momentum."""
    recipe = copy.deepcopy(RECIPE) | {"batch_sizes": [4], "trials": 2, "stop": {"steps": 10}}
    del recipe["space"]["momentum"], recipe["optimizer"], recipe["model"]  # type: ignore[attr-defined]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return load(StudyConfig, str(path), [f"--study_dir={tmp_path / 'study'}", *words])


def train(config: StudyConfig) -> tuple[Path, list[dict[str, str]]]:
    """Train it; the directory of its one batch size, and the measurements of its first trial."""
    folder = run(config, SingleCommunicator()) / "archive" / config.archive_path / "4"
    with (folder / "0" / "measurements.csv").open(newline="") as file:
        return folder, list(csv.DictReader(file))


def test_an_own_model_by_any_optimizer(tmp_path: Path) -> None:
    words = (f"--model.class_path={OWN}.Net", "--model.init_args={width: 6}", "--optimizer.name=torch.optim.AdamW")
    folder, rows = train(study(tmp_path, *words, "--fuse=2"))
    assert json.loads((folder / "study.json").read_text())["optimizer"] == "torch.optim.AdamW"
    assert [row["step"] for row in rows] == ["5", "10"]
    losses = [float(row["train/cross_entropy_error"]) for row in rows]
    assert losses[1] < losses[0]
    alone = tmp_path / "alone"
    alone.mkdir()
    assert train(study(alone, *words, "--fuse=1"))[1] == rows


def test_a_text(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(b"the quick brown fox " * 100)
    sizes = (f"--model.{name}=4" for name in ("embedding", "hidden"))
    data = ("--data.name=text", f"--data.dir={text}", "--data.sequence_length=8", "--data.validation_samples=30")
    _, rows = train(study(tmp_path, "--model.name=lstm", *sizes, *data, "--fuse=2"))
    assert [row["step"] for row in rows] == ["5", "10"]
    assert all(0 < float(row["val/classification_error"]) <= 1 for row in rows)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((f"--model.class_path={OWN}.Fails",), "the model's forward pass fails: .*no such layer"),
        ((f"--model.class_path={OWN}.Nett",), "did you mean .*Net"),
        (("--optimizer.name=torch.optim.LBFGS",), "torch.optim.LBFGS, which"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run(study(tmp_path, *words), SingleCommunicator())
    assert not (tmp_path / "study").exists()
