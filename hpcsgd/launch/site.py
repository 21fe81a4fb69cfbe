"""How jobs are started at one site: a TOML file in ``slurm/sites``, or one of the user's own."""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hpcsgd.config.check import require
from hpcsgd.config.paths import resolved
from hpcsgd.config.shipped import shipped
from hpcsgd.errors import UsageError, nearest, suggestion
from hpcsgd.launch.scheduler import Scheduler, time_seconds
from hpcsgd.launch.schedulers import SCHEDULERS, SchedulerName

LauncherName = Literal["srun", "mpirun", "ibrun", "mpiexec", "flux"]
RuntimeName = Literal["apptainer", "singularity", "podman-hpc", "edf"]
Option = Literal["account", "partition", "queue", "qos", "constraint", "reservation"]
OPTIONS: tuple[Option, ...] = typing.get_args(Option)
LARGEST_NUMBER = 65535
"""Slurm keeps these numbers in 16 bits."""

LEAST = {"tasks_per_node": 1, "cpus_per_task": 1, "gpus_per_node": 0, "signal_seconds": 1, "max_restarts": 0}
TEMPLATE = "job.sh.j2"


@dataclass(frozen=True)
class SiteProfile:
    """One site. Texts of ``exports``, ``container``, ``node_local`` and the launchers' options may use ``$VARIABLES``.

    Attributes:
        title: what it is.
        tasks_per_node: ranks on a node.
        scheduler: what takes its jobs.
        launcher: what starts the ranks.
        cpus_per_task: cores of a rank; unset, Slurm's default.
        gpus_per_node: GPUs of a node; 0 where there are none.
        gpu_visibility: a rank sees ``all`` GPUs of its node, or ``per-task`` its own one (by srun and flux only).
        gpu_request: how GPUs are asked for: ``gpus-per-node``, Slurm's ``gres``, or ``none``.
        whole_nodes: nodes are given whole: a job of Slurm's asks for all their GPUs, even if it has fewer ranks; one of
            PBS or Flux for nothing but nodes.
        cpu_bind: ``--cpu-bind`` of srun and mpiexec, ``cpu-affinity`` of flux run.
        required: options that must be given, here or on the command line.
        account, partition, queue, qos, constraint, reservation: of these, what the scheduler has: Slurm all but
            ``queue``, PBS account and queue, Flux account (its bank), queue and constraint.
        time: time limit of a job, where none is given.
        sbatch_options, qsub_options, flux_batch_options: more options of what takes the script.
        chunk: more of what PBS is asked for of each node, such as ``system=NAME``.
        srun_options, mpirun_options, ibrun_options, mpiexec_options, flux_run_options: more options of the launcher.
        modules: environment modules to load.
        setup: shell lines that come after them.
        container: words that come before the command, where no image is given: any way to an environment.
        container_runtime: what starts a container; ``edf`` is CSCS's engine, whose image is a file that describes one.
        container_options: more options of it, such as ``--nv``.
        binds: directories of the host that the container is shown, beside those that the runtime shows it itself.
        image: the image, where none is given; without one either, there is no container.
        exports: environment variables.
        node_local: a directory on each node's own disk, for ``--stage``.
        signal_seconds: how long before the time limit the ranks are told to save.
        max_restarts: how often a job that was stopped and saved goes back to the queue; 0 is never; unset, 20 times.
            PBS and Flux let no job do that; 0 says to PBS that it must not either, after a failure or a preemption.
        network: the links within and between nodes, which ``hpcsgd predict --network`` takes from this file.
    """

    title: str
    tasks_per_node: int
    scheduler: SchedulerName = "slurm"
    launcher: LauncherName = "srun"
    cpus_per_task: int | None = None
    gpus_per_node: int = 0
    gpu_visibility: Literal["all", "per-task"] = "all"
    gpu_request: Literal["gpus-per-node", "gres", "none"] = "gpus-per-node"
    whole_nodes: bool = False
    cpu_bind: str | None = None
    required: tuple[Option, ...] = ()
    account: str | None = None
    partition: str | None = None
    queue: str | None = None
    qos: str | None = None
    constraint: str | None = None
    reservation: str | None = None
    time: str = "01:00:00"
    sbatch_options: tuple[str, ...] = ()
    qsub_options: tuple[str, ...] = ()
    flux_batch_options: tuple[str, ...] = ()
    chunk: tuple[str, ...] = ()
    srun_options: tuple[str, ...] = ()
    mpirun_options: tuple[str, ...] = ("--bind-to", "none", "--map-by", "slot")
    ibrun_options: tuple[str, ...] = ()
    mpiexec_options: tuple[str, ...] = ()
    flux_run_options: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    container: tuple[str, ...] = ()
    container_runtime: RuntimeName | None = None
    container_options: tuple[str, ...] = ()
    binds: tuple[str, ...] = ()
    image: str | None = None
    exports: dict[str, str] = field(default_factory=dict)
    node_local: str | None = None
    signal_seconds: int = 120
    max_restarts: int | None = None
    network: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            value = getattr(self, name)
            ok = value is None or least <= value <= LARGEST_NUMBER
            require(ok, name, value, f"{least} or more, and at most {LARGEST_NUMBER}")
        enough = self.gpus_per_node == 0 or self.gpus_per_node >= self.tasks_per_node
        require(enough, "gpus_per_node", self.gpus_per_node, f"0, or tasks_per_node = {self.tasks_per_node} or more")
        limit = time_seconds(self.time)
        require(limit is not None, "time", self.time, "a time as Slurm writes it: MINUTES, H:MM:SS or D-HH:MM:SS")
        for name in self.exports:
            require(name.isidentifier() and name.isascii(), "exports", name, "names of environment variables")
        for name in ("sbatch_options", "qsub_options", "flux_batch_options"):
            for option in getattr(self, name):
                require(option.startswith("-") and option.isprintable(), name, option, f"options of {name[:-8]}")
        needs = self.image is None or self.container_runtime is not None
        require(needs, "image", self.image, "left out, or container_runtime set to what starts it")
        self._check_scheduler()

    def _check_scheduler(self) -> None:
        """Refuse what the scheduler has not."""
        scheduler = self.scheduled_by
        require(
            self.launcher in scheduler.launchers,
            "launcher",
            self.launcher,
            f"of {scheduler.title}'s, which are {', '.join(scheduler.launchers)}",
        )
        for name in OPTIONS:
            ok = getattr(self, name) is None and name not in self.required or name in scheduler.options
            require(ok, name, getattr(self, name), f"left out: {scheduler.title} has {', '.join(scheduler.options)}")
        if scheduler.restarts is None:
            require(not self.max_restarts, "max_restarts", self.max_restarts, f"0 or unset: {scheduler.no_restarts}")
            require(
                self.gpu_request != "gres", "gpu_request", self.gpu_request, "gpus-per-node or none: gres is Slurm's"
            )

    @property
    def scheduled_by(self) -> Scheduler:
        """What takes its jobs."""
        return SCHEDULERS[self.scheduler]

    @property
    def setup_lines(self) -> tuple[str, ...]:
        """The shell lines that set the job's environment up."""
        return (*(f"module load {name}" for name in self.modules), *self.setup)


def slurm_directory() -> Path:
    """Where the template and the sites are.

    Raises:
        UsageError: nowhere.
    """
    return shipped("slurm", TEMPLATE)


def site_names() -> list[str]:
    """The sites that come with hpcsgd."""
    return sorted(path.stem for path in (slurm_directory() / "sites").glob("*.toml"))


def load_site(name: str) -> SiteProfile:
    """The site of this name, or of a TOML file: a word that ends in ``.toml`` or holds a ``/``.

    Raises:
        UsageError: there is no such site or file, or something in it is wrong.
    """
    if name.endswith(".toml") or os.sep in name:
        path = resolved("--site", name)
    else:
        names = site_names()
        if name not in names:
            hint = nearest(name, names, f"the sites are {', '.join(names)}")
            raise UsageError(f"there is no site {name}; {hint} (or give --site a TOML file of your own)")
        path = slurm_directory() / "sites" / f"{name}.toml"
    try:
        return SiteProfile(**_checked(_content(path), path), name=path.stem)
    except OSError as error:
        raise UsageError(f"cannot read the site {path}: {error.strerror}") from error
    except ValueError as error:
        text = str(error)
        raise UsageError(text if text.startswith(str(path)) else f"{path}: {text}") from error


def _content(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        OSError, ValueError: it cannot be read, or is no TOML.
        UsageError: a key is given twice.
    """
    text = path.read_text(encoding="utf-8")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        _refuse_twice(text, path)
        raise


def _refuse_twice(text: str, path: Path) -> None:
    """Name both lines of a key or table that is given twice, of which TOML's own reader names one at most."""
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        found = re.match(r"\s*(?:\[([^\[\]]+)\]|([\w.-]+)\s*=)", line, re.ASCII)
        if not found:
            continue
        table = f"{found[1].strip()}." if found[1] else table
        key = table if found[1] else table + found[2]
        if key in lines:
            name = key.removesuffix(".")
            raise UsageError(f"{path}: {name} is given twice, in lines {lines[key]} and {number}: give it once")
        lines[key] = number


def _checked(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """The fields of a TOML file as the profile's types.

    Raises:
        UsageError: an unknown or missing key, or a value of a wrong type.
    """
    kinds = typing.get_type_hints(SiteProfile)
    del kinds["name"]
    for key in content:
        if key not in kinds:
            hint = nearest(key.replace("-", "_"), kinds, f"the keys are {', '.join(kinds)}")
            raise UsageError(f"{path}: unknown key {key}; {hint}")
    for field_ in dataclasses.fields(SiteProfile):
        needed = field_.default is dataclasses.MISSING and field_.default_factory is dataclasses.MISSING
        if needed and field_.name not in content:
            raise UsageError(f"{path}: {field_.name} is missing")
    return {key: _value(key, value, kinds[key], path) for key, value in content.items()}


def _value(key: str, value: Any, kind: Any, path: Path) -> Any:
    """``value`` as ``kind``: a plain type, a choice, one of them or nothing, a list of either, a table (of texts)."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if type(None) in inside:
        return _value(key, value, inside[0], path)
    if origin is Literal:
        if value in inside:
            return value
        hint = suggestion(str(value), inside)
        raise UsageError(f"{path}: {key} is {value!r}: it must be one of {', '.join(inside)}{hint}")
    if origin is tuple and isinstance(value, list):
        return tuple(_value(key, part, inside[0], path) for part in value)
    if kind == dict[str, Any] and isinstance(value, dict):
        return value  # What reads it, checks it.
    if origin is dict and isinstance(value, dict):
        # A number is as good as its text.
        return {name: _value(f"{key}.{name}", _text(part), str, path) for name, part in value.items()}
    if isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        if isinstance(value, str) and not value.isprintable():
            raise UsageError(f"{path}: {key} is {value!r}: it must be one line")
        return value
    names = {int: "an integer", str: "a text", bool: "true or false", tuple: "a list", dict: "a table"}
    raise UsageError(f"{path}: {key} is {value!r}: it must be {names[kind if origin is None else origin]}")


def _text(value: Any) -> Any:
    """An integer as its text; anything else as it is."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
