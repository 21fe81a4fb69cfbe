"""Files are found through links, each real one once, and what leads nowhere is told."""

from __future__ import annotations

from pathlib import Path

from hpcsgd.files import Finder


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


def test_links_to_directories_and_files_are_followed(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    plain, far = touch(root / "a/x"), touch(tmp_path / "scratch/b/deep/x")
    (root / "b").symlink_to(Path("..") / "scratch" / "b")
    (root / "c").mkdir()
    (root / "c/x").symlink_to(touch(tmp_path / "elsewhere"))
    touch(root / "a/other")
    assert Finder().files(root, {"x"}) == [plain, root / "b/deep/x", root / "c/x"]
    assert far.samefile(root / "b/deep/x")


def test_each_real_file_is_there_once_by_its_own_path(tmp_path: Path) -> None:
    real = touch(tmp_path / "z/x")
    (tmp_path / "a").symlink_to("z")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/x").hardlink_to(real)
    (tmp_path / "c").symlink_to(tmp_path / "z/x")
    assert Finder().files(tmp_path, {"x"}) == [tmp_path / "b/x"]
    (tmp_path / "b/x").unlink()
    assert Finder().files(tmp_path, {"x"}) == [real]


def test_loops_end_and_links_upwards_bring_in_nothing(tmp_path: Path) -> None:
    run, stranger = touch(tmp_path / "runs/a/x"), touch(tmp_path / "other/x")
    (tmp_path / "runs/a/here").symlink_to(".")
    (tmp_path / "runs/up").symlink_to("..")
    (tmp_path / "runs/self").symlink_to("self")
    finder = Finder()
    assert finder.files(tmp_path / "runs", {"x"}) == [run]
    assert stranger.exists()
    assert finder.problems == [f"{tmp_path}/runs/self: a link to self, which is not there"]


def test_a_link_that_leads_nowhere_is_told_but_for_locks_of_editors(tmp_path: Path) -> None:
    (tmp_path / "b").symlink_to("/no/such")
    (tmp_path / ".#notes").symlink_to("me@here.1")
    finder = Finder()
    assert finder.files(tmp_path, {"x"}) == []
    assert finder.problems == [f"{tmp_path}/b: a link to /no/such, which is not there"]


def test_a_directory_of_the_name_is_told_apart_from_a_file_in_it(tmp_path: Path) -> None:
    (tmp_path / "a/x").mkdir(parents=True)
    touch(tmp_path / "b/x/x")
    assert Finder().files(tmp_path, {"x"}) == [tmp_path / "a/x", tmp_path / "b/x/x"]


def test_hidden_directories_are_left_out_where_that_is_asked(tmp_path: Path) -> None:
    touch(tmp_path / ".left/x")
    assert [path for path, _ in Finder().walk(tmp_path, hidden=False)] == [tmp_path]
    assert [path for path, _ in Finder().walk(tmp_path)] == [tmp_path, tmp_path / ".left"]


def test_a_directory_that_cannot_be_looked_into_is_told(tmp_path: Path) -> None:
    finder = Finder()
    assert finder.files(touch(tmp_path / "file"), {"x"}) == []
    assert finder.problems == [f"{tmp_path}/file: cannot be looked into: Not a directory"]
