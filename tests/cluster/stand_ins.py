"""Programs that stand in for PBS's and Flux's: neither can be had from Debian or PyPI.

They take what the real ones are documented to take and refuse all else, run a job's script at once, in the environment
and the directory that the real ones give it, and start ranks by mpirun. What only a scheduler can do (queues, several
nodes, limits of time) they have not. Each is this file, called by the name of what it stands in for; they note the jobs
in the directory ``HPCSGD_STAND_IN``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

STATE = Path(os.environ.get("HPCSGD_STAND_IN", "."))
BASE = {
    name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "PYTHONPATH", "HPCSGD_STAND_IN") if name in os.environ
}
BASE |= {name: value for name, value in os.environ.items() if name.startswith("OMPI_ALLOW_RUN")}
CHUNK = re.compile(r"\d+(:(ncpus|ngpus|mpiprocs)=\d+|:\w+=\w+)*")


def refuse(program: str, problem: str) -> int:
    """Say what is wrong."""
    print(f"{program}: {problem}", file=sys.stderr)
    return 2


def directives(script: Path, start: str) -> list[list[str]]:
    """The words of each directive; they stand together, before the first command."""
    lines = script.read_text().splitlines()
    found = [number for number, line in enumerate(lines) if line.startswith(start)]
    first_command = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert found == list(range(found[0], found[-1] + 1)) and found[-1] < first_command, "directives stand together"
    return [shlex.split(lines[number].removeprefix(start)) for number in found]


def new_job(name: str, script: Path) -> tuple[int, Path]:
    """A number, and the script as the scheduler keeps it: a copy."""
    number = len(list(STATE.glob("*.script"))) + 1
    copy = STATE / f"{number}.script"
    copy.write_bytes(script.read_bytes())
    return number, copy


def run_script(copy: Path, cwd: Path, output: Path, extra: dict[str, str]) -> int:
    """Run a script to its end; its exit code."""
    with output.open("ab") as file:
        return subprocess.run(
            ["/bin/bash", str(copy)], cwd=cwd, env=BASE | extra, stdin=subprocess.DEVNULL, stdout=file,
            stderr=subprocess.STDOUT, check=False,
        ).returncode  # fmt: skip


def note(job: str, **values: object) -> None:
    """Remember a job."""
    (STATE / f"{job}.json").write_text(json.dumps(values))


def qsub(words: list[str]) -> int:
    """Take a script, and run it: one job, or each element of an array."""
    parser = argparse.ArgumentParser("qsub", allow_abbrev=False, add_help=False)
    for option in ("-A", "-N", "-S", "-q", "-o", "-k", "-J"):
        parser.add_argument(option)
    parser.add_argument("-j", choices=["oe", "eo", "n"])
    parser.add_argument("-r", choices=["y", "n"], default="y")
    parser.add_argument("-V", action="store_true")
    for option in ("-l", "-v", "-W"):
        parser.add_argument(option, action="append", default=[])
    parser.add_argument("script", type=Path, nargs="?")
    given = parser.parse_args(words)
    head = [word for line in directives(given.script, "#PBS ") for word in line]
    job = parser.parse_args([*head, *words])
    resources = dict(resource.split("=", 1) for resource in job.l)
    if not CHUNK.fullmatch(resources.get("select", "")) or not re.fullmatch(
        r"\d\d:\d\d:\d\d", resources.get("walltime", "")
    ):
        return refuse("qsub", f"illegal -l value {job.l}")
    number, copy = new_job(job.N, given.script)
    name, elements = f"{number}", [None]
    if job.J:
        first, last = map(int, job.J.split("-"))
        if not first < last or job.r == "n":
            return refuse("qsub", "illegal -J value, or cannot submit non-rerunable Array Job")
        name, elements = f"{number}[]", list(range(first, last + 1))  # type: ignore[list-item]
    nodes = STATE / f"{number}.nodes"
    nodes.write_text("n1\n" * int(resources["select"].partition(":")[0]))
    directory = Path(job.o) if job.o else Path()
    for element in elements:
        own = name.replace("[]", f"[{element}]")
        extra = {"PBS_JOBID": f"{own}.server", "PBS_O_WORKDIR": str(Path.cwd()), "PBS_NODEFILE": str(nodes)}
        extra |= {"PBS_ARRAY_INDEX": str(element)} if element is not None else {}
        extra |= dict(variable.split("=", 1) for variable in job.v)
        # A job of PBS's begins in the home directory.
        code = run_script(copy, Path("/"), directory.absolute() / f"{own}.server.OU", extra)
        note(own, job_state="F", substate=92 if code == 0 else 93, Exit_status=code)
    print(f"{name}.server")
    return 0


def qstat(words: list[str]) -> int:
    """Print jobs in full."""
    if words[:2] != ["-x", "-f"]:
        return refuse("qstat", "illegal option")
    unknown = False
    for job in words[2:]:
        path = STATE / f"{job}.json"
        if path.exists():
            print(f"Job Id: {job}.server")
            print("".join(f"    {name} = {value}\n" for name, value in json.loads(path.read_text()).items()))
        else:
            unknown = True
            print(f"qstat: Unknown Job Id {job}", file=sys.stderr)
    return 153 if unknown else 0


def mpiexec(words: list[str]) -> int:
    """MPICH's: the ranks, by mpirun."""
    parser = argparse.ArgumentParser("mpiexec", allow_abbrev=False, add_help=False)
    parser.add_argument("-n", type=int, required=True)
    parser.add_argument("-ppn", type=int, required=True)
    parser.add_argument("--hostfile", type=Path, required=True)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    job = parser.parse_args(words)
    hosts = job.hostfile.read_text().split()
    if job.n > job.ppn * len(hosts):
        return refuse("mpiexec", f"{job.n} ranks on {len(hosts)} nodes")
    return mpirun(job.n, job.command)


def mpirun(ranks: int, command: list[str]) -> int:
    """Become mpirun."""
    os.execvp("mpirun", ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks), *command])


def flux(words: list[str]) -> int:
    """The commands of Flux that the scripts and hpcsgd use."""
    return {"batch": flux_batch, "run": flux_run, "getattr": flux_getattr, "jobs": flux_jobs}[words[0]](words[1:])


def flux_batch(words: list[str]) -> int:
    """Take a script, and run it."""
    parser = argparse.ArgumentParser("flux batch", allow_abbrev=False, add_help=False)
    for option in ("job-name", "bank", "queue", "requires", "time-limit", "output", "dependency"):
        parser.add_argument(f"--{option}")
    for option in ("nodes", "nslots", "cores-per-slot", "gpus-per-slot"):
        parser.add_argument(f"--{option}", type=int)
    parser.add_argument("--setopt", action="append")
    for option in ("exclusive", "dry-run"):
        parser.add_argument(f"--{option}", action="store_true")
    parser.add_argument("script", type=Path, nargs="?")
    given = parser.parse_args(words)
    head = [word for line in directives(given.script, "#flux: ") for word in line]
    job = parser.parse_args([*head, *words])
    if job.dry_run:
        return 0
    number, copy = new_job(job.job_name, given.script)
    name = f"ƒ{number}"
    output = Path(job.output.replace("{{id}}", name).replace("{{name}}", job.job_name)).absolute()
    code = run_script(copy, Path.cwd(), output, {"FLUX_STAND_IN_JOB": name})
    note(str(number), id=name, status="COMPLETED" if code == 0 else "FAILED")
    print(name)
    return 0


def flux_run(words: list[str]) -> int:
    """The ranks, by mpirun."""
    parser = argparse.ArgumentParser("flux run", allow_abbrev=False, add_help=False)
    for option in ("nodes", "ntasks"):
        parser.add_argument(f"--{option}", type=int, required=True)
    for option in ("cores-per-task", "gpus-per-task"):
        parser.add_argument(f"--{option}", type=int)
    parser.add_argument("--setopt", action="append")
    parser.add_argument("--signal")
    parser.add_argument("--exclusive", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    job = parser.parse_args(words)
    if job.signal and not re.fullmatch(r"USR1@\d+s", job.signal):
        return refuse("flux run", f"invalid signal {job.signal}")
    return mpirun(job.ntasks, job.command)


def flux_getattr(words: list[str]) -> int:
    """What the instance of the script is told."""
    print({"jobid": os.environ["FLUX_STAND_IN_JOB"], "hostlist": "n1"}[words[0]])
    return 0


def flux_jobs(words: list[str]) -> int:
    """Print all jobs."""
    assert words == ["-a", "-n", "--color=never", "--format={id.f58}|{status}|{exception.note}"], words
    for path in sorted(STATE.glob("*.json")):
        values = json.loads(path.read_text())
        print(f"{values['id']}|{values['status']}|")
    return 0


if __name__ == "__main__":
    program = {"qsub": qsub, "qstat": qstat, "mpiexec": mpiexec, "flux": flux}[Path(sys.argv[0]).name]
    sys.exit(program(sys.argv[1:]))
