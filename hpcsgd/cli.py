"""The command ``hpcsgd``: a table of commands; calls the function of one, prints one error.

A command's module is imported when it is called, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NamedTuple

from hpcsgd import __version__
from hpcsgd.errors import JointError, LaunchError, LoneError, UsageError
from hpcsgd.run import streams


class Command(NamedTuple):
    """A command.

    Attributes:
        place: ``module:function``; the function takes the words after the command's name and gives the exit code.
        meaning: a line of help.
    """

    place: str
    meaning: str

    def function(self) -> Callable[[list[str]], int]:
        """The function, from its module."""
        module, _, name = self.place.partition(":")
        found: Callable[[list[str]], int] = getattr(import_module(module), name)
        return found


COMMANDS = {
    "train": Command("hpcsgd.api.command:train", "train as a recipe says"),
    "check": Command("hpcsgd.api.command:check", "import, build and try what a recipe names, without MPI or a GPU"),
    "data": Command("hpcsgd.data.command:data", "bring data sets"),
    "study": Command("hpcsgd.trials.command:study", "a batch-size study: run it, or see how far it is"),
    "submit": Command("hpcsgd.launch.commands:submit", "make the sbatch script of a run: print it, check it, send it"),
    "scale": Command("hpcsgd.launch.commands:scale", "one run for each of several numbers of GPUs, by Slurm or here"),
    "sweep": Command("hpcsgd.launch.commands:sweep", "an array of runs with all combinations of some values"),
    "status": Command("hpcsgd.launch.commands:status", "what became of the runs of a directory"),
    "resubmit": Command("hpcsgd.launch.commands:resubmit", "send runs again that did not come to their end"),
    "doctor": Command(
        "hpcsgd.launch.commands:doctor", "look at ranks, devices and MPI as the launcher has set them up"
    ),
    "watch": Command("hpcsgd.launch.watch:watch", "look at runs as they go on, from their logs alone"),
    "info": Command("hpcsgd.record.command:info", "summarise a run"),
    "explain": Command("hpcsgd.scaling.explain_command:explain", "what bounds a run, who is slow, what would help"),
    "compare": Command("hpcsgd.scaling.compare_command:compare", "tell regressions from noise between runs"),
    "export": Command("hpcsgd.export.command:export", "write a run's log in the format of another tool"),
    "predict": Command("hpcsgd.scaling.command:predict", "times at sizes that were not run, from small runs"),
    "figures": Command("hpcsgd.config.shipped_command:figures", "draw figures and tables of runs, or their report"),
    "recipes": Command("hpcsgd.config.shipped_command:recipes", "list the recipes that come with hpcsgd"),
}
"""By name, in the order of the help."""

EXAMPLES = """examples:
  mpirun -n 4 hpcsgd train jobs/demo_local_sgd.yaml --algorithm.sync_period 8 --run_dir runs/x
  hpcsgd train jobs/demo_sync_sgd.yaml --print_config
  hpcsgd check jobs/demo_sync_sgd.yaml
  hpcsgd data fetch fashion_mnist
  hpcsgd watch runs --every 5
  hpcsgd info runs/x
  hpcsgd compare runs/x runs/y
  hpcsgd figures timing runs/x runs/y
  mpirun -n 2 hpcsgd study run jobs/studies/fashion_mnist_small.yaml
  hpcsgd study status runs/fashion_mnist_small
  hpcsgd submit jobs/demo_local_sgd.yaml --site perlmutter --nodes 2 --account PROJECT -- --epochs 10
  hpcsgd scale jobs/demo_sync_sgd.yaml --gpus 1,2 --launcher mpirun
"""

EXTRAS = {
    "train": ("torch",),
    "analysis": ("matplotlib", "xarray", "h5netcdf"),
    "study": ("scipy",),
    "imagenet": ("PIL", "torchvision"),
    "export": ("pyarrow", "tensorboard"),
}
"""Modules that are not always installed, by what installs them."""

LAST_WORD_SECONDS = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code: 0, 2 for a user's mistake, 75 for a run that was asked to stop, else 1.

    ``argv``: its words; unset, those of this process, whose standard streams are made safe then.
    """
    if argv is not None:
        return call(argv)
    return streams.command(lambda: call(sys.argv[1:]))


def call(argv: Sequence[str]) -> int:
    """Call the function of the command."""
    words = list(argv)
    name = make_parser().parse_args(words[:1]).command
    try:
        return COMMANDS[name].function()(words[1:])
    except ModuleNotFoundError as error:
        extra = next((extra for extra, modules in EXTRAS.items() if error.name in modules), None)
        if extra is None:
            raise
        print(f"hpcsgd: {error.name} is not installed: pip install 'hpcsgd[{extra}]'", file=sys.stderr, flush=True)
        return UsageError.exit_code
    except (JointError, LoneError) as error:
        if isinstance(error, LaunchError) and not error.tells:
            # Some launchers end all processes where one has ended: the one that says why is to be first.
            time.sleep(LAST_WORD_SECONDS)
        else:
            print(f"hpcsgd: {error}", file=sys.stderr, flush=True)
        return error.exit_code


def make_parser() -> argparse.ArgumentParser:
    """The names of the commands; what follows one is its own function's to parse."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="hpcsgd", description="Data-parallel training over MPI.", epilog=EXAMPLES, formatter_class=formatter
    )
    parser.add_argument("--version", action="version", version=f"hpcsgd {__version__}")
    names = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        names.add_parser(name, help=command.meaning, add_help=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())
