"""Logs that are cut, flipped, foreign: ``info``, ``status``, and a script of ``analysis`` with a good one beside."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

from tests.fuzz.case import Case, Command
from tests.fuzz.damage import INPUT, cut, damage, flip, gone, zeros
from tests.fuzz.packs import inner

CHOICES = (*(how for how in INPUT if how is not gone), cut, cut, flip, flip, flip, zeros, inner, inner, inner)
"""A directory without a log is none of a run."""


def make(rng: Random, work: Path, sound: Path) -> Case:
    """A good run and one with a damaged log."""
    for name in ("good", "broken"):
        (work / name).mkdir()
        shutil.copyfile(sound / "run" / "run.h5", work / name / "run.h5")
    note = damage(rng, [work / "broken" / "run.h5"], CHOICES)
    commands = [
        Command(("hpcsgd", "info", "broken")),
        Command(("hpcsgd", "status", "."), codes=(0,), shows=("good", "broken"), notes=(r"hpcsgd: broken/",)),
    ]
    if rng.random() < 0.3:
        script = ("analysis/learning_curves.py", "good", "broken", "-o", "figures")
        notes = (r"learning_curves\.py: ",)
        made = ("figures", "figures/*")
        commands.append(Command(script, codes=(0,), makes=made, shows=("good", "broken"), notes=notes))
    return Case(note, tuple(commands))
