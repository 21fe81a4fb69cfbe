"""Run directories: checkpoints, the recipe and the log in them cut, flipped, foreign or swapped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.case import Case, Command, run_makes, train
from tests.fuzz.damage import ALL, damage, files_below

VALUES: tuple[Any, ...] = (-1, 0, 1, 3, 5, 2**70, 1e400, "2", None, [], {}, [1], True, "../../x", float("nan"))


def lie(rng: Random, path: Path) -> None:
    """A key of the manifest is gone or has another value; a line of the recipe, likewise."""
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        part = rng.choice([content, content["ranks"][0]])
        key = rng.choice([*part])
        part[key] = rng.choice(VALUES)
        if rng.random() < 0.3:
            del part[key]
        path.write_text(json.dumps(content))
    elif path.suffix == ".yaml":
        lines = path.read_text().splitlines()
        place = rng.randrange(len(lines))
        lines[place : place + 1] = rng.choice([[], [lines[place]] * 2, [lines[place].partition(":")[0] + ": 3"]])
        path.write_text("\n".join(lines))


def other_name(rng: Random, path: Path) -> None:
    """The file, or its directory, has another name."""
    target = rng.choice([path, path.parent]) if path.parent.name.startswith("step-") else path
    target.rename(target.with_name(rng.choice(["step-00000009", "step-x", "step-", "step-2", "STEP-1"])))


def make(rng: Random, work: Path, sound: Path) -> Case:
    """Damage files of a run, and go on with it."""
    shutil.copytree(sound / "run", work / "run")
    files = files_below(work / "run")
    kept = [path for path in files if "checkpoints" in path.parts]
    chosen = rng.choice([kept, kept, kept, [path for path in kept if path.suffix == ".json"], files])
    note = damage(rng, chosen, (*ALL, lie, lie, lie, other_name))
    resume = rng.choice(["auto", "auto", "auto", "run/checkpoints/step-00000004", "run/checkpoints", "run/model.pt"])
    keys = {"checkpoint__every_steps": "2", "checkpoint__background": "false", "max_steps": "6"}
    words = train(**keys, resume=resume)
    return Case(f"{note}; resume {resume}", (Command(words, makes=run_makes("run")),))
