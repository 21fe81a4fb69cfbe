"""The recipes that come with the package go through the commands that make jobs, wherever their data is."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcsgd.cli import main
from tests.single.record.pack_files import write_pack

ROOT = Path(__file__).resolve().parents[3]
RECIPES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "jobs").rglob("*.yaml"))
STUDIES = [recipe for recipe in RECIPES if "\nbatch_sizes:" in (ROOT / recipe).read_text()]
RUNS = [recipe for recipe in RECIPES if recipe not in STUDIES]
HERE = ["--site", "local_cluster"]
COMMANDS = (["submit", "--nodes", "1"], ["scale", "--gpus", "1,2", "--mode", "weak"], ["sweep", "--seeds", "2"])


@pytest.fixture
def at_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The directory that the recipes are written for, without published data sets."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HPCSGD_DATA", raising=False)


def test_there_are_recipes_of_both_kinds() -> None:
    assert len(RUNS) >= 16 and len(STUDIES) >= 4


@pytest.mark.usefixtures("at_root")
@pytest.mark.parametrize("recipe", RUNS)
def test_every_recipe_of_a_run_becomes_a_job(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", recipe, *HERE, "--nodes", "1"]) == 0, capsys.readouterr().err
    assert f"hpcsgd train {recipe}" in capsys.readouterr().out


@pytest.mark.usefixtures("at_root")
@pytest.mark.parametrize("recipe", ["jobs/imagenet/resnet50_none.yaml", "jobs/text_lstm.yaml", "jobs/own/unet.yaml"])
@pytest.mark.parametrize("command", COMMANDS[1:], ids=["scale", "sweep"])
def test_a_set_of_runs_on_data_of_ones_own_becomes_jobs(
    recipe: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command[0], recipe, *command[1:], *HERE, "-o", str(tmp_path / "o")]) == 0, capsys.readouterr().err
    scripts = [path.read_text() for path in (tmp_path / "o").glob("*.sbatch")]
    assert scripts and all(f"hpcsgd train {recipe}" in script for script in scripts)


@pytest.mark.usefixtures("at_root")
@pytest.mark.parametrize("recipe", STUDIES)
def test_a_recipe_of_a_study_is_refused_by_what_it_is(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, *words in COMMANDS:
        assert (
            main([command, recipe, *words, *HERE, *([] if command == "submit" else ["-o", str(tmp_path / "o")])]) == 2
        )
        said = f"hpcsgd: {recipe} is a recipe of hpcsgd study run, not of hpcsgd train: it has the key batch_sizes\n"
        assert capsys.readouterr().err == said
    assert not (tmp_path / "o").exists()


def test_the_other_way_round_too(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(ROOT / "jobs/demo_sync_sgd.yaml")
    assert main(["study", "run", recipe]) == 2
    assert "is a recipe of hpcsgd train, not of hpcsgd study run: it has the key" in capsys.readouterr().err


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            ["--data.name=pack", "--data.dir=small.h5", "--local_batch_size=5"],
            "one step of all ranks takes 10 samples, but",
        ),
        (["--data.name=pack", "--data.dir=tiny.yaml"], "cannot read the pack tiny.yaml"),
        (["--data.name=pack"], "data.name is pack, but no data.dir is given"),
        (["--data.name=image_folder", "--data.dir=."], ". has no folder train"),
        (["--data.name=pack", "--data.dir=far.h5", "--global_batch_size=7", "--local_batch_size=null"], "cannot share"),
    ],
)
def test_data_that_is_here_is_looked_at(data: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_pack(Path("small.h5"))
    assert main(["submit", "tiny.yaml", *HERE, "--nodes", "1", "--", *data]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and said in shown.err


@pytest.mark.usefixtures("fakes")
def test_data_that_is_only_there_is_checked_there(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data.name=pack", "--data.dir=/only/there.h5", "--data.image_size=224"]
    assert main(["submit", "tiny.yaml", *HERE, "--nodes", "1", "--", *words]) == 0
    assert "--data.dir=/only/there.h5" in capsys.readouterr().out


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("synthetic", "synthetic is made on the fly and needs no files"),
        ("pack", "pack is a file that hpcsgd data pack makes; data.stage_dir copies it to each node"),
        ("image_folder", "image_folder is yours: data.dir names the folder"),
    ],
)
def test_only_published_data_is_staged(data: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["submit", "tiny.yaml", *HERE, "--nodes", "1", "--stage", "/x", "--", f"--data.name={data}"]
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert f"--stage copies published data sets, but {said}" in shown.err


@pytest.mark.usefixtures("fakes")
def test_the_directory_to_stage_is_looked_at_where_it_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["submit", "tiny.yaml", "--site", "perlmutter", "--account", "x", "--nodes", "1", "--stage"]
    assert main([*words, ".", "--", "--data.name=mnist"]) == 2
    assert "--stage .: lacks train-images-idx3-ubyte and 3 more of mnist" in capsys.readouterr().err
    for there in ("/only/there", "$ONLY_SET_THERE/x"):
        assert main([*words, there, "--", "--data.name=mnist"]) == 0, capsys.readouterr().err
