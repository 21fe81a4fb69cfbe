"""Folders of images: empty, hidden, damaged, foreign, nested, of odd modes and names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from PIL import Image

from tests.fuzz.case import Case, Command, run_makes, train
from tests.fuzz.damage import INPUT, damage, files_below
from tests.fuzz.sound import ON

MODES = ("1", "L", "LA", "P", "PA", "RGBA", "RGBX", "CMYK", "YCbCr", "I", "I;16", "F", "HSV", "LAB")
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "ICO", "PDF")
NAMES = (
    "a b",
    "d'\"x",
    "日本",
    "-x",
    "new\nline",
    "\x1b[31m",
    "..x",
    ".x",
    "x" * 200,
    "%s{0}",
    "*",
    "nul",
    "CON",
    "~",
    "$HOME",
)
HIDDEN = (".ipynb_checkpoints", ".DS_Store", ".git", "@eaDir", "__MACOSX", "lost+found")
OTHERS = ("Thumbs.db", "readme.txt", "labels.csv", "._1.png", ".1.png.swp", "1.png~", "1.txt", "1.png.part")


def a_class(rng: Random, root: Path) -> Path:
    """One of the folders of classes."""
    return root / rng.choice(["train", "val"]) / rng.choice(["ant", "bee"])


def empty_class(rng: Random, root: Path) -> None:
    """A class without images."""
    (a_class(rng, root).parent / rng.choice(["aaa", "ant", "zzz"])).mkdir(exist_ok=True)


def emptied(rng: Random, root: Path) -> None:
    """All images of a class, of a split, or of all are gone."""
    for file in files_below(rng.choice([a_class(rng, root), a_class(rng, root).parent, root])):
        file.unlink()


def removed(rng: Random, root: Path) -> None:
    """A class or a split is gone."""
    shutil.rmtree(rng.choice([a_class(rng, root), a_class(rng, root).parent]))


def hidden(rng: Random, root: Path) -> None:
    """A folder that a tool made, with a copy of an image or without."""
    folder = rng.choice([root, a_class(rng, root), a_class(rng, root).parent]) / rng.choice(HIDDEN)
    folder.mkdir()
    if rng.random() < 0.5:
        shutil.copyfile(root / "train" / "ant" / "1.png", folder / "1-checkpoint.png")


def other_file(rng: Random, root: Path) -> None:
    """A file that is no image, of whatever name."""
    folder = rng.choice([root, a_class(rng, root), a_class(rng, root).parent])
    (folder / rng.choice(OTHERS)).write_bytes(rng.choice([b"", b"text\n", b"\x00\x05\x16\x07" + bytes(100)]))


def odd_image(rng: Random, root: Path) -> None:
    """An image of another mode, format, size or ending."""
    size = rng.choice([(8, 8), (1, 1), (1, 600), (600, 1), (3000, 2), (17, 5)])
    image = Image.new("RGB", size, (200, 100, 50))
    form = rng.choice(FORMATS)
    for mode in (rng.choice(MODES), "RGB"):
        try:
            converted = image.convert(mode)
            ending = rng.choice([form.lower(), "png", "jpg", "PNG", "JPeG"])
            converted.save(a_class(rng, root) / f"odd.{ending}", format=form)
            return
        except (OSError, ValueError, KeyError):
            continue


def bomb(rng: Random, root: Path) -> None:
    """A small file of a huge image."""
    side = rng.choice([9_500, 14_000])
    Image.new("1", (side, side)).save(a_class(rng, root) / "huge.png")


def odd_name(rng: Random, root: Path) -> None:
    """A class or an image has an odd name."""
    name = rng.choice(NAMES)
    place = a_class(rng, root)
    if rng.random() < 0.5:
        (place / "1.png").rename(place / f"{name}.png")
    else:
        _rename_class(root, place.name, os.fsencode(name))


def not_text(rng: Random, root: Path) -> None:
    """A name that is not UTF-8."""
    place = a_class(rng, root)
    if rng.random() < 0.5:
        os.rename(place / "1.png", os.fsencode(place) + b"/caf\xe9.png")
    else:
        _rename_class(root, place.name, b"caf\xe9")


def _rename_class(root: Path, before: str, after: bytes) -> None:
    for split in ("train", "val"):
        os.rename(root / split / before, os.fsencode(root / split) + b"/" + after)


def nested(rng: Random, root: Path) -> None:
    """Images lie one folder deeper."""
    place = a_class(rng, root)
    (place / "images").mkdir()
    for file in sorted(place.glob("*.*"))[rng.choice([0, 2]) :]:
        file.rename(place / "images" / file.name)


def linked(rng: Random, root: Path) -> None:
    """A link: to a class, to the folder itself, to an image, or to nothing."""
    place = a_class(rng, root)
    target = rng.choice([place, root, place / "1.png", Path("nowhere")])
    rng.choice([place / "link.png", place.parent / "link"]).symlink_to(target.resolve() if target.exists() else target)


def split_is_file(rng: Random, root: Path) -> None:
    """A file where a folder should be."""
    place = rng.choice([a_class(rng, root), a_class(rng, root).parent, root])
    shutil.rmtree(place)
    place.write_bytes(b"")


def image_is_folder(rng: Random, root: Path) -> None:
    """A folder with the name of an image."""
    (a_class(rng, root) / "folder.png").mkdir()


def damaged(rng: Random, root: Path) -> None:
    """An image file that is cut, flipped, foreign, ..."""
    damage(rng, files_below(root), INPUT)


def other_split_name(rng: Random, root: Path) -> None:
    """Splits of other names."""
    (root / "val").rename(root / rng.choice(["test", "validation", "Val", "dev"]))
    if rng.random() < 0.3:
        (root / "train").rename(root / rng.choice(["Train", "training"]))


EDITS: tuple[Callable[[Random, Path], None], ...] = (
    empty_class,
    emptied,
    removed,
    hidden,
    hidden,
    other_file,
    other_file,
    odd_image,
    odd_image,
    bomb,
    odd_name,
    odd_name,
    not_text,
    nested,
    linked,
    split_is_file,
    image_is_folder,
    damaged,
    damaged,
    damaged,
    other_split_name,
)


def make(rng: Random, work: Path, sound: Path) -> Case:
    """One or two odd things in a folder of images: train on it, and pack it."""
    root = work / "images"
    shutil.copytree(sound / "images", root)
    done = []
    for edit in rng.sample(EDITS, rng.choice([1, 1, 2])):
        try:
            edit(rng, root)
            done.append(edit.__name__)
        except OSError:
            # What the edit before has left is no place for this one.
            continue
    trained = train(**ON["images"])
    packed = ("hpcsgd", "data", "pack", "images", "images.h5", "--size", "8")
    return Case(", ".join(done), (Command(trained, makes=run_makes("run")), Command(packed, makes=("images.h5",))))
