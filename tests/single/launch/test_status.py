"""What is said of runs, from their logs, what was sent and Slurm's answers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hpcsgd.cli import main
from hpcsgd.errors import UsageError
from hpcsgd.launch.scheduler import QueuedJob
from hpcsgd.launch.slurm import queued_job
from hpcsgd.launch.status import RESUBMITTED, judge, run_states
from hpcsgd.record.study_file import Entry, Study
from tests.single.launch.fake_runs import make_run
from tests.single.launch.fakes import Fakes


def queued(state: str, reason: str = "None") -> QueuedJob:
    return queued_job(state, reason)


@pytest.mark.parametrize(
    ("status", "job", "in_queue", "answers", "expected"),
    [
        ("completed", "1", queued("RUNNING"), True, ("completed", "")),
        ("diverged", "1", None, True, ("diverged", "")),
        ("running", "1", queued("RUNNING"), True, ("running", "")),
        (None, "1", queued("RUNNING"), True, ("running", "no log yet")),
        (None, "1", queued("PENDING", "Resources"), True, ("pending", "Resources")),
        ("preempted", "1", queued("PENDING", "BeginTime"), True, ("pending", "BeginTime; stopped and saved")),
        ("running", "1", queued("REQUEUED"), True, ("pending", "stopped and saved")),
        ("preempted", "1", None, True, ("preempted", "")),
        ("preempted", "", None, False, ("preempted", "")),
        ("failed", "1", queued("FAILED"), True, ("failed", "Slurm: FAILED")),
        ("running", "1", None, True, ("killed", "")),
        ("running", "1", queued("TIMEOUT"), True, ("killed", "Slurm: TIMEOUT")),
        ("running", "1", queued("COMPLETED"), True, ("killed", "")),
        ("running", "1", queued("CANCELLED"), True, ("cancelled", "")),
        (None, "1", queued("CANCELLED"), True, ("cancelled", "")),
        (None, "1", queued("NODE_FAIL"), True, ("failed", "Slurm: NODE_FAIL; it never began: see its output")),
        (None, "1", None, True, ("failed", "it never began: see its output")),
        ("running", "1", None, False, ("running or killed", "")),
        (None, "1", None, False, ("running or killed", "")),
        ("running", "", None, True, ("running or killed", "")),
        (None, "", None, True, ("not sent", "")),
    ],
)
def test_a_state_from_what_is_known(
    status: str | None, job: str, in_queue: QueuedJob | None, answers: bool, expected: tuple[str, str]
) -> None:
    assert judge(status, job, in_queue, answers) == expected


def study(directory: Path, entries: tuple[Entry, ...]) -> Study:
    directory.mkdir(parents=True, exist_ok=True)
    made = Study(directory, ("hpcsgd", "scale"), str(Path.cwd()), entries)
    made.save()
    return made


def test_a_directory_of_runs(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("done", "goes", "waits", "dead", "new")
    entries = tuple(Entry(name, f"{name}.sbatch", None, (str(n),)) for n, name in enumerate(names[:4], start=1))
    study(Path("s"), (*entries, Entry("new", "new.sbatch")))
    make_run(Path("s/done"), "completed", steps=16, jobs=("1",), accuracy=0.875)
    make_run(Path("s/goes"), "running", jobs=("2", "2"))
    make_run(Path("s/dead"), "running", jobs=("4",))
    make_run(Path("s/by_hand"), "preempted", jobs=("9",))
    fakes.add("squeue", "printf '2|RUNNING|None\\n3|PENDING|Priority\\n4|NODE_FAIL|None\\n'")
    states = {state.path.name: state for state in run_states(Path("s"))}
    assert {name: state.state for name, state in states.items()} == {
        "done": "completed",
        "goes": "running",
        "waits": "pending",
        "dead": "killed",
        "new": "not sent",
        "by_hand": "preempted",
    }
    assert states["by_hand"].job == "9" and states["by_hand"].study is None
    assert states["done"].progress == "16/16" and states["done"].result == "accuracy 87.50 %"
    assert states["goes"].progress == "3/16 (1 resumed)" and states["goes"].ranks == "2"
    assert main(["status", "s"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "state", "job", "ranks", "steps", "test", "note"]
    assert lines[1].split()[:3] == ["s/by_hand", "preempted", "9"]
    assert any(line.startswith("s/dead") and line.endswith("Slurm: NODE_FAIL") for line in lines)
    assert lines[-1].startswith("6 runs: ")


def test_accounts_say_what_the_queue_has_forgotten(fakes: Fakes) -> None:
    make_run(Path("s/run"), "running", jobs=("12_3",))
    fakes.add("squeue")
    assert run_states(Path("s"))[0].state == "killed"
    fakes.add("sacct", "echo '12_3|TIMEOUT|0:0'")
    assert run_states(Path("s"))[0].note == "Slurm: TIMEOUT"
    fakes.add("sacct", "echo '12_3|CANCELLED by 0|0:0'")
    assert run_states(Path("s"))[0].state == "cancelled"
    assert set(RESUBMITTED) == {"failed", "killed", "preempted"}


def test_a_local_run_is_looked_for_on_this_machine(fakes: Fakes) -> None:
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    make_run(Path("s/goes"), "running")
    make_run(Path("s/gone"), "running", pid=ended.pid)
    make_run(Path("s/elsewhere"), "running", host="another")
    states = {state.path.name: state.state for state in run_states(Path("s"))}
    assert states == {"goes": "running", "gone": "killed", "elsewhere": "running or killed"}


def test_a_log_that_cannot_be_read_is_named(fakes: Fakes) -> None:
    Path("s/run").mkdir(parents=True)
    Path("s/run/run.h5").write_text("no log")
    state = run_states(Path("s"))[0]
    assert state.state == "unreadable" and "not a run log" in state.note


def test_runs_behind_links_are_there_once_and_what_is_broken_is_named(
    fakes: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(Path("runs/a"), "completed")
    make_run(Path("scratch/b"), "diverged", pid=-1)
    Path("runs/b").symlink_to("../scratch/b")
    Path("runs/again").symlink_to("a")
    Path("runs/loop").symlink_to("..")
    Path("runs/gone").symlink_to("/no/such")
    Path("runs/a/jobs.json").write_text('{"version": 1, "command": 3}')
    states = run_states(Path("runs"))
    assert [(str(state.path), state.state) for state in states] == [("runs/a", "completed"), ("scratch/b", "diverged")]
    said = capsys.readouterr().err
    assert "runs/gone: a link to /no/such, which is not there" in said
    assert "runs/a/jobs.json is no record of jobs" in said


def test_what_is_no_directory_of_runs(fakes: Fakes) -> None:
    with pytest.raises(UsageError, match="there is no directory no"):
        run_states(Path("no"))
    with pytest.raises(UsageError, match="no runs in it or below"):
        run_states(Path("."))
    Path("jobs.json").write_text('{"version": 9}')
    with pytest.raises(UsageError, match="version 9"):
        run_states(Path("."))
    Path("jobs.json").write_text("{}")
    with pytest.raises(UsageError, match="is no record of jobs"):
        run_states(Path("."))


@pytest.mark.parametrize("status", ["completed", "preempted", "running"])
def test_one_run_in_a_word(fakes: Fakes, capsys: pytest.CaptureFixture[str], status: str) -> None:
    make_run(Path("run"), status)
    assert main(["status", "--word", "run"]) == 0
    assert capsys.readouterr().out == f"{status}\n"


def test_no_run_in_a_word(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--word", "run"]) == 0
    assert capsys.readouterr().out == "none\n"
    Path("run.h5").write_text("no log")
    assert main(["status", "--word", "."]) == 2
    assert "cannot be read as a run log" in capsys.readouterr().err
