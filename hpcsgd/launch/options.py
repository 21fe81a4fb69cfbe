"""The options that the commands of ``hpcsgd.launch`` share, and what is read from them."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TypedDict, get_args

from hpcsgd.config import paths
from hpcsgd.config.recipe import load_config
from hpcsgd.data.places import describe_lack, find_layout
from hpcsgd.data.sets import SETS
from hpcsgd.data.sets.files import FileSet
from hpcsgd.errors import UsageError
from hpcsgd.launch.planned import PlannedRun
from hpcsgd.launch.schedulers import SCHEDULERS
from hpcsgd.launch.script import Stage
from hpcsgd.launch.site import OPTIONS, LauncherName, RuntimeName, SiteProfile, load_site


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are the user's like all others: one message."""

    def error(self, message: str) -> NoReturn:
        """Raise ``UsageError``."""
        raise UsageError(f"{self.prog.partition(' ')[2]}: {message}; see {self.prog} --help")


def make_parser(command: str, description: str) -> Parser:
    """The parser of a command."""
    return Parser(prog=f"hpcsgd {command}", description=description, allow_abbrev=False)


def positive(text: str) -> int:
    """A whole number from 1 on, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def add_site_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Options of the commands that make scripts."""
    parser.epilog = "What follows -- overrides the recipe, as in hpcsgd train."
    group = parser.add_argument_group("site and job")
    what = "a site of slurm/sites, or a TOML file of your own"
    group.add_argument("--site", metavar="S", required=required, help=what)
    group.add_argument("--launcher", choices=get_args(LauncherName), help="in place of the site's")
    what = "run in this container: an image, or at alps the file of an environment"
    group.add_argument("--container", metavar="IMAGE", help=what)
    group.add_argument("--tasks_per_node", type=positive, metavar="N", help="in place of the site's")
    group.add_argument("--time", metavar="T", help="time limit, as Slurm writes it")
    for option in OPTIONS:
        having = [found.title for found in SCHEDULERS.values() if option in found.options]
        group.add_argument(f"--{option}", metavar="X", help=f"{option} of the job ({', '.join(having)})")
    group.add_argument(
        "--stage",
        metavar="DIR",
        type=paths.argument_elsewhere,
        help="copy the data set from DIR to each node's own disk first",
    )
    action = group.add_mutually_exclusive_group()
    action.add_argument("--submit", action="store_true", help="send it to the site's scheduler")
    action.add_argument("--check", action="store_true", help="ask the scheduler whether it would take it; send nothing")


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """A command's own arguments, and the words after ``--``."""
    own, rest = list(words), []
    if "--" in own:
        place = own.index("--")
        own, rest = own[:place], own[place + 1 :]
    return parser.parse_args(own), rest


def chosen_site(arguments: argparse.Namespace) -> SiteProfile:
    """The site, with the launcher and the container that were asked for.

    Raises:
        UsageError: there is no such site, or its scheduler has no such launcher, or it has no containers.
    """
    site = load_site(arguments.site)
    if arguments.container and site.container_runtime is None:
        known = ", ".join(get_args(RuntimeName))
        raise UsageError(
            f"--container: site {site.name} says nothing of containers: set container_runtime in a site of your own, "
            f"to one of {known}"
        )
    site = dataclasses.replace(site, image=arguments.container or site.image)
    try:
        return dataclasses.replace(site, launcher=arguments.launcher) if arguments.launcher else site
    except ValueError as error:
        raise UsageError(f"--launcher {arguments.launcher} at site {site.name}: {error}") from error


class JobOptions(TypedDict):
    """Fields of :class:`~hpcsgd.launch.script.Job` that come from the command line as they are."""

    time: str | None
    options: dict[str, str]


def job_options(arguments: argparse.Namespace) -> JobOptions:
    """Time and options of the job as :class:`Job` takes them."""
    given = {option: getattr(arguments, option) for option in OPTIONS}
    return {"time": arguments.time, "options": {name: value for name, value in given.items() if value is not None}}


def stage_words(arguments: argparse.Namespace, overrides: Sequence[str]) -> tuple[str, ...]:
    """Overrides that let a run find the data that is copied to its node.

    Raises:
        UsageError: the recipe's data set cannot be copied, or the directory lacks files of it.
    """
    if not arguments.stage:
        return ()
    data = load_config(arguments.recipe, list(overrides)).data
    directory = Path(arguments.stage)
    known = _published(data.name)
    # One that is not here may be there.
    if directory.exists() and find_layout(known, directory) is None:
        raise UsageError(f"--stage {arguments.stage}: {describe_lack(known, directory)} of {data.name}")
    return ("--data.dir=null",)


def stage(arguments: argparse.Namespace, runs: Sequence[PlannedRun]) -> Stage | None:
    """The data to copy to the nodes, if that was asked for."""
    if not arguments.stage:
        return None
    names = sorted({run.config.data.name for run in runs})
    if len(names) > 1:
        raise UsageError(f"--stage copies one data set for all runs, but they are on {', '.join(names)}: leave it out")
    return Stage(_published(names[0]).name, arguments.stage)


def _published(name: str) -> FileSet:
    """The data set, which can be copied."""
    found = SETS.get(name)
    if not isinstance(found, FileSet):
        origin = "is your own" if found is None else found.origin
        raise UsageError(f"--stage copies published data sets, but {name} {origin}: leave it out")
    return found


def numbers(option: str, text: str) -> list[int]:
    """The positive numbers of ``1,2,4``."""
    words = text.split(",")
    if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise UsageError(f"{option} is {text!r}: write numbers, as in 1,2,4,8")
    return [int(word) for word in words]
