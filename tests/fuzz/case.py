"""What a case is: a folder with something odd in it, and the commands that meet it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[2]

RUN_FILES = ("run.h5", "recipe.yaml", "model.pt", ".lock", "checkpoints", "checkpoints/step-*", "checkpoints/kept-*")
"""What a run leaves in its directory; a pattern ``a*`` takes what is below, too."""


def run_makes(folder: str) -> tuple[str, ...]:
    """The patterns of what a run in ``folder`` makes."""
    return (folder, *(f"{folder}/{name}" for name in RUN_FILES))


@dataclass(frozen=True)
class Command:
    """A command line, and what may come of it.

    Attributes:
        words: ``hpcsgd`` or a script of ``analysis``, and its words.
        codes: exit codes that are right; with 1, a run that has begun may end by a message.
        makes: patterns of the paths that it may make or change, unless its exit code is 2.
        shows: texts that must be in what it prints, whatever comes of it.
        notes: patterns of more lines on stderr that are no mistakes.
        environment: variables; None: unset.
        own_process: start Python for it; else it is a fork, which has imported everything already.
        quiet: a mistake may be left to another rank to say.
    """

    words: tuple[str, ...]
    codes: tuple[int, ...] = (0, 2)
    makes: tuple[str, ...] = ()
    shows: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    environment: Mapping[str, str | None] = field(default_factory=dict)
    own_process: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        note: what is odd about it.
        commands: what is tried, one after another.
    """

    note: str
    commands: tuple[Command, ...]


@dataclass(frozen=True)
class Kind:
    """A kind of cases.

    Attributes:
        count: how many are run by default.
        make: puts what is odd into a folder; the second path is that of :mod:`tests.fuzz.sound`.
    """

    count: int
    make: Callable[[Random, Path, Path], Case]


SYNTHETIC = {
    "data.name": "synthetic",
    "data.synthetic_shape": "[1,4,4]",
    "data.synthetic_train_samples": "64",
    "data.synthetic_test_samples": "8",
}
TINY = {
    "model.name": "fully_connected",
    "model.widths": "[4]",
    "local_batch_size": "4",
    "learning_rate.base": "0.001",
    "max_steps": "2",
    "threads": "1",
    "progress": "lines",
    "log.utilisation_seconds": "0",
}
"""Keys of a run that takes a fraction of a second."""


def options(keys: Mapping[str, str]) -> tuple[str, ...]:
    """Keys as words of a command line."""
    return tuple(f"--{key}={value}" for key, value in keys.items())


def train(run_dir: str = "run", **keys: str) -> tuple[str, ...]:
    """``hpcsgd train`` of a tiny run, on synthetic data if none are given; ``keys`` are dotted, ``__`` is the dot."""
    changed = {key.replace("__", "."): value for key, value in keys.items()}
    data = {} if "data.name" in changed else SYNTHETIC
    return ("hpcsgd", "train", "--run_dir", run_dir, *options(TINY | data | changed))
