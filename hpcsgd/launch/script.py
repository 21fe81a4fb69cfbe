"""The text of a job: ``slurm/job.sbatch.j2`` filled in for one site. Nothing else writes sbatch scripts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hpcsgd.errors import Preempted, UsageError
from hpcsgd.launch.site import TEMPLATE, SiteProfile, slurm_directory
from hpcsgd.launch.slurm import time_seconds


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
        output: file of what the job prints, in Slurm's pattern.
        time: time limit; unset, the site's.
        options: sbatch's account, partition, ...; they win over the site's.
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
    output: str = "%x-%j.out"
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
        "expanded_words": lambda words: "".join(f" {expanded(word)}" for word in words),
    }
    time = site.time if job.time is None else job.time
    own = {name: getattr(site, name) for name in ("account", "partition", "qos", "constraint", "reservation")}
    try:
        return environment.get_template(TEMPLATE).render(
            site=site,
            name=job.name,
            made_by=" ".join(job.made_by.split()),
            options={name: value for name, value in (own | dict(job.options)).items() if value is not None},
            nodes=job.nodes,
            tasks_per_node=job.tasks_per_node,
            gpus_per_node=min(site.gpus_per_node, site.gpus_per_node if site.whole_nodes else job.tasks_per_node),
            per_task=site.gpus_per_node > 0 and site.gpu_visibility == "per-task" and site.launcher == "srun",
            launcher=site.launcher,
            exports=site.exports,
            container="".join(f"{expanded(word)} " for word in site.container),
            time=time,
            output=job.output,
            trains=job.trains,
            logged=job.logged,
            words=job.words,
            run_dir=job.run_dir,
            points=job.points,
            max_running=job.max_running,
            stage=job.stage,
            preempted=Preempted.exit_code,
        )
    except jinja2.UndefinedError as error:
        found = re.search(r"attribute '(\w+)'", str(error))
        missing = found[1] if found else str(error)
        raise UsageError(
            f"site {site.name} needs {missing}, which is not given: add --{missing}, or set it in a site of your own"
        ) from error


def expanded(text: str) -> str:
    """A shell word in which variables are replaced, but nothing is run or split."""
    if re.fullmatch(r"[\w@%+=:./-]+", text):
        return text
    return '"' + re.sub(r'(["`\\]|\$\()', r"\\\1", text) + '"'


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
    if job.stage is not None and site.node_local is None:
        raise UsageError(f"site {site.name} has no node_local, a directory on each node's own disk: leave --stage out")


def made_by(command: Iterable[str]) -> str:
    """The command line of ``hpcsgd`` with these words."""
    return shlex.join(["hpcsgd", *command])
