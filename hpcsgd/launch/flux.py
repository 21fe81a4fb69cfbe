"""Flux: its commands and its words.

What is said of Flux comes from the manual pages of flux-core (doc/man1, doc/man7/flux-environment.rst) and from its
issues 5105, 6729 and 6964, on signals. Nothing here was tried on a real Flux: the tests have a stand-in that holds to
the same words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from hpcsgd.errors import UsageError
from hpcsgd.launch.asking import ask, plain, run
from hpcsgd.launch.scheduler import Phase, QueuedJob, Scheduler

JOB_ID = re.compile(r"[ƒf]([1-9A-HJ-NP-Za-km-z]+)")
"""A job in base 58, as Flux prints it; ``f`` is as good as the letter that not every terminal has."""

PHASES: dict[str, Phase] = {
    **dict.fromkeys(("PENDING", "DEPEND", "PRIORITY", "SCHED"), "waiting"),
    **dict.fromkeys(("RUNNING", "RUN", "CLEANUP"), "running"),
    "COMPLETED": "completed",
    "CANCELED": "cancelled",
}


class Flux(Scheduler):
    """flux-core 0.50 and later."""

    title = "Flux"
    sender = "flux batch"
    template = "job.flux.j2"
    suffix = ".flux"
    job = "$job"
    launchers = ("flux",)
    options = {"account": "--bank=", "queue": "--queue=", "constraint": "--requires="}
    has_arrays = False
    restarts = None
    no_restarts = (
        "Flux puts no job back into the queue: leave it out; hpcsgd resubmit --failed sends again what was stopped"
    )
    variables = {
        "FLUX_JOB_ID": "the job that flux run started, within the one of the script, which has none",
    }

    def output(self, text: str, *, is_array: bool) -> str:
        """With Flux's own places."""
        return text.replace("{name}", "{{name}}").replace("{job}", "{{id}}")

    def submit(self, script: Path, options: Sequence[str] = (), cwd: Path | None = None) -> str:
        """By flux batch."""
        answer = run(["flux", "batch", *options, str(script)], cwd)
        ids = [found[1] for line in plain(answer.stdout).splitlines() if (found := JOB_ID.fullmatch(line.strip()))]
        if not ids:
            said = " ".join(plain(answer.stdout + answer.stderr).split())
            raise UsageError(
                f"flux batch took the script, but gave no id of a job: {said or 'it said nothing'}; see flux jobs"
            )
        return f"f{ids[-1]}"

    def check(self, script: Path) -> str:
        """Whether flux batch can read the script."""
        run(["flux", "batch", "--dry-run", str(script)], None)
        return "flux batch can read it; whether a queue takes it is only known when it is sent"

    def queue(self, ids: Iterable[str]) -> dict[str, QueuedJob] | None:
        """All of the user's jobs that Flux remembers."""
        answer = ask(["flux", "jobs", "-a", "-n", "--color=never", "--format={id.f58}|{status}|{exception.note}"])
        jobs = {}
        for line in (answer or "").splitlines():
            name, _, rest = line.strip().partition("|")
            state, _, note = rest.partition("|")
            if found := JOB_ID.fullmatch(name):
                jobs[f"f{found[1]}"] = QueuedJob(state, note, PHASES.get(state, "ended"), self.title)
        return None if answer is None else jobs

    def after(self, job: str) -> list[str]:
        """A dependency of flux batch."""
        return [f"--dependency=afterany:{job}"]


FLUX = Flux()
