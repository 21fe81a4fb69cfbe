"""What is removed is ours: nothing else is touched, and what is in the way is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcsgd.config import DataConfig, RunConfig
from hpcsgd.config.recipe import to_yaml
from hpcsgd.config.study import RangeConfig, SpaceConfig, StopConfig, StudyConfig
from hpcsgd.errors import UsageError
from hpcsgd.run.leftovers import (
    RUN,
    STUDY,
    Kind,
    check_ours,
    check_removable,
    is_ours,
    present,
    remove,
    remove_checkpoint,
)

RUN_RECIPE = to_yaml(RunConfig(local_batch_size=4))
STUDY_RECIPE = to_yaml(
    StudyConfig(
        batch_sizes=(4,),
        space=SpaceConfig(learning_rate=RangeConfig(points=(0.1,))),
        stop=StopConfig(steps=3),
        data=DataConfig(validation_samples=1),
    )
)
OF_A_RUN = [
    "run.h5",
    "model.pt",
    "run-before-step-8.h5",
    "run-before-step-8-2.h5",
    "run.h5.resumed",
    ".model.pt.31",
    ".run.h5.resumed.31",
    ".watchdog-18af/waits-3",
    "checkpoints/step-00000004/rank-00000.pt",
    "checkpoints/step-00000004/manifest.json",
    "checkpoints/.step-00000008.18af/rank-00001.pt",
    "checkpoints/.step-00000008.18af/note-1.json",
]
OF_A_STUDY = [
    "plan.json",
    "provenance.json",
    "archive/pack/resnet8/momentum/4/study.json",
    "archive/pack/resnet8/momentum/4/12/metadata.json",
    "archive/pack/resnet8/momentum/4/12/measurements.csv",
    "groups/4-0.json",
    ".work/18af/4-1",
    ".work/18af/stop",
    ".work/18af/4-1.files/3/metadata.json",
    ".committed/4-1/3/metadata.json",
    ".committed/4-1/group.json",
]
KINDS = [(RUN, RUN_RECIPE, OF_A_RUN), (STUDY, STUDY_RECIPE, OF_A_STUDY)]


def fill(path: Path, files: list[str]) -> None:
    for name in files:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)


@pytest.mark.parametrize(("kind", "recipe", "files"), KINDS)
def test_all_that_is_ours_goes_and_nothing_else(tmp_path: Path, kind: Kind, recipe: str, files: list[str]) -> None:
    fill(tmp_path, [*files, "notes.txt", ".git/config", "checkpoint/step-1"])
    (tmp_path / kind.recipe).write_text(recipe)
    names = present(tmp_path, kind)
    check_ours(tmp_path, kind, names)
    check_removable(tmp_path, kind, names)
    remove(tmp_path, names, kind)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {kind.recipe, "notes.txt", ".git/config", "checkpoint/step-1"}


@pytest.mark.parametrize(
    "foreign",
    [
        "checkpoints/epoch=3.ckpt",
        "checkpoints/step-1000/weights.pt",
        "checkpoints/step-00000004/optimizer.pt",
        "checkpoints/best/rank-00000.pt",
        "model.pt/data.pkl",
    ],
)
def test_a_foreign_file_among_ours_is_named(tmp_path: Path, foreign: str) -> None:
    fill(tmp_path, [name for name in OF_A_RUN if not foreign.startswith(f"{name}/")] + [foreign])
    (tmp_path / "recipe.yaml").write_text(RUN_RECIPE)
    with pytest.raises(UsageError, match=f"holds {foreign}, which no run makes: nothing is removed"):
        check_removable(tmp_path, RUN, present(tmp_path, RUN))


def test_a_link_to_a_folder_of_the_user_is_not_followed(tmp_path: Path) -> None:
    fill(tmp_path / "mine", ["step-00000004/manifest.json"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "mine")
    with pytest.raises(UsageError, match="holds checkpoints, which no run makes"):
        check_removable(tmp_path / "run", RUN, ["checkpoints"])
    remove(tmp_path / "run", ["checkpoints"], RUN)
    assert (tmp_path / "mine" / "step-00000004" / "manifest.json").exists()


@pytest.mark.parametrize("content", [None, "", "- 1", "a: [", "model: resnet8\ndata: mine\n", "epochs: 3\nmodel: {}\n"])
@pytest.mark.parametrize(("kind", "files"), [(RUN, OF_A_RUN), (STUDY, OF_A_STUDY)])
def test_without_our_recipe_nothing_is_ours(tmp_path: Path, kind: Kind, files: list[str], content: str | None) -> None:
    fill(tmp_path, files)
    if content is not None:
        (tmp_path / kind.recipe).write_text(content)
    assert not is_ours(tmp_path, kind)
    with pytest.raises(UsageError, match=f"{kind.recipe}.* of a {kind.name}: nothing there is touched"):
        check_ours(tmp_path, kind, present(tmp_path, kind))


def test_a_recipe_of_a_study_is_none_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(STUDY_RECIPE)
    assert not is_ours(tmp_path, RUN)


def test_a_checkpoint_with_a_file_of_the_user_stays(tmp_path: Path) -> None:
    fill(tmp_path, ["step-00000004/rank-00000.pt", "step-00000008/rank-00000.pt", "step-00000008/plot.png", "step-1"])
    for name in ("step-00000004", "step-00000008", "step-1", "missing"):
        remove_checkpoint(tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "plot.png",
        "rank-00000.pt",
        "step-1",
    ]
