"""Scripts run by Bash, with programs that stand in for the launcher and for Slurm."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcsgd.launch.script import Job, Point, Stage, render
from hpcsgd.launch.site import SiteProfile
from tests.single.launch.fakes import Fakes

TIMEOUT_SECONDS = 60
JOB = Job("tiny", "hpcsgd submit x", 1, 2, ("tiny.yaml",))
SITE = SiteProfile("x", 2, cpus_per_task=3, exports={"OMP_NUM_THREADS": "$SLURM_CPUS_PER_TASK", "MINE": "a b"})
SLURM = {"SLURM_JOB_ID": "12", "SLURM_JOB_NODELIST": "n1", "SLURM_CPUS_PER_TASK": "3", "SLURM_JOB_NUM_NODES": "1"}
LAUNCHER = """#!{python}
import signal, time
def got(number, frame):
    global stop
    stop = True
stop = False
signal.signal(signal.SIGUSR1, got)
open("{directory}/ready", "w").close()
while not stop:
    time.sleep(0.01)
time.sleep(0.3)
print("the ranks have saved", flush=True)
raise SystemExit(75)
"""
"""A launcher that takes its time to end after the signal."""


def start(fakes: Fakes, script: str, **extra: str) -> subprocess.Popen[str]:
    """Start a script as slurmd would."""
    path = Path("job.sbatch")
    path.write_text(script)
    environment = {"PATH": f"{fakes.directory}:/usr/bin:/bin", "HOME": os.environ.get("HOME", "/")} | SLURM | extra
    return subprocess.Popen(
        ["bash", str(path)], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def run(fakes: Fakes, script: str, **extra: str) -> tuple[int, str]:
    """Run a script to its end: its exit code and output."""
    job = start(fakes, script, **extra)
    output, _ = job.communicate(timeout=TIMEOUT_SECONDS)
    return job.returncode, output


@pytest.fixture
def programs(fakes: Fakes) -> Fakes:
    """srun ends well, and the log says so; nothing is requeued for real."""
    fakes.add("srun", 'echo "threads $OMP_NUM_THREADS cores $SRUN_CPUS_PER_TASK mine $MINE"')
    fakes.add("scontrol")
    fakes.add("hpcsgd", "echo completed")
    return fakes


def test_a_job_that_ends_well(programs: Fakes) -> None:
    code, output = run(programs, render(SITE, JOB))
    assert code == 0, output
    assert "threads 3 cores 3 mine a b" in output
    assert programs.calls() == [
        "srun --kill-on-bad-exit=1 --wait=60 hpcsgd train tiny.yaml --run_dir runs/tiny-12 --resume auto",
        "hpcsgd status --word runs/tiny-12",
    ]


@pytest.mark.parametrize(
    ("code", "state", "restarts", "ended", "requeued"),
    [
        (75, "preempted", "", 75, True),
        (75, "preempted", "19", 75, True),
        (75, "preempted", "20", 75, False),
        # srun of Slurm 22.05: the ranks that had not ended yet were ended with the first.
        (143, "preempted", "", 75, True),
        (137, "running", "", 137, False),
        # srun could start no rank: the log is as it was before.
        (0, "preempted", "1", 75, True),
        (0, "none", "", 1, False),
        (0, "running", "", 1, False),
        # The log cannot be asked: the launcher's code is all there is.
        (0, "", "", 0, False),
        (2, "preempted", "", 2, False),
        (1, "failed", "", 1, False),
    ],
)
def test_what_becomes_of_a_job(
    programs: Fakes, code: int, state: str, restarts: str, ended: int, requeued: bool
) -> None:
    programs.add("srun", f"exit {code}")
    programs.add("hpcsgd", f"echo {state}" if state else "exit 127")
    extra = {"SLURM_RESTART_COUNT": restarts} if restarts else {}
    found, output = run(programs, render(SITE, JOB), **extra)
    assert found == ended, output
    assert programs.calls("scontrol") == (["scontrol requeue 12"] if requeued else [])


def test_a_run_without_a_log_is_not_asked_for_it(programs: Fakes) -> None:
    programs.add("hpcsgd", "echo none")
    assert run(programs, render(SITE, dataclasses.replace(JOB, logged=False)))[0] == 0
    assert not programs.calls("hpcsgd")


def test_an_element_of_an_array_runs_its_point_and_is_requeued_alone(programs: Fakes) -> None:
    points = (Point("d/0", ("--seed=0",)), Point("d/1", ("--seed=1", "--x=a b")))
    programs.add("srun", 'printf "[%s]" "$@"; exit 75')
    element = {"SLURM_ARRAY_JOB_ID": "11", "SLURM_ARRAY_TASK_ID": "1"}
    script = render(SITE, dataclasses.replace(JOB, points=points))
    code, output = run(programs, script, **element)
    assert code == 75
    assert "[train][tiny.yaml][--seed=1][--x=a b][--run_dir][d/1][--resume][auto]" in output
    assert programs.calls("scontrol") == ["scontrol requeue 11_1"]
    code, output = run(programs, script, **element | {"SLURM_ARRAY_TASK_ID": "2"})
    assert code == 2 and "there is no point 2" in output


def test_a_job_that_cannot_be_requeued_says_so(programs: Fakes) -> None:
    programs.add("srun", "exit 75")
    programs.add("scontrol", "exit 1")
    code, output = run(programs, render(SITE, JOB))
    assert code == 75 and "cannot be requeued" in output


@pytest.mark.parametrize("launcher", ["srun", "mpirun", "ibrun"])
def test_usr1_is_passed_on_and_the_launcher_waited_for(programs: Fakes, launcher: str) -> None:
    program = programs.directory / ("real-launcher" if launcher == "ibrun" else launcher)
    program.write_text(LAUNCHER.format(python=sys.executable, directory=programs.directory))
    program.chmod(0o755)
    if launcher == "ibrun":
        # A shell script, as ibrun is: it does nothing about signals, and starts a program that does.
        programs.add("ibrun", f"{program}; exit $?")
    job = start(programs, render(dataclasses.replace(SITE, launcher=launcher), JOB))  # type: ignore[arg-type]
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (programs.directory / "ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(job.pid, signal.SIGUSR1)
    output, _ = job.communicate(timeout=TIMEOUT_SECONDS)
    assert job.returncode == 75, output
    assert "the ranks have saved" in output
    assert programs.calls("scontrol") == ["scontrol requeue 12"]


def test_data_goes_to_the_nodes_and_is_taken_away(programs: Fakes, tmp_path: Path) -> None:
    (tmp_path / "my data").mkdir()
    (tmp_path / "my data" / "images").write_text("x")
    programs.add("srun", 'shift 4\ncase "$1" in mkdir|cp|rm) exec "$@";; esac\nls -R "$HPCSGD_DATA"')
    site = dataclasses.replace(SITE, node_local=f"{tmp_path}/$SLURM_JOB_NODELIST")
    script = render(site, dataclasses.replace(JOB, stage=Stage("mnist", str(tmp_path / "my data"))))
    # The ranks' srun has two options of its own, the others four.
    script = script.replace("--kill-on-bad-exit=1 --wait=60", "--kill-on-bad-exit=1 --wait=60 --a --b")
    code, output = run(programs, script)
    assert code == 0, output
    assert f"{tmp_path}/n1/hpcsgd-12/mnist:\nimages" in output
    assert list((tmp_path / "n1").iterdir()) == []
    assert "--nodes=1 --ntasks=1 --ntasks-per-node=1 --kill-on-bad-exit=1 mkdir -p" in programs.calls("srun")[0]
