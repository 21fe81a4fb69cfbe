"""``hpcsgd check``: what a recipe names is tried, and the first thing that is wrong is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcsgd.cli import main
from hpcsgd.tasks import together
from hpcsgd.tasks.attempt import attempt
from tests.single.api.own_recipes import RECIPES, import_torchvision, small_words, write_data
from tests.single.tasks.test_build import OWN, RECIPE


def test_a_sound_recipe_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []
    monkeypatch.setattr(together, "attempt", lambda *given: tries.append(given) or attempt(*given))
    (tmp_path / "own.yaml").write_text(RECIPE)
    assert main(["check", str(tmp_path / "own.yaml"), "--algorithm.name", "local_sgd", "--device", "cuda"]) == 0
    assert len(tries) == 1
    said = capsys.readouterr().out
    for words in (
        f"import     model.name {OWN}.Net from ",
        "own_task.py",
        "185 parameters; 23 of them without weight decay; 1 tensor tied to others; 42 frozen",
        "samples of train 40, test 13",
        "inputs float32 [2, 1, 4, 4], outputs float32 [2, 3], targets int64 [2]",
        "metric     precision: ",
        "no gradient comes to unused.weight, unused.bias",
        "a run by this recipe can begin",
    ):
        assert words in said, said
    assert list(tmp_path.iterdir()) == [tmp_path / "own.yaml"]


def test_what_is_wrong_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.yaml").write_text(RECIPE)
    assert main(["check", str(tmp_path / "own.yaml"), "--model.class_path", f"{OWN}.Fails"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("hpcsgd: the model's forward pass fails: RuntimeError: no such layer")
    assert said.err.count("\n") == 1


def test_recipes_of_the_package_can_be_checked_too(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data.name", "synthetic", "--global_batch_size", "8192", "--learners_per_rank", "1"]
    assert main(["check", *words]) == 0
    assert "fully_connected: " in capsys.readouterr().out


def test_without_a_recipe_it_says_how_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 2
    assert main(["check", "--help"]) == 0
    assert capsys.readouterr().out.count("usage: hpcsgd check RECIPE") == 2


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_recipes_of_ones_own_models_are_sound(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import_torchvision()
    write_data(tmp_path)
    assert main(["check", *small_words(recipe, tmp_path)]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert f"import     {'data' if recipe == 'resnet18' else 'model'}.name {recipe}." in said
    assert f"/jobs/own/{recipe}.py" in said and "samples of train 40" in said
