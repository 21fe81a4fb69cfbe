"""``hpcsgd study status`` of studies whose files are damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpcsgd.errors import UsageError
from hpcsgd.trials.status import describe

RECIPE = "goal: {metric: val/classification_error, value: null}\ntrials: 2\n"
SECONDS = {f"{name}_seconds": 1.0 for name in ("setup", "training", "evaluation", "bookkeeping", "wall")}
RECORD = {"group": "8-0", "trials": [0, 1], **SECONDS}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """The files that a status is read from: one group is done."""
    (tmp_path / "study.yaml").write_text(RECIPE)
    (tmp_path / "archive").mkdir()
    (tmp_path / "groups").mkdir()
    (tmp_path / "groups" / "8-0.json").write_text(json.dumps(RECORD))
    return tmp_path


def test_the_pace_is_that_of_the_groups(study: Path) -> None:
    assert "2 trials in 2 s of the teams: training 50.0%" in describe(study)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "null", "{", "\0" * 9, "[" * 100_000, json.dumps(RECORD | {"wall_seconds": "x"}), json.dumps(SECONDS)],
)
def test_a_damaged_group_is_named_and_the_others_are_shown(study: Path, content: str) -> None:
    (study / "groups" / "8-1.json").write_text(content)
    said = describe(study)
    assert "not used: groups/8-1.json is damaged" in said and "2 trials in 2 s" in said


@pytest.mark.parametrize(
    "content", ["", "goal: 3\ntrials: 2", "seed: 1", RECIPE.replace("2", "x"), RECIPE.replace("null", "x")]
)
def test_a_recipe_of_no_study_is_named(study: Path, content: str) -> None:
    (study / "study.yaml").write_text(content)
    with pytest.raises(UsageError, match="study.yaml is not what a study has written"):
        describe(study)
