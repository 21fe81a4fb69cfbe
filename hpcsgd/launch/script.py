"""The text of a job: a template of ``slurm/`` filled in for one site. Nothing else writes scripts of jobs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hpcsgd.errors import Preempted, UsageError
from hpcsgd.launch.containers import RUNTIMES
from hpcsgd.launch.launchers import LAUNCHERS, Size
from hpcsgd.launch.pbs import walltime
from hpcsgd.launch.scheduler import time_seconds
from hpcsgd.launch.shell import expanded
from hpcsgd.launch.site import OPTIONS, SiteProfile, slurm_directory


@dataclass(frozen=True)
class Point:
    """One run of an array: its directory, and the words of the train command that are its own."""

    run_dir: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """A data set to copy to each node's own disk first: its name and its directory."""

    name: str
    directory: str


@dataclass(frozen=True)
class Job:
    """What a script is made of, beside the site.

    Attributes:
        name: the job's name.
        made_by: the command that made it.
        nodes: nodes.
        tasks_per_node: ranks on each.
        words: what follows ``hpcsgd train``, or ``hpcsgd doctor``.
        trains: the command is ``train``.
        logged: the runs keep a log, which says how they ended.
        run_dir: the run's directory; unset, ``runs/NAME-JOB``.
        points: the runs of an array; each element of the array is one of them.
        max_running: how many elements of the array may run at a time; unset, any number.
        output: file of what the job prints; ``{name}`` and ``{job}`` stand for the job's name and id.
        time: time limit; unset, the site's.
        options: account, queue, ...; they win over the site's.
        stage: data that is copied to each node first; the run must look for it in ``$HPCSGD_DATA``.
    """

    name: str
    made_by: str
    nodes: int
    tasks_per_node: int
    words: tuple[str, ...]
    trains: bool = True
    logged: bool = True
    run_dir: str | None = None
    points: tuple[Point, ...] = ()
    max_running: int | None = None
    output: str = "{name}-{job}.out"
    time: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    stage: Stage | None = None


def render(site: SiteProfile, job: Job) -> str:
    """The script of ``job`` at ``site``.

    Raises:
        UsageError: the site needs an option that is not given, or a value cannot stand in a script.
    """
    import jinja2

    _check(site, job)
    scheduler, launcher = site.scheduled_by, LAUNCHERS[site.launcher]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(slurm_directory()),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "quoted": shlex.quote,
        "quoted_words": shlex.join,
        "expanded": expanded,
        "walltime": walltime,
    }
    per_task = site.gpus_per_node > 0 and site.gpu_visibility == "per-task" and launcher.shows_one_gpu
    time = site.time if job.time is None else job.time
    seconds = time_seconds(time)
    before, launched_in = _container(site)
    size = Size(job.nodes, job.tasks_per_node, per_task, site.signal_seconds if job.trains else None)
    return environment.get_template(scheduler.template).render(
        site=site,
        scheduler=scheduler,
        launcher=launcher,
        name=job.name,
        made_by=" ".join(job.made_by.split()),
        asked=_asked(site, job),
        nodes=job.nodes,
        tasks_per_node=job.tasks_per_node,
        gpus_per_node=min(site.gpus_per_node, site.gpus_per_node if site.whole_nodes else job.tasks_per_node),
        per_task=per_task,
        launch=[*launcher.words(site, size), *launched_in],
        exports=site.exports,
        container="".join(f"{word} " for word in before),
        time=time,
        seconds=seconds,
        output=scheduler.output(job.output, is_array=bool(job.points)),
        trains=job.trains,
        logged=job.logged,
        words=job.words,
        run_dir=job.run_dir,
        points=job.points,
        max_running=job.max_running,
        max_restarts=scheduler.restarts if site.max_restarts is None else site.max_restarts,
        stage=job.stage,
        preempted=Preempted.exit_code,
    )


def _container(site: SiteProfile) -> tuple[list[str], list[str]]:
    """What a container wants before the command, and of the launcher, as words of a shell."""
    if site.image is None or site.container_runtime is None:
        return [expanded(word) for word in site.container], []
    runtime = RUNTIMES[site.container_runtime]
    return runtime.words(site, site.image), runtime.launcher_words(site.image)


def _asked(site: SiteProfile, job: Job) -> list[str]:
    """The site's and the job's options, as the scheduler's directives have them.

    Raises:
        UsageError: one is needed and not given.
    """
    own = {name: getattr(site, name) for name in OPTIONS}
    values = {name: value for name, value in (own | dict(job.options)).items() if value is not None}
    for name in site.required:
        if name not in values:
            raise UsageError(
                f"site {site.name} needs {name}, which is not given: add --{name}, or set it in a site of your own"
            )
    return [f"{start}{values[name]}" for name, start in site.scheduled_by.options.items() if name in values]


def job_name(text: str) -> str:
    """``text`` as the name of a job and of directories."""
    return re.sub(r"[^\w.+-]+", "-", text, flags=re.ASCII).strip("-.") or "job"


def _check(site: SiteProfile, job: Job) -> None:
    """Refuse what sbatch would misunderstand.

    Raises:
        UsageError: names the value and what would be valid.
    """
    assert job.name == job_name(job.name), job.name
    assert job.nodes >= 1 and job.tasks_per_node >= 1, (job.nodes, job.tasks_per_node)
    if job.tasks_per_node > site.tasks_per_node:
        raise UsageError(
            f"{job.tasks_per_node} tasks a node cannot be at site {site.name}: choose 1 to {site.tasks_per_node}"
        )
    for name in job.options:
        if name not in site.scheduled_by.options:
            has = ", ".join(f"--{option}" for option in site.scheduled_by.options)
            raise UsageError(f"--{name} is given, but {site.scheduled_by.title} has none: it has {has}")
    for name, value in (*job.options.items(), ("output", job.output)):
        if not value or not value.isprintable() or " " in value:
            raise UsageError(f"--{name} is {value!r}: it must be one word")
    time = site.time if job.time is None else job.time
    limit = time_seconds(time)
    if limit is None:
        raise UsageError(f"--time is {time!r}: write it as Slurm does: MINUTES, H:MM:SS or D-HH:MM:SS")
    if limit <= site.signal_seconds and job.trains:
        raise UsageError(
            f"--time is {time}, but the ranks are told to save {site.signal_seconds} s before it is over: give more"
        )
    if job.points and site.max_restarts == 0 and site.scheduled_by.arrays_are_restarted:
        raise UsageError(
            f"{site.scheduled_by.title} takes an array only of jobs that it may run again: leave max_restarts = 0 out "
            f"of site {site.name}"
        )
    if job.stage is not None and site.node_local is None:
        raise UsageError(f"site {site.name} has no node_local, a directory on each node's own disk: leave --stage out")


def made_by(command: Iterable[str]) -> str:
    """The command line of ``hpcsgd`` with these words."""
    return shlex.join(["hpcsgd", *command])
