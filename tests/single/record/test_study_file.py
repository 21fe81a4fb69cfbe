"""``jobs.json``: what is written comes back; what is no such file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcsgd.errors import UsageError
from hpcsgd.record.study_file import FILE_NAME, Entry, Study, find_studies, load_study


def study(path: Path) -> Study:
    """A study of a sent run and one that is run here."""
    return Study(path, ("hpcsgd", "scale"), "/work", (Entry("a", "a.sbatch", 3, ("7", "8_3")), Entry("b", None)), 2)


def test_a_study_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    study(tmp_path).save()
    assert load_study(tmp_path) == study(tmp_path)


def test_jobs_are_added_to_those_before(tmp_path: Path) -> None:
    more = study(tmp_path).with_ids({"a": ("9",)})
    assert [entry.ids for entry in more.entries] == [("7", "8_3", "9"), ()]


def test_studies_are_found_at_any_depth(tmp_path: Path) -> None:
    assert load_study(tmp_path) is None
    for name in ("x/y", "z"):
        (tmp_path / name).mkdir(parents=True)
        study(tmp_path / name).save()
    assert [found.path for found in find_studies(tmp_path)[0]] == [tmp_path / "x/y", tmp_path / "z"]
    assert study(tmp_path / "z").run_dir(Entry("a", None)) == tmp_path / "z" / "a"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"version": 9}', "of version 9, this hpcsgd reads 1"),
        *((text, "no record of jobs") for text in ("{}", "[", "[1]", "3", "\x00", "[" * 50_000)),
        ('{"version": 1, "jobs": [{"run": 3, "script": null, "task": null, "ids": []}]}', "no record of jobs"),
        ('{"version": 1, "jobs": [], "command": [], "cwd": 3, "max_running": null}', "no record of jobs"),
    ],
)
def test_what_is_no_study_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(UsageError, match=said):
        load_study(tmp_path)
