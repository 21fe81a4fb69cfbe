"""The jobs of a campaign: what ``scale`` and ``sweep`` write and send."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence

from hpcsgd.errors import UsageError
from hpcsgd.launch.planned import PlannedRun
from hpcsgd.launch.script import Job, Point, render
from hpcsgd.launch.sending import check, continued, queued, write_study
from hpcsgd.launch.site import SiteProfile
from hpcsgd.launch.study import is_finished
from hpcsgd.record.study_file import Entry, Study


def sweep_jobs(site: SiteProfile, study: Study, job: Job, runs: Sequence[PlannedRun]) -> tuple[Study, dict[str, Job]]:
    """The runs of a sweep as one array, or as a job each where the scheduler has no arrays.

    Args:
        site: where they run.
        study: the study, without its entries.
        job: the job of any of them, with the words that they share.
        runs: the runs.

    Returns:
        The study with an entry for each run, and the jobs by the names of their scripts, without the ending.

    Raises:
        UsageError: so many may run at a time, but there are no arrays to say that of.
    """
    scheduler, shared = site.scheduled_by, len(job.words) - 1
    points = tuple(Point(str(study.path / run.name), run.words[shared:]) for run in runs)
    if scheduler.has_arrays:
        job = dataclasses.replace(job, points=points, output=str(study.path / "{job}.out"))
        script = f"sweep{scheduler.suffix}"
        entries = tuple(Entry(run.name, script, task) for task, run in enumerate(runs))
        return dataclasses.replace(study, entries=entries), {"sweep": job}
    if job.max_running is not None:
        raise UsageError(
            f"--max_running is of arrays, which {scheduler.title} has not: leave it out, or send fewer runs"
        )
    jobs = {
        run.name: dataclasses.replace(
            job,
            words=(*job.words, *point.words),
            run_dir=point.run_dir,
            output=str(study.path / f"{run.name}-{{job}}.out"),
        )
        for run, point in zip(runs, points, strict=True)
    }
    entries = tuple(Entry(run.name, f"{run.name}{scheduler.suffix}") for run in runs)
    return dataclasses.replace(study, entries=entries), jobs


def write_or_send(
    arguments: argparse.Namespace, site: SiteProfile, study: Study, jobs: Mapping[str, Job], runs: Sequence[PlannedRun]
) -> int:
    """Write a study's scripts, and send those of its runs that are neither finished nor in the queue."""
    scheduler = site.scheduled_by
    texts = {name: render(site, job) for name, job in jobs.items()}
    finished = {run.name for run in runs if is_finished(study.path / run.name, run.config)}
    if arguments.check:
        check(scheduler, texts)
        return 0
    scripts = {f"{name}{scheduler.suffix}": text for name, text in texts.items()}
    study = continued(study)
    waiting = queued(study.entries) if arguments.submit else set()
    for name in (entry.run for entry in study.entries if entry.run in finished | waiting):
        print(f"{study.path / name}: {'finished' if name in finished else 'in the queue'} already")
    left = [entry for entry in study.entries if entry.run not in finished | waiting]
    write_study(study, scripts, left if arguments.submit else (), chain=getattr(arguments, "chain", False))
    if not arguments.submit:
        print(f"wrote {', '.join(str(study.path / name) for name in scripts)}; --submit sends what is not finished")
    return 0
