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
from hpcsgd.trials.status import describe
from tests.single.trials.conftest import RECIPE

OWN = "tests.single.tasks.own_task"
FILES = "tests.single.data.own.own_data.Files"


def study(tmp_path: Path, *words: str) -> StudyConfig:
    """The small study of two trials, without a search of the momentum."""
    recipe = copy.deepcopy(RECIPE) | {"batch_sizes": [4], "trials": 2, "stop": {"steps": 10}}
    del recipe["space"]["momentum"], recipe["optimizer"], recipe["model"]  # type: ignore[attr-defined]
    if "--no_smoothing" in words:
        del recipe["space"]["label_smoothing"], recipe["data"], recipe["goal"]  # type: ignore[attr-defined]
        words = tuple(word for word in words if word != "--no_smoothing")
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return load(StudyConfig, str(path), [f"--study_dir={tmp_path / 'study'}", *words])


def train(config: StudyConfig) -> tuple[Path, list[dict[str, str]]]:
    """Train it; the directory of its one batch size, and the measurements of its first trial."""
    folder = run(config, SingleCommunicator()) / "archive" / config.archive_path / "4"
    with (folder / "0" / "measurements.csv").open(newline="") as file:
        return folder, list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["Net", "Drops"])
def test_an_own_model_by_any_optimizer(tmp_path: Path, name: str) -> None:
    """Also one that draws from torch's global generator: no trial feels what another one draws."""
    words = (f"--model.class_path={OWN}.{name}", "--model.init_args={width: 6}", "--optimizer.name=torch.optim.AdamW")
    folder, rows = train(study(tmp_path, *words, "--fuse=2"))
    assert json.loads((folder / "study.json").read_text())["optimizer"] == "torch.optim.AdamW"
    assert [row["step"] for row in rows] == ["5", "10"]
    losses = [float(row["train/cross_entropy_error"]) for row in rows]
    assert losses[1] < losses[0]
    alone = tmp_path / "alone"
    alone.mkdir()
    assert train(study(alone, *words, "--fuse=1"))[1] == rows


TABLE = (
    "--import_from=jobs/own",
    "--data.class_path=tabular.table",
    "--data.init_args={train: 200, test: 24}",
    "--data.validation_samples=40",
    "--model.class_path=tabular.network",
    "--model.init_args={width: 6}",
    "--optimizer.class_path=torch.optim.AdamW",
)
REGRESSION = (
    "--loss=squared_error",
    "--metrics={mae: tabular.absolute_error}",
    "--goal.metric=val/mae",
    "--goal.value=0",
)


def table(tmp_path: Path, *words: str) -> StudyConfig:
    """The small study on numbers."""
    return study(tmp_path, "--no_smoothing", *TABLE, *words)


def test_numbers_of_ones_own_with_their_loss_and_metric(tmp_path: Path) -> None:
    found = []
    for fuse in (1, 2):
        folder, rows = train(table(tmp_path / str(fuse), *REGRESSION, f"--fuse={fuse}"))
        assert folder.parent.relative_to(folder.parents[3]) == Path("tabular.table/tabular.network/torch.optim.AdamW")
        found.append(rows)
    names = [f"{split}/{name}" for split in ("train", "val", "test") for name in ("loss", "mae")]
    assert list(rows[0]) == ["step", *names]
    assert float(rows[1]["train/loss"]) < float(rows[0]["train/loss"])
    assert "goal: val/mae below 0" in describe(tmp_path / "2" / "study")
    for one, other in zip(*found, strict=True):
        assert [float(value) for value in one.values()] == pytest.approx([float(v) for v in other.values()], rel=1e-5)


def test_a_loss_of_sum_and_weight_is_that_of_each_sample_where_all_weigh_the_same(tmp_path: Path) -> None:
    rows = []
    for name in ("each", "summed"):
        words = (f"--loss={OWN}.{name}_square", "--goal.metric=val/loss", "--dtype=float64", "--fuse=2")
        rows.append(train(table(tmp_path / name, *words))[1])
    for one, other in zip(*rows, strict=True):
        assert [float(value) for value in one.values()] == pytest.approx([float(v) for v in other.values()], rel=1e-9)


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
        ((), "goal.metric is 'val/classification_error': it must be one of val/loss, val/mae in this study"),
        (("--goal.metric=val/mse",), "one of val/loss, val/mae"),
        (("--space.label_smoothing.points=[0.1]",), "space.label_smoothing is 'given': it must be unset for squared"),
        (("--data.workers=2",), "data.workers is 2, which a study does not use"),
        (
            ("--goal.metric=val/mae", "--data.validation_samples=0"),
            "tabular.table has no split val, on which the goals",
        ),
        (
            ("--goal.metric=val/mae", f"--data.class_path={FILES}", "--data.validation_samples=3"),
            "the split train of the data .* is read sample by sample, and a study holds its data in memory",
        ),
    ],
)
def test_what_a_study_of_numbers_cannot_be(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    given = (*REGRESSION[:2], *words)
    with pytest.raises((UsageError, ValueError), match=said):
        run(table(tmp_path, *given), SingleCommunicator())
    assert not (tmp_path / "study").exists()


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
