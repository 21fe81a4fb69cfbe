"""``hpcsgd study run`` and ``hpcsgd study status``."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpcsgd.config import DataConfig, paths
from hpcsgd.config.command import asked
from hpcsgd.config.recipe import load
from hpcsgd.config.study import RangeConfig, SpaceConfig, StopConfig, StudyConfig
from hpcsgd.errors import UsageError

if TYPE_CHECKING:
    from hpcsgd.comm.communicator import Communicator
    from hpcsgd.comm.stop import StopSignals

EXAMPLES = """examples:
  mpirun -n 2 hpcsgd study run jobs/studies/fashion_mnist_small.yaml --trials 30
  hpcsgd study run jobs/studies/fashion_mnist_small.yaml --print_config
  hpcsgd study status runs/fashion_mnist_small
"""


def study(words: Sequence[str]) -> int:
    """``hpcsgd study COMMAND ...``; gives the exit code."""
    if words[:1] == ["run"]:
        return run_study(list(words[1:]))
    arguments = make_parser().parse_args(words)
    from hpcsgd.trials.status import describe

    print(describe(arguments.directory))
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The commands of ``hpcsgd study``; the recipe's keys are jsonargparse's."""
    parser = argparse.ArgumentParser(
        prog="hpcsgd study",
        description="How many steps training takes, by batch size.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("run", help="train the trials of a recipe, or go on with them", add_help=False)
    status = commands.add_parser("status", help="how far a study is, and what it says so far")
    status.add_argument("directory", metavar="DIR", type=paths.argument, help="the study's directory")
    return parser


def run_study(words: list[str]) -> int:
    """``hpcsgd study run [RECIPE] [--print_config] [--key value ...]``."""
    found = asked(words, StudyConfig, _load)
    if found is None:
        return 0
    _, config, mistake = found
    return _run_together(config or _placeholder(), mistake, ["hpcsgd", "study", "run", *words])


def _load(recipe: str | None, overrides: list[str]) -> StudyConfig:
    """The study of a recipe."""
    return _with_study_dir(load(StudyConfig, recipe, overrides), recipe)


def _run_together(config: StudyConfig, mistake: UsageError | None, argv: list[str]) -> int:
    """Run the study on all ranks."""
    from hpcsgd.run.start import work_together

    def work(config: StudyConfig, comm: Communicator, signals: StopSignals) -> int:
        from hpcsgd.trials.job import run

        path = run(config, comm, argv, signals)
        if comm.rank == 0:
            print(f"hpcsgd: the study is in {path}", file=sys.stderr)
        return 0

    return work_together(config, mistake, work)


def _placeholder() -> StudyConfig:
    """A study in place of one that could not be read."""
    space = SpaceConfig(learning_rate=RangeConfig(points=(1.0,)))
    return StudyConfig(batch_sizes=(1,), space=space, stop=StopConfig(steps=1), data=DataConfig(validation_samples=1))


def _with_study_dir(config: StudyConfig, recipe: str | None) -> StudyConfig:
    """The configuration with a directory: ``runs/NAME`` of the recipe, unless one is given.

    No time in its name, as a run has: the same command goes on with the same study.
    """
    if config.study_dir is not None:
        return config
    return dataclasses.replace(config, study_dir=f"runs/{Path(recipe).stem if recipe else 'study'}")
