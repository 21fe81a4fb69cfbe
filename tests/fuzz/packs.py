"""Packs of images: cut, flipped, foreign, or with parts that do not fit."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import h5py
import numpy as np

from tests.fuzz.case import Case, Command, run_makes, train
from tests.fuzz.damage import INPUT, damage, flip
from tests.fuzz.sound import ON


def inner(rng: Random, path: Path) -> None:
    """A data set or an attribute of the HDF5 file is gone or another one."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        owner = rng.choice([file, *(file[name] for name in names)])
        if len(owner.attrs) and rng.random() < 0.5:
            _change(rng, owner.attrs, rng.choice(sorted(owner.attrs)))
        else:
            _change(rng, file, rng.choice(names))


def _change(rng: Random, holder: h5py.Group | h5py.AttributeManager, name: str) -> None:
    """Remove an entry, or put another value in its place."""
    del holder[name]
    value = rng.choice([None, 0, -1, 1e300, "x", b"\xff", np.nan, np.zeros(3), np.zeros((2, 8, 8, 3), np.uint8), []])
    if value is not None:
        holder[name] = value


def make(rng: Random, work: Path, sound: Path) -> Case:
    """Damage a pack, and train on it, or pack over it."""
    shutil.copyfile(sound / "images.h5", work / "images.h5")
    note = damage(rng, [work / "images.h5"], (*INPUT, flip, inner, inner, inner))
    if rng.random() < 0.1:
        shutil.copytree(sound / "images", work / "images")
        words = ("hpcsgd", "data", "pack", "images", "images.h5", "--size", "8", "--overwrite")
        return Case(f"packed over: {note}", (Command(words, makes=("images.h5",)),))
    stage = {"data__stage_dir": "staged"} if rng.random() < 0.3 else {}
    words = train(**ON["images.h5"], **stage)
    return Case(note, (Command(words, makes=(*run_makes("run"), "staged", "staged/*")),))
