"""The command ``hpcsgd``: parses, calls one function, prints one error.

Heavy imports happen in the commands that need them, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpcsgd import __version__
from hpcsgd.config import RunConfig, paths
from hpcsgd.errors import JointError, LaunchError, LoneError, UsageError
from hpcsgd.run import streams

if TYPE_CHECKING:
    from hpcsgd.comm.communicator import Communicator
    from hpcsgd.comm.stop import StopSignals

EXAMPLES = """examples:
  mpirun -n 4 hpcsgd train jobs/demo_local_sgd.yaml --algorithm.sync_period 8 --run_dir runs/x
  hpcsgd train jobs/demo_sync_sgd.yaml --print_config
  hpcsgd check jobs/demo_sync_sgd.yaml
  hpcsgd data fetch fashion_mnist
  hpcsgd info runs/x
  mpirun -n 2 hpcsgd study run jobs/studies/fashion_mnist_small.yaml
  hpcsgd study status runs/fashion_mnist_small
  hpcsgd submit jobs/demo_local_sgd.yaml --site perlmutter --nodes 2 --account PROJECT -- --epochs 10
  hpcsgd scale jobs/demo_sync_sgd.yaml --gpus 1,2 --launcher mpirun
"""

LAST_WORD_SECONDS = 5

LAUNCH = {
    "submit": "make the sbatch script of a run: print it, check it, send it",
    "scale": "one run for each of several numbers of GPUs, by Slurm or here",
    "sweep": "an array of runs with all combinations of some values",
    "status": "what became of the runs of a directory",
    "resubmit": "send runs again that did not come to their end",
    "doctor": "look at ranks, devices and MPI as the launcher has set them up",
}
"""Commands that are functions of ``hpcsgd.launch.commands``, which have parsers of their own."""


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
    try:
        if words[:1] == ["train"]:
            return train(words[1:])
        if words[:1] == ["check"]:
            return check(words[1:])
        if words[:1] == ["study"]:
            from hpcsgd.trials.command import study

            return study(words[1:])
        if words and words[0] in LAUNCH:
            from hpcsgd.launch import commands

            code: int = getattr(commands, words[0])(words[1:])
            return code
        arguments = make_parser().parse_args(words)
        return {"data": bring, "info": info}[arguments.command](arguments)
    except (JointError, LoneError) as error:
        if isinstance(error, LaunchError) and not error.tells:
            # Some launchers end all processes where one has ended: the one that says why is to be first.
            time.sleep(LAST_WORD_SECONDS)
        else:
            print(f"hpcsgd: {error}", file=sys.stderr, flush=True)
        return error.exit_code


def make_parser() -> argparse.ArgumentParser:
    """The commands and their own options; the recipe's keys are jsonargparse's."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="hpcsgd", description="Data-parallel training over MPI.", epilog=EXAMPLES, formatter_class=formatter
    )
    parser.add_argument("--version", action="version", version=f"hpcsgd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("train", help="train as a recipe says", add_help=False)
    commands.add_parser("check", help="import, build and try what a recipe names, without MPI or a GPU", add_help=False)
    data = commands.add_parser("data", help="bring data sets")
    actions = data.add_subparsers(dest="data_command", required=True, metavar="COMMAND")
    fetcher = actions.add_parser("fetch", help="bring a data set and check it")
    fetcher.add_argument("name", metavar="NAME", help="fashion_mnist, mnist, cifar10 or cifar100")
    fetcher.add_argument("--to", metavar="DIR", type=paths.argument, help="where to (default: the user's cache)")
    fetcher.add_argument(
        "--from", metavar="SOURCE", dest="source", default="auto", help="a directory, debian, web, or auto (default)"
    )
    commands.add_parser("study", help="a batch-size study: run it, or see how far it is", add_help=False)
    packer = actions.add_parser("pack", help="pack folders of images into one file")
    packer.add_argument(
        "source", metavar="SOURCE", type=paths.argument, help="folder of train/CLASS/IMAGE and val/CLASS/IMAGE"
    )
    packer.add_argument("target", metavar="OUT.h5", type=paths.argument, help="the pack")
    packer.add_argument("--size", type=int, default=256, metavar="N", help="height and width (default: %(default)s)")
    packer.add_argument("--overwrite", action="store_true", help="replace a pack that is there")
    packer.add_argument("--skip_bad", action="store_true", help="leave out files that cannot be read, and name them")
    for name, meaning in LAUNCH.items():
        commands.add_parser(name, help=meaning, add_help=False)
    describe = commands.add_parser("info", help="summarise a run")
    describe.add_argument("run", metavar="RUN", type=paths.argument, help="a run's directory or its run.h5")
    return parser


def train(words: list[str]) -> int:
    """``hpcsgd train [RECIPE] [--print_config] [--key value ...]``."""
    from hpcsgd.config.recipe import load_config, print_help, to_yaml

    if "-h" in words or "--help" in words:
        print_help()
        return 0
    recipe, overrides = _recipe_of([word for word in words if word != "--print_config"])
    config, mistake = RunConfig(local_batch_size=1), None
    try:
        config = load_config(recipe, overrides)
    except UsageError as error:
        mistake = error
    if "--print_config" in words:
        if mistake is not None:
            raise mistake
        print(to_yaml(config), end="")
        return 0
    name = Path(recipe).stem if recipe is not None else None
    return _train_together(config, mistake, ["hpcsgd", "train", *words], name)


def _recipe_of(words: list[str]) -> tuple[str | None, list[str]]:
    """The recipe of a command line, which comes first, and the other words."""
    recipe = words[0] if words and not words[0].startswith("-") else None
    return recipe, words[recipe is not None :]


def check(words: list[str]) -> int:
    """``hpcsgd check RECIPE [--key value ...]``."""
    from hpcsgd.config.recipe import load_config

    if not words or "-h" in words or "--help" in words:
        print("usage: hpcsgd check RECIPE [--KEY VALUE ...]\n\nImport, build and try what a recipe names.")
        return 0 if words else 2
    config = load_config(*_recipe_of(words))
    from hpcsgd.api.check import check as check_run

    print(check_run(config))
    return 0


def _train_together(config: RunConfig, mistake: UsageError | None, argv: list[str], name: str | None) -> int:
    """Train on all ranks; ``name`` is that of a run without a directory."""
    from hpcsgd.run.start import work_together

    def work(config: RunConfig, comm: Communicator, signals: StopSignals) -> int:
        from hpcsgd.train import run

        result = run(config, comm, argv, signals, name)
        if comm.rank == 0 and result.path is not None:
            print(f"hpcsgd: the run is in {result.path}", file=sys.stderr)
        return 0

    return work_together(config, mistake, work)


def bring(arguments: argparse.Namespace) -> int:
    """``hpcsgd data fetch NAME`` and ``hpcsgd data pack SOURCE OUT.h5``."""
    if arguments.data_command == "pack":
        from hpcsgd.data.packing import pack

        if arguments.size < 1:
            raise UsageError(f"--size is {arguments.size}: it must be 1 or more")
        changes = {"overwrite": arguments.overwrite, "skip_bad": arguments.skip_bad}
        print(pack(arguments.source, arguments.target, arguments.size, **changes))
        return 0
    from hpcsgd.data.fetch import fetch as fetch_data

    print(fetch_data(arguments.name, arguments.to, arguments.source))
    return 0


def info(arguments: argparse.Namespace) -> int:
    """``hpcsgd info RUN``."""
    from hpcsgd.record import load_run
    from hpcsgd.record.summary import summarise

    print(summarise(load_run(arguments.run)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
