"""What is said to PBS, and what its answers mean."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hpcsgd.cli import main
from hpcsgd.errors import UsageError
from hpcsgd.launch.pbs import PBS, walltime
from hpcsgd.launch.script import Job, Point, render
from hpcsgd.launch.site import SiteProfile, load_site
from tests.single.launch.fake_runs import make_run
from tests.single.launch.fakes import Fakes
from tests.single.launch.test_job_script import LAUNCHER

ROOT = Path(__file__).resolve().parents[3]
HERE = ["--site", "generic_pbs"]
QSUB = """last="$(cat "{directory}/last" 2>/dev/null || echo 100)"
echo "$((last + 1))" > "{directory}/last"
[[ " $* " == *" -J "* ]] && echo "$((last + 1))[].server" || echo "$((last + 1)).server"
"""
QSTAT = """Job Id: 12.server
    Job_Name = x
    job_state = R
    substate = 42
    comment = Job run at Mon Jan 01 on (n1:ncpus=4) with a very long tail that the
\tcommand wraps
Job Id: 13[2].server.site
    job_state = Q
    comment = Not Running: Insufficient amount of resource: ngpus
Job Id: 14.server
    job_state = F
    substate = 92
    Exit_status = 0
Job Id: 15.server
    job_state = F
    substate = 91
    Exit_status = 271
Job Id: 16.server
    job_state = F
    substate = 93
    Exit_status = 271
qstat: 99.server Unknown Job Id
"""


def add_qsub(fakes: Fakes) -> None:
    """A qsub that gives out 101, 102, ... with a server."""
    fakes.add("qsub", QSUB.format(directory=fakes.directory))


@pytest.mark.parametrize(
    ("printed", "job"),
    [
        ("55.polaris-pbs-01.hsn.cm", "55"),
        ("55[].server", "55[]"),
        ("55", "55"),
        ("Budget: 12.5 hours\\n55.server\\nsee 1.2.3/help", "55"),
    ],
)
def test_the_id_is_found_in_what_qsub_prints(fakes: Fakes, printed: str, job: str) -> None:
    fakes.add("qsub", f"printf '{printed}\\n'")
    assert PBS.submit(Path("x.pbs"), ["-W", "depend=afterany:1"]) == job
    assert fakes.calls() == ["qsub -W depend=afterany:1 x.pbs"]


def test_refusals_are_one_line(fakes: Fakes) -> None:
    with pytest.raises(UsageError, match="there is no qsub here"):
        PBS.submit(Path("x.pbs"))
    fakes.add("qsub", "echo 'qsub: Account_Name is required to be set.' >&2; exit 173")
    with pytest.raises(UsageError, match=r"^qsub refused: Account_Name is required to be set\.$"):
        PBS.submit(Path("x.pbs"))
    fakes.add("qsub", "echo queued")
    with pytest.raises(UsageError, match="gave no id of a job: queued; see qstat"):
        PBS.submit(Path("x.pbs"))
    with pytest.raises(UsageError, match="PBS cannot be asked whether it would take a job"):
        PBS.check(Path("x.pbs"))


@pytest.mark.parametrize("code", [0, 153, 35])
def test_states_of_jobs(fakes: Fakes, code: int) -> None:
    assert PBS.queue(["12"]) is None
    fakes.add("qstat", f"cat <<'E'\n{QSTAT}E\nexit {code}")
    found = PBS.queue(["12", "13[2]", "14", "15", "16", "99"])
    assert found is not None
    assert {job: (state.phase, state.ending) for job, state in found.items()} == {
        "12": ("running", "PBS: R"),
        "13[2]": ("waiting", "PBS: Q"),
        "14": ("completed", ""),
        "15": ("cancelled", "PBS: exit status 271"),
        "16": ("ended", "PBS: exit status 271"),
    }
    assert found["12"].reason.endswith("that thecommand wraps")
    assert found["13[2]"].reason == "Not Running: Insufficient amount of resource: ngpus"
    assert fakes.calls() == ["qstat -x -f 12 13[2] 14 15 16 99"]


def test_a_server_that_keeps_no_history_or_does_not_answer(fakes: Fakes) -> None:
    fakes.add("qstat", "[[ $1 == -x ]] && exit 154; echo 'Job Id: 12.s'; echo '    job_state = R'")
    assert list(PBS.queue(["12"]) or {}) == ["12"]
    assert PBS.queue([]) == {}
    fakes.add("qstat", "echo 'Connection refused' >&2; exit 111")
    assert PBS.queue(["12"]) is None


def test_an_array_is_sent_in_ranges() -> None:
    assert PBS.parts([0, 1, 2, 4, 6, 7]) == [(0, 1, 2), (4,), (6, 7)]
    assert PBS.elements((0, 1, 2), whole=True, limit=2) == ["-J", "0-2", "-W", "max_run_subjobs=2"]
    # PBS takes no range of one number.
    assert PBS.elements((4,), whole=False, limit=2) == ["-v", "HPCSGD_POINT=4"]
    assert (PBS.element("12[]", 4), PBS.element("13", 4)) == ("12[4]", "13")


def test_times_and_outputs() -> None:
    assert walltime(93784) == "26:03:04"
    assert PBS.output("d/{job}.out", is_array=True) == "d/" and PBS.output("{name}-{job}.out", is_array=False) == ""


def test_every_variable_of_pbs_stands_in_one_place() -> None:
    pattern = re.compile(r"\bPBS_[A-Z_]+\b")
    files = [*(ROOT / "slurm").rglob("*.j2"), *(ROOT / "slurm" / "sites").glob("*.toml")]
    assert set(pattern.findall("".join(path.read_text() for path in files))) == set(PBS.variables)


def test_a_sweep_is_an_array_and_what_failed_of_it_is_sent_again(
    fakes: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    add_qsub(fakes)
    words = ["sweep", "tiny.yaml", *HERE, "--tasks_per_node", "1", "--seeds", "4", "--max_running", "2", "-o", "s"]
    assert main([*words, "--submit"]) == 0
    assert fakes.calls() == ["qsub -J 0-3 -W max_run_subjobs=2 s/sweep.pbs"]
    script = Path("s/sweep.pbs").read_text()
    assert "#PBS -J" not in script and "`qsub -J 0-3`" in script and "#PBS -o s/\n" in script and "#PBS -r y" in script
    ids = [entry["ids"] for entry in json.loads(Path("s/jobs.json").read_text())["jobs"]]
    assert ids == [[f"101[{task}]"] for task in range(4)]
    for seed, status in enumerate(("preempted", "completed", "preempted", "failed")):
        make_run(Path(f"s/seed-{seed}"), status, words=[f"--seed={seed}", "--global_batch_size=null"])
    fakes.add("qstat", "exit 153")
    capsys.readouterr()
    assert main(["resubmit", "--failed", "s"]) == 0
    assert capsys.readouterr().out.splitlines() == ["sent job 102: seed-0", "sent job 103[]: 2 runs"]
    assert fakes.calls("qsub")[1:] == [
        "qsub -v HPCSGD_POINT=0 s/sweep.pbs",
        "qsub -J 2-3 -W max_run_subjobs=2 s/sweep.pbs",
    ]
    ids = [entry["ids"][-1] for entry in json.loads(Path("s/jobs.json").read_text())["jobs"]]
    assert ids == ["102", "101[1]", "103[2]", "103[3]"]


def test_status_asks_the_scheduler_that_the_job_was_sent_to(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    add_qsub(fakes)
    assert main(["scale", "tiny.yaml", "--gpus", "1,2", *HERE, "-o", "s", "--submit", "--chain"]) == 0
    assert fakes.calls("qsub") == ["qsub s/gpus-1.pbs", "qsub -W depend=afterany:101 s/gpus-2.pbs"]
    fakes.add("squeue", "echo '101|RUNNING|None'")
    text = (
        "Job Id: 101.s\n    job_state = F\n    substate = 93\n    Exit_status = -29\nJob Id: 102.s\n    job_state = Q\n"
    )
    fakes.add("qstat", f"printf '{text}'")
    capsys.readouterr()
    assert main(["status", "s"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [
        "s/gpus-1",
        "failed",
        "101",
        *"PBS: exit status -29; it never began: see its output".split(),
    ]
    assert lines[2].split() == ["s/gpus-2", "pending", "102"]
    assert fakes.calls("qstat") == ["qstat -x -f 101 102"]
    assert main(["scale", "tiny.yaml", "--gpus", "1,2", *HERE, "-o", "s", "--submit"]) == 0
    assert "s/gpus-2: in the queue already\nsent job 103: gpus-1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--check"], "PBS cannot be asked"),
        (["--partition", "x"], "--partition is given, but PBS has none: it has --account, --queue"),
        (["--launcher", "srun"], "--launcher srun at site generic_pbs: launcher is 'srun': it must be of PBS's"),
        (["--stage", "."], "--stage copies published data sets"),
    ],
)
def test_what_pbs_cannot_is_refused_by_name(
    fakes: Fakes, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["submit", "tiny.yaml", *HERE, "--nodes", "1", *words]) == 2
    assert said in capsys.readouterr().err


def test_an_array_of_jobs_that_must_not_be_run_again_is_refused(
    fakes: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "slurm" / "sites" / "generic_pbs.toml").read_text().replace("\n\n[", "\nmax_restarts = 0\n\n[")
    Path("my.toml").write_text(text)
    assert load_site("my.toml").max_restarts == 0
    assert main(["submit", "tiny.yaml", "--site", "my.toml", "--nodes", "1"]) == 0
    assert "#PBS -r n" in capsys.readouterr().out
    assert main(["sweep", "tiny.yaml", "--site", "my.toml", "--seeds", "2"]) == 2
    assert "PBS takes an array only of jobs that it may run again" in capsys.readouterr().err


def run(fakes: Fakes, script: str, **extra: str) -> tuple[int, str]:
    """Run a script as PBS would: its exit code and output."""
    path, nodes = fakes.directory / "job.pbs", fakes.directory / "nodes"
    path.write_text(script)
    nodes.write_text("n2\nn1\nn1\n")
    job = {"PBS_JOBID": "12.server", "PBS_NODEFILE": str(nodes), "PBS_O_WORKDIR": str(Path.cwd())}
    done = subprocess.run(
        ["bash", str(path)], cwd="/", env={"PATH": f"{fakes.directory}:/usr/bin:/bin"} | job | extra, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_the_script_asks_the_ranks_to_save_itself(fakes: Fakes) -> None:
    mpiexec = fakes.directory / "mpiexec"
    mpiexec.write_text(LAUNCHER.format(python=sys.executable, directory=fakes.directory))
    mpiexec.chmod(0o755)
    site = SiteProfile("x", 1, scheduler="pbs", launcher="mpiexec")
    # One second is left of the limit.
    code, output = run(fakes, render(site, Job("tiny", "hpcsgd submit x", 1, 1, ("tiny.yaml",), time="2:01")))
    assert code == 75, output
    assert "the ranks have saved" in output and "job 12, on n1,n2, " in output
    assert "job 12 was stopped and saved; PBS lets no user put it back: hpcsgd resubmit --failed" in output


def test_an_element_is_told_by_the_array_or_by_a_variable(fakes: Fakes) -> None:
    fakes.add("mpiexec", 'echo "$HPCSGD_JOB"; printf "[%s]" "$@"')
    site = SiteProfile("x", 1, scheduler="pbs", launcher="mpiexec")
    points = (Point("d/0", ("--seed=0",)), Point("d/1", ("--seed=1",)))
    script = render(site, Job("tiny", "hpcsgd sweep x", 1, 1, ("tiny.yaml",), points=points, logged=False))
    for extra in ({"PBS_ARRAY_INDEX": "1", "PBS_JOBID": "12[1].s"}, {"HPCSGD_POINT": "1", "PBS_JOBID": "12[1].s"}):
        code, output = run(fakes, script, **extra)
        assert code == 0, output
        assert "\n12[1]\n" in output and "[--seed=1][--run_dir][d/1][--resume][auto]" in output
    code, output = run(fakes, script)
    assert code == 2 and "there is no point none" in output
