"""Paths as users write them."""

from __future__ import annotations

import argparse
import pwd
from pathlib import Path

import pytest

from hpcsgd.config import DataConfig, RunConfig, TunerConfig
from hpcsgd.config.paths import argument, argument_elsewhere, expand, resolved
from hpcsgd.config.recipe import check_paths, known_keys
from hpcsgd.config.study import StudyConfig
from hpcsgd.data.places import cache_dir, search_dirs
from hpcsgd.data.sets.mnist import MNIST
from hpcsgd.errors import UsageError


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("SCRATCH", "/scratch/ada")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET", raising=False)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("runs/a", "runs/a"),
        ("~", "/home/ada"),
        ("~/runs/a", "/home/ada/runs/a"),
        ("$SCRATCH/x", "/scratch/ada/x"),
        ("${SCRATCH}/x", "/scratch/ada/x"),
        ("a~b/~", "a~b/~"),
        ("$UNSET/x", "$UNSET/x"),
        ("$EMPTY/x", "$EMPTY/x"),
        ("cost-5$/x", "cost-5$/x"),
    ],
)
def test_home_and_variables_are_replaced(text: str, found: str) -> None:
    assert expand(text) == found


@pytest.mark.parametrize("text", ["", " ", "\t", "a\0b", "a\nb", "a\tb", "\x1b[31m", "~nobody-of-this-name/x"])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="path|home"):
        expand(text)


@pytest.mark.parametrize("text", ["$UNSET/x", "${UNSET}", "$EMPTY/x", ""])
def test_a_path_that_is_used_now_has_no_variable_left(text: str) -> None:
    with pytest.raises(UsageError, match="^data.dir is .*"):
        resolved("data.dir", text)
    with pytest.raises(argparse.ArgumentTypeError):
        argument(text)


def test_a_path_of_another_machine_may_have_variables_of_that_machine() -> None:
    assert argument_elsewhere("$UNSET/x") == "$UNSET/x"
    with pytest.raises(argparse.ArgumentTypeError):
        argument_elsewhere("")


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_without_a_home_only_what_needs_it_is_refused(
    monkeypatch: pytest.MonkeyPatch, home: str | None, tmp_path: Path
) -> None:
    def unknown(_uid: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HPCSGD_DATA", str(tmp_path))
    if home is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", home)
    with pytest.raises(UsageError, match="HOME"):
        cache_dir("mnist")
    assert search_dirs(MNIST)[0] == tmp_path / "mnist"


PATHS = {
    "run_dir": lambda text: RunConfig(local_batch_size=1, run_dir=text),
    "resume": lambda text: RunConfig(local_batch_size=1, resume=text),
    "data.dir": lambda text: RunConfig(local_batch_size=1, data=DataConfig(dir=text)),
    "data.stage_dir": lambda text: RunConfig(local_batch_size=1, data=DataConfig(name="pack", stage_dir=text)),
    "tuner.replay": lambda text: RunConfig(local_batch_size=1, tuner=TunerConfig(replay=text)),
}


@pytest.mark.parametrize("key", PATHS)
def test_every_path_of_a_recipe_is_expanded_once_and_refused_empty(key: str) -> None:
    config = PATHS[key]("$SCRATCH/x")
    value = config
    for name in key.split("."):
        value = getattr(value, name)
    assert value == "/scratch/ada/x"
    check_paths(config)
    with pytest.raises(UsageError, match=f"^{key} is .*UNSET is not set"):
        check_paths(PATHS[key]("$UNSET/x"))
    with pytest.raises(ValueError, match=f"^{key} is ''"):
        PATHS[key]("")


def test_no_other_key_looks_like_a_path() -> None:
    """A new path must be marked as one: its name says so."""
    known = {key for cls in (RunConfig, StudyConfig) for key in known_keys(cls)}
    looks = {key for key in known if key.endswith(("dir", "path", "file", "folder", "replay"))}
    assert looks == {*PATHS, "study_dir"} - {"resume"}
