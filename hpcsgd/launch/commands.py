"""The commands ``submit``, ``scale``, ``sweep``, ``status``, ``resubmit`` and ``doctor``.

Each function takes the words of its command and gives the exit code.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from hpcsgd.config import paths
from hpcsgd.errors import UsageError
from hpcsgd.launch.campaign import sweep_jobs, write_or_send
from hpcsgd.launch.options import (
    add_site_options,
    chosen_site,
    job_options,
    make_parser,
    parse,
    positive,
    stage,
    stage_words,
)
from hpcsgd.launch.planned import PlannedRun, nodes_and_tasks, plan_run, sweep_runs
from hpcsgd.launch.probe import runs_of_scale, what_then
from hpcsgd.launch.script import Job, job_name, made_by, render
from hpcsgd.launch.sending import check, continued, queued, send, send_text, write_study
from hpcsgd.launch.site import SiteProfile
from hpcsgd.launch.study import named_as_before
from hpcsgd.record.study_file import Entry, Study


def submit(words: list[str]) -> int:
    """``hpcsgd submit RECIPE --site S --nodes N``, or ``hpcsgd submit --doctor ...``."""
    parser = make_parser("submit", "Make the job script of one run, and print it, check it or send it.")
    parser.add_argument("recipe", metavar="RECIPE", nargs="?", help="the recipe")
    parser.add_argument("--nodes", type=positive, metavar="N", required=True, help="nodes")
    parser.add_argument("--doctor", action="store_true", help="run hpcsgd doctor there; takes no recipe")
    add_site_options(parser, required=True)
    arguments, overrides = parse(parser, words)
    if arguments.doctor == (arguments.recipe is not None):
        raise UsageError("submit: give either a RECIPE or --doctor")
    if arguments.doctor and arguments.stage:
        raise UsageError("submit: --doctor takes no --stage")
    overrides += stage_words(arguments, overrides)
    site = chosen_site(arguments)
    tasks = arguments.tasks_per_node or site.tasks_per_node
    source = made_by(["submit", *(word for word in words if word not in ("--submit", "--check"))])
    job = Job("doctor", source, arguments.nodes, tasks, tuple(overrides), **job_options(arguments))
    if arguments.doctor:
        job = dataclasses.replace(job, trains=False)
    else:
        run = plan_run(arguments.recipe, overrides, arguments.nodes * tasks)
        job = dataclasses.replace(
            job,
            name=job_name(Path(arguments.recipe).stem),
            words=(arguments.recipe, *overrides),
            run_dir=run.config.run_dir,
            stage=stage(arguments, [run]),
            logged=run.config.log.enabled,
        )
    script = render(site, job)
    if arguments.check:
        check(site.scheduled_by, {job.name: script})
    elif not arguments.submit:
        print(script, end="")
    elif arguments.doctor:
        send_text(site.scheduled_by, script)
    else:
        _submit_run(site, job, words)
    return 0


def _submit_run(site: SiteProfile, job: Job, words: Sequence[str]) -> None:
    """Send a run whose directory is settled now, and keep its script there."""
    run_dir = job.run_dir or f"runs/{job.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    job = dataclasses.replace(job, run_dir=run_dir, output=f"{run_dir}/{site.scheduler}-{{job}}.out")
    script = f"job{site.scheduled_by.suffix}"
    entries = (Entry(".", script),)
    study = continued(Study(Path(run_dir), ("hpcsgd", "submit", *words), str(Path.cwd()), entries))
    if queued(study.entries):
        raise UsageError(f"job {study.entries[0].ids[-1]} of {run_dir} is still in the queue: choose another run_dir")
    write_study(study, {script: render(site, job)}, study.entries)


def scale(words: list[str]) -> int:
    """``hpcsgd scale RECIPE --gpus 1,2,4,8 --mode strong|weak``."""
    parser = make_parser("scale", "Train the same recipe on several numbers of GPUs: one job a size.")
    parser.add_argument("recipe", metavar="RECIPE", help="the recipe; its batch is that of the smallest size")
    parser.add_argument("--gpus", metavar="N,N,...", required=True, help="sizes: ranks, one a GPU")
    what = "what stays as it is: the global batch (strong, the default) or the local one (weak)"
    parser.add_argument("--mode", choices=["strong", "weak"], default="strong", help=what)
    parser.add_argument(
        "-o", dest="directory", metavar="DIR", type=paths.argument, help="default: runs/scale-RECIPE-MODE"
    )
    parser.add_argument("--chain", action="store_true", help="each job waits for the end of the one before")
    parser.add_argument("--probe", action="store_true", help="only the small runs that these sizes are predicted from")
    add_site_options(parser, required=False)
    arguments, overrides = parse(parser, words)
    overrides += stage_words(arguments, overrides)
    name = job_name(Path(arguments.recipe).stem)
    kind = "probe" if arguments.probe else "scale"
    directory = arguments.directory or Path("runs") / f"{kind}-{name}-{arguments.mode}"
    runs = runs_of_scale(arguments, overrides)
    study = Study(directory, ("hpcsgd", "scale", *words), str(Path.cwd()), ())
    what, then = what_then(arguments, directory)
    if arguments.site is None:
        code = _run_here(arguments, study, runs, "size")
        print(f"{what}: {then}")
        return code
    site = chosen_site(arguments)
    jobs = {}
    for run in runs:
        nodes, tasks = nodes_and_tasks(run.ranks, site, arguments.tasks_per_node)
        jobs[run.name] = Job(
            f"{name}-{run.name}",
            made_by(["scale", *words]),
            nodes,
            tasks,
            (arguments.recipe, *run.words),
            run_dir=str(directory / run.name),
            output=str(directory / f"{run.name}-{{job}}.out"),
            stage=stage(arguments, [run]),
            logged=run.config.log.enabled,
            **job_options(arguments),
        )
    entries = tuple(Entry(run.name, f"{run.name}{site.scheduled_by.suffix}") for run in runs)
    code = write_or_send(arguments, site, dataclasses.replace(study, entries=entries), jobs, runs)
    if arguments.submit:
        print(f"when they have run: {then}")
    return code


def _run_here(arguments: argparse.Namespace, study: Study, runs: Sequence[PlannedRun], noun: str) -> int:
    """The study without Slurm; ``noun`` is what a run of it is called."""
    from hpcsgd.launch.local import run_here

    command = study.command[1]
    if arguments.launcher != "mpirun":
        raise UsageError(
            f"{command}: give --site S for Slurm, or --launcher mpirun to run it here, one {noun} after another"
        )
    for_slurm = ("submit", "check", "chain", "stage", "max_running")
    if any(getattr(arguments, name, None) for name in for_slurm):
        names = [f"--{name}" for name in for_slurm if name in arguments]
        raise UsageError(f"{command}: {', '.join(names[:-1])} and {names[-1]} are for Slurm: give --site S too")
    study = dataclasses.replace(study, entries=tuple(Entry(run.name, None) for run in runs))
    return run_here(study, arguments.recipe, runs, noun)


def sweep(words: list[str]) -> int:
    """``hpcsgd sweep RECIPE --set KEY=VALUE,VALUE --seeds N``."""
    arguments, overrides = parse(_sweep_parser(), words)
    overrides += stage_words(arguments, overrides)
    name = job_name(Path(arguments.recipe).stem)
    directory = arguments.directory or Path("runs") / f"sweep-{name}"
    study = Study(directory, ("hpcsgd", "sweep", *words), str(Path.cwd()), (), arguments.max_running)
    if arguments.site is None:
        if arguments.nodes > 1:
            raise UsageError(f"sweep: --nodes {arguments.nodes} is for Slurm: give --site S too")
        ranks = arguments.tasks_per_node or 1
        runs = sweep_runs(arguments.recipe, overrides, arguments.settings, arguments.seeds, ranks)
        runs = named_as_before(directory, runs)
        code = _run_here(arguments, study, runs, "run")
        where = shlex.quote(str(directory))
        print(f"curves and table: hpcsgd figures learning {where} -o {where}/figures")
        return code
    site = chosen_site(arguments)
    tasks = arguments.tasks_per_node or site.tasks_per_node
    runs = sweep_runs(arguments.recipe, overrides, arguments.settings, arguments.seeds, arguments.nodes * tasks)
    runs = named_as_before(directory, runs)
    job = Job(
        f"{name}-sweep",
        made_by(["sweep", *words]),
        arguments.nodes,
        tasks,
        (arguments.recipe, *overrides),
        max_running=arguments.max_running,
        stage=stage(arguments, runs),
        logged=all(run.config.log.enabled for run in runs),
        **job_options(arguments),
    )
    study, jobs = sweep_jobs(site, study, job, runs)
    return write_or_send(arguments, site, study, jobs, runs)


def _sweep_parser() -> argparse.ArgumentParser:
    """The words of ``hpcsgd sweep``."""
    parser = make_parser(
        "sweep",
        "Train a recipe with all combinations of some values: runs of one size, in one array where there are arrays.",
    )
    parser.add_argument("recipe", metavar="RECIPE", help="the recipe")
    what = "values of a key; may be given for several keys"
    parser.add_argument("--set", dest="settings", metavar="KEY=VALUE,...", action="append", default=[], help=what)
    parser.add_argument("--seeds", type=positive, metavar="N", help="so many seeds, from the recipe's on")
    parser.add_argument("--nodes", type=positive, metavar="N", default=1, help="nodes of each run (default 1)")
    parser.add_argument("--max_running", type=positive, metavar="N", help="runs at a time")
    parser.add_argument("-o", dest="directory", metavar="DIR", type=paths.argument, help="default: runs/sweep-RECIPE")
    add_site_options(parser, required=False)
    return parser


def status(words: list[str]) -> int:
    """``hpcsgd status DIR``."""
    from hpcsgd.launch.status import run_states, table
    from hpcsgd.record.reader import read_status

    parser = make_parser("status", "What became of the runs of a directory.")
    parser.add_argument(
        "directory", metavar="DIR", type=paths.argument, help="a study, or any directory with runs below it"
    )
    what = "print only what the log of the one run in DIR says, in a word; Slurm is not asked"
    parser.add_argument("--word", action="store_true", help=what)
    arguments, _ = parse(parser, words)
    print(read_status(arguments.directory) if arguments.word else table(run_states(arguments.directory)))
    return 0


def resubmit(words: list[str]) -> int:
    """``hpcsgd resubmit --failed DIR``."""
    from hpcsgd.launch.status import RESUBMITTED, run_states

    parser = make_parser("resubmit", "Send runs again that did not come to their end; they go on where they were.")
    parser.add_argument(
        "directory", metavar="DIR", type=paths.argument, help="a study, or a directory with studies below it"
    )
    parser.add_argument("--failed", action="store_true", required=True, help=f"runs that are {', '.join(RESUBMITTED)}")
    failed = [state for state in run_states(parse(parser, words)[0].directory) if state.state in RESUBMITTED]
    if not failed:
        print(f"nothing to send: no run is {' or '.join(RESUBMITTED)}")
    studies: dict[Path, tuple[Study, list[Entry]]] = {}
    for state in failed:
        if state.study is None or state.entry is None:
            print(f"{state.path} is {state.state}, but was not sent by hpcsgd: send its script again")
        elif state.entry.script is None:
            print(f"{state.path} is {state.state}; it is run without Slurm: call {shlex.join(state.study.command)}")
        else:
            studies.setdefault(state.study.path, (state.study, []))[1].append(state.entry)
    for study, entries in studies.values():
        send(study, entries)
    sent = sum(len(entries) for _, entries in studies.values())
    return 0 if sent == len(failed) else 1


def doctor(words: list[str]) -> int:
    """``hpcsgd doctor``, on every rank."""
    parser = make_parser("doctor", "Look at ranks, devices, MPI and file system as the launcher has set them up.")
    parser.add_argument(
        "--run_dir", metavar="DIR", type=paths.argument, default=Path(), help="where runs will be; default: here"
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="as in a recipe")
    parser.add_argument("--share_gpu", action="store_true", help="several ranks on one GPU are meant")
    parser.add_argument(
        "--max_bytes", type=positive, metavar="N", default=1 << 24, help="largest allreduce; default 16 MiB"
    )
    arguments, rest = parse(parser, words)
    if rest:
        raise UsageError(f"doctor: {rest[0]!r} after --: there is no recipe to override")
    from hpcsgd.launch.doctor import run_doctor

    return run_doctor(arguments.run_dir, arguments.device, arguments.share_gpu, arguments.max_bytes)
