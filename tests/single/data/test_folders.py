"""Which folders are classes, which files are images, and what is said of all others."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcsgd.config import DataConfig
from hpcsgd.data.dataset import load_dataset
from hpcsgd.data.folders import ENDINGS, find_folders
from hpcsgd.errors import UsageError
from tests.single.data.image_files import make_folders, save


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of two training and one test image."""
    return make_folders(tmp_path / "images", 2, 1)


def test_what_is_no_part_of_the_data_is_left_out_and_counted(root: Path) -> None:
    plain = find_folders(root)
    assert (plain.classes, len(plain.train), len(plain.test)) == (["bright", "dark"], 4, 2)
    assert plain.remarks == []
    save(root / "train" / ".ipynb_checkpoints" / "0-checkpoint.png")
    save(root / "__MACOSX" / "train" / "dark" / "0.png")
    save(root / "train" / "__MACOSX" / "0.png")
    save(root / "train" / "loose.png")
    save(root / "test" / "dark" / "0.png")
    (root / "train" / "dark" / "empty").mkdir()
    for name in ("._0.png", "Thumbs.db", ".DS_Store", "animated.GIF", "notes.txt", "list.txt", "noending"):
        (root / "train" / "dark" / name).write_text("no image")
    found = find_folders(root)
    assert (found.classes, found.train, found.test) == (plain.classes, plain.train, plain.test)
    assert found.remarks == [
        f"{root}: left out: folders below those of classes: 1 (train/dark/empty); "
        "folders beside train and val: 1 (test); "
        "hidden or of the system: 6 (__MACOSX, train/.ipynb_checkpoints, train/__MACOSX, ...); "
        "outside of the folders of classes: 1 (train/loose.png); "
        "files that are read as no image: 1 .gif, 2 .txt, 1 no ending"
    ]


@pytest.mark.parametrize("ending", [*ENDINGS, ".PNG", ".JpEg"])
def test_endings_in_any_case(root: Path, ending: str) -> None:
    added = save(root / "train" / "dark" / f"x{ending}")
    assert (added, 1) in find_folders(root).train
    assert find_folders(root).remarks == []


def test_links_are_followed(root: Path) -> None:
    (root / "train" / "dark" / "link.png").symlink_to("000.jpg")
    (root / "train" / "also").symlink_to("dark")
    found = find_folders(root)
    assert found.classes == ["also", "bright", "dark"]
    assert len(found.train) == 2 + 3 + 3


def test_classes_that_are_not_evaluated_are_said(root: Path) -> None:
    shutil.rmtree(root / "val" / "dark")
    (remark,) = find_folders(root).remarks
    assert remark == f"{root}/val has no images of classes that {root}/train has: 1 (dark)"
    data = load_dataset(DataConfig(name="image_folder", dir=str(root), image_size=4))
    assert data.remarks == (remark,)
    assert data.num_classes == 2


def _deeper(root: Path) -> None:
    for folder in (root / "train").iterdir():
        (folder / "images").mkdir()
        for file in folder.glob("*.*"):
            file.rename(folder / "images" / file.name)


def _flat(root: Path) -> None:
    for file in list((root / "val").glob("*/*")):
        file.rename(root / "val" / f"{file.parent.name}-{file.name}")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a class without images": (
        lambda root: (root / "train" / "aaa").mkdir(),
        r"train has folders of classes without images, 1 \(aaa\): remove them, or fill them",
    ),
    "classes one level deeper": (_deeper, r"train/bright/images/000.jpg lies too deep: .* SPLIT/CLASS/IMAGE alone"),
    "some images deeper": (lambda root: save(root / "val" / "dark" / "a" / "b" / "0.png"), "dark/a/b/0.png lies too"),
    "a link to a folder above": (lambda root: (root / "train" / "dark" / "up").symlink_to(".."), "lies too deep"),
    "no folders of classes": (_flat, r"val holds no images .*outside of the folders of classes: 2 \(val/"),
    "only other endings": (
        lambda root: [file.rename(file.with_suffix(".gif")) for file in (root / "val").glob("*/*")],
        "val holds no images .*files that are read as no image: 2 .gif",
    ),
    "a class of the test split alone": (
        lambda root: save(root / "val" / "Dark" / "0.png"),
        r"val has the class Dark, which .*train has not \(it has dark\)",
    ),
    "another case": (
        lambda root: (root / "train").rename(root / "Train"),
        r"has no folder train, it has 2 \(Train, val\)",
    ),
    "no test split": (lambda root: shutil.rmtree(root / "val"), r"has no folder val or test, it has 1 \(train\)"),
    "no folder": (lambda root: shutil.rmtree(root), "cannot read .*images: No such file or directory"),
    "a file": (lambda root: (shutil.rmtree(root), root.write_text("")), "cannot read .*images: Not a directory"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_be_meant_in_two_ways_is_refused(root: Path, case: str) -> None:
    change, message = REFUSED[case]
    change(root)
    with pytest.raises(UsageError, match=message):
        find_folders(root)


def test_a_name_that_is_no_text_can_be_printed(root: Path) -> None:
    os.rename(bytes(root / "train" / "dark"), bytes(root / "train") + b"/caf\xe9\n")
    with pytest.raises(UsageError, match=r"val has the class dark") as caught:
        find_folders(root)
    shutil.rmtree(root / "val" / "dark")
    (remark,) = find_folders(root).remarks
    assert remark.endswith(r"1 (caf\xe9\n)")
    assert str(caught.value).isprintable()
