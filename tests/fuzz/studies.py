"""Directories of studies: the record of trials cut, flipped, foreign or swapped."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

from tests.fuzz.case import Case, Command, options
from tests.fuzz.damage import ALL, damage, files_below
from tests.fuzz.sound import STUDY


def make(rng: Random, work: Path, sound: Path) -> Case:
    """Damage files of a study, look at it, and go on with it."""
    shutil.copytree(sound / "study", work / "study")
    note = ""
    if rng.random() < 0.5:
        group = rng.choice(sorted((work / "study" / "groups").iterdir()))
        shutil.rmtree(work / "study" / "archive")
        group.unlink()
        note = f"without {group.name} and the archive; "
    files = files_below(work / "study")
    top = [path for path in files if path.parent == work / "study"]
    note += damage(rng, rng.choice([files, top]), ALL)
    status = Command(("hpcsgd", "study", "status", "study"))
    run = ("hpcsgd", "study", "run", "--study_dir", "study", *options(STUDY))
    return Case(note, (status, Command(run, makes=("study", "study/*"))))
