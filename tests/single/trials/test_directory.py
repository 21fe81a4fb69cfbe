"""A study's directory: a group is there whole or not at all, whenever its writer dies, and is taken by one rank."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcsgd.trials.directory import Claims, StudyDirectory
from hpcsgd.trials.groups import Group, SizePlan

GROUPS = [Group(8, 0, 0, 2), Group(8, 1, 2, 3), Group(16, 0, 0, 3)]


class Killed(BaseException):
    """What a killed process does: nothing is cleaned up."""


@pytest.fixture
def directory(tmp_path: Path) -> StudyDirectory:
    found = StudyDirectory(tmp_path, "data/model/momentum")
    for size in (8, 16):
        (found.studies / str(size)).mkdir(parents=True)
    found.recover()
    return found


def start(directory: StudyDirectory, token: str, rank: int = 0) -> Claims:
    claims = Claims(directory, token, rank)
    claims.open()
    return claims


def writer(group: Group) -> Callable[[Path], None]:
    """Writes a group whose trials hold their ids."""

    def write(work: Path) -> None:
        for trial in group.trials:
            (work / str(trial)).mkdir()
            (work / str(trial) / "metadata.json").write_text(str(trial))
        (work / "group.json").write_text(json.dumps({"name": group.name, "wall_seconds": 1.5}))

    return write


def trials(directory: StudyDirectory) -> dict[str, str]:
    """All trials of the archive, with what they hold."""
    files = directory.studies.rglob("metadata.json")
    return {str(file.parent.relative_to(directory.studies)): file.read_text() for file in files}


ALL = {"8/0": "0", "8/1": "1", "8/2": "2", "16/0": "0", "16/1": "1", "16/2": "2"}


def test_each_group_is_taken_once(directory: StudyDirectory) -> None:
    ranks = [start(directory, "a", rank) for rank in range(3)]
    todo = [list(GROUPS) for _ in ranks]
    taken = [ranks[i % 3].take(todo[i % 3]) for i in range(5)]
    assert taken == [*GROUPS, None, None]


def test_claims_of_another_start_count_for_nothing(directory: StudyDirectory) -> None:
    assert start(directory, "a").take(list(GROUPS)) == GROUPS[0]
    directory.recover()
    assert start(directory, "b").take(list(GROUPS)) == GROUPS[0]


def test_a_finished_group_is_in_the_archive_and_nothing_is_left_over(directory: StudyDirectory) -> None:
    claims = start(directory, "a")
    for group in GROUPS:
        claims.keep(group, writer(group))
    assert trials(directory) == ALL
    assert directory.finished() == {"8-0", "8-1", "16-0"}
    assert directory.read_group("8-1") == {"name": "8-1", "wall_seconds": 1.5}
    assert not any((directory.path / ".committed").iterdir())


@pytest.mark.parametrize("dies_at", range(1, 12))
def test_a_death_at_any_call_loses_a_group_or_keeps_it_whole(
    directory: StudyDirectory, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    """The process dies before the n-th call that changes the directory; the next start has no half of a group."""
    count = 0

    def dying(sound: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal count
            count += 1
            if count == dies_at:
                raise Killed
            return sound(*args, **kwargs)

        return call

    claims = start(directory, "a")
    with monkeypatch.context() as patch:
        for owner, name in ((Path, "mkdir"), (Path, "rename"), (Path, "replace"), (Path, "rmdir"), (os, "fsync")):
            patch.setattr(owner, name, dying(getattr(owner, name)))
        try:
            claims.keep(GROUPS[0], writer(GROUPS[0]))
        except Killed:
            pass
    before = trials(directory)
    directory.recover()
    finished = directory.finished()
    after = trials(directory)
    assert after == ({"8/0": "0", "8/1": "1"} if finished else {})
    assert set(before) <= set(after), "a trial that was in the archive is gone, or would be trained again"
    assert finished in (set(), {"8-0"})
    assert not (directory.path / ".work").exists() and not any((directory.path / ".committed").iterdir())
    again = start(directory, "b")
    for group in GROUPS:
        if group.name not in finished:
            again.keep(group, writer(group))
    assert trials(directory) == ALL


def test_two_starts_that_finish_the_same_group_leave_it_once(directory: StudyDirectory) -> None:
    late = start(directory, "a")
    start(directory, "b").keep(GROUPS[0], writer(GROUPS[0]))
    late.keep(GROUPS[0], writer(GROUPS[0]))
    assert trials(directory) == {"8/0": "0", "8/1": "1"}


def test_all_ranks_of_a_start_hear_of_a_stop(directory: StudyDirectory) -> None:
    one, other, later = start(directory, "a", 0), start(directory, "a", 1), start(directory, "b")
    assert not other.stop_is_asked()
    one.ask_all_to_stop()
    assert other.stop_is_asked() and not later.stop_is_asked()


def test_what_was_settled_is_read_again(directory: StudyDirectory) -> None:
    plans = [SizePlan(8, 100, "fused", 4), SizePlan(16, 50, "loop", 1)]
    assert directory.read_plan() is None
    directory.write_plan(plans)
    assert directory.read_plan() == plans


def test_each_start_is_noted(directory: StudyDirectory) -> None:
    directory.add_start({"host": "a"})
    directory.add_start({"host": "b"})
    assert json.loads((directory.path / "provenance.json").read_text()) == [{"host": "a"}, {"host": "b"}]
