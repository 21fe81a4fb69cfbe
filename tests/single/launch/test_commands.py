"""The commands: what they write, what they send, and that a mistake leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hpcsgd.cli import main
from hpcsgd.launch.local import mpirun_options
from hpcsgd.record.study_file import Entry, Study
from hpcsgd.run.directory import Claim
from tests.single.launch.fake_runs import make_run
from tests.single.launch.fakes import Fakes

HERE = ["--site", "local_cluster"]
LOCALLY = ["--launcher", "mpirun"]
ROOT = Path(__file__).resolve().parents[3]


def files(directory: str = ".") -> list[str]:
    """All files below a directory."""
    return sorted(str(path) for path in Path(directory).rglob("*") if path.is_file() and path.name != "tiny.yaml")


def test_submit_prints_and_writes_nothing(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "tiny.yaml", *HERE, "--nodes", "2", "--time", "5", "--", "--epochs", "3"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#!/bin/bash\n# Made by: hpcsgd submit tiny.yaml --site local_cluster")
    assert "hpcsgd train tiny.yaml --epochs 3" in script
    assert "#SBATCH --time=5" in script and 'run_dir="runs/tiny-$SLURM_JOB_ID"' in script
    assert files() == [] and fakes.calls() == []


def test_submit_sends_a_run_with_a_directory_of_its_own(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    fakes.add_sbatch()
    assert main(["submit", "tiny.yaml", *HERE, "--nodes", "1", "--submit", "--", "--run_dir", "runs/a b"]) == 2
    assert "--output is" in capsys.readouterr().err and files() == []
    assert main(["submit", "tiny.yaml", *HERE, "--nodes", "1", "--submit", "--", "--run_dir", "runs/a"]) == 0
    assert capsys.readouterr().out == "sent job 101: runs/a\n"
    assert files() == ["runs/a/job.sbatch", "runs/a/jobs.json"]
    assert fakes.calls() == ["sbatch --parsable runs/a/job.sbatch"]
    assert fakes.sent(101) == Path("runs/a/job.sbatch").read_text()
    assert "run_dir=runs/a\n" in fakes.sent(101) and "--output=runs/a/slurm-%j.out" in fakes.sent(101)
    record = json.loads(Path("runs/a/jobs.json").read_text())
    assert record["jobs"] == [{"run": ".", "script": "job.sbatch", "task": None, "ids": ["101"]}]
    assert record["cwd"] == os.getcwd()
    # The directory is still a new one for training.
    assert main(["submit", "tiny.yaml", *HERE, "--nodes", "1", "--submit"]) == 0
    assert any(path.startswith("runs/tiny-2") for path in files())


def test_a_run_that_is_in_the_queue_is_not_sent_again(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    fakes.add_sbatch()
    words = ["submit", "tiny.yaml", *HERE, "--nodes", "1", "--submit", "--", "--run_dir", "r"]
    assert main(words) == 0
    fakes.add("squeue", "echo '101|PENDING|Priority'")
    assert main(words) == 2
    assert "job 101 of r is still in the queue" in capsys.readouterr().err
    fakes.add("squeue", "echo '101|TIMEOUT|None'")
    assert main(words) == 0
    assert json.loads(Path("r/jobs.json").read_text())["jobs"][0]["ids"] == ["101", "102"]


@pytest.mark.parametrize("body", [None, "echo 'sbatch: error: Invalid account' >&2; exit 1"])
@pytest.mark.parametrize(
    "words",
    [
        ["submit", "tiny.yaml", "--nodes", "1"],
        ["scale", "tiny.yaml", "--gpus", "1,2"],
        ["sweep", "tiny.yaml", "--seeds", "2"],
    ],
)
def test_a_refusal_leaves_nothing(
    fakes: Fakes, capsys: pytest.CaptureFixture[str], words: list[str], body: str | None
) -> None:
    if body is not None:
        fakes.add("sbatch", body)
    assert main([*words, *HERE, "--submit"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert ("Invalid account" if body else "there is no sbatch here") in said.err
    assert files() == [] and not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["submit", "tiny.yaml", *HERE], "submit: the following arguments are required: --nodes"),
        (["submit", "tiny.yaml", *HERE, "--nodes", "0"], "--nodes: '0' is no whole number from 1 on"),
        (["submit", "tiny.yaml", *HERE, "--nodes", "1", "--node", "2"], "unrecognized arguments: --node 2"),
        (["submit", *HERE, "--nodes", "1"], "give either a RECIPE or --doctor"),
        (["submit", "no.yaml", *HERE, "--nodes", "1"], "cannot read the recipe no.yaml"),
        (["submit", "tiny.yaml", *HERE, "--nodes", "1", "--", "--epoch", "1"], "did you mean epochs?"),
        (["submit", "tiny.yaml", *HERE, "--nodes", "40"], "80 learners cannot share 64 training samples"),
        (["submit", "tiny.yaml", *HERE, "--nodes", "1", "--tasks_per_node", "3"], "3 tasks a node cannot be"),
        (["submit", "tiny.yaml", *HERE, "--nodes", "1", "--submit", "--check"], "not allowed with argument"),
        (
            ["submit", "tiny.yaml", *HERE, "--nodes", "1", "--stage", "/d"],
            "--stage copies published data sets, but synthetic is made on the fly",
        ),
        (["scale", "tiny.yaml", "--gpus", "1,2"], "give --site S for Slurm, or --launcher mpirun"),
        (["scale", "tiny.yaml", "--gpus", "1,x", *HERE], "--gpus is '1,x'"),
        (["scale", "tiny.yaml", "--gpus", "1,3", "--mode", "weak", *HERE], "3 ranks do not fill nodes of 2"),
        (["scale", "tiny.yaml", "--gpus", "1", "--launcher", "mpirun", "--submit"], "are for Slurm: give --site"),
        (["sweep", "tiny.yaml", *HERE, "--set", "epochs=1,0"], "point --epochs=0: "),
        (["sweep", "tiny.yaml", *HERE], "needs --set KEY=VALUE"),
        (["sweep", "tiny.yaml", "--seeds", "2"], "sweep: give --site S for Slurm, or --launcher mpirun to run it here"),
        (["sweep", "tiny.yaml", "--seeds", "2", *LOCALLY, "--max_running", "1"], "--stage and --max_running are for"),
        (["sweep", "tiny.yaml", "--seeds", "2", *LOCALLY, "--nodes", "2"], "--nodes 2 is for Slurm: give --site S too"),
        (["resubmit", "."], "required: --failed"),
        (["doctor", "--", "--epochs=1"], "there is no recipe to override"),
        (["doctor", "--run_dir", "no"], "there is no directory no"),
    ],
)
def test_mistakes_are_one_message_and_nothing_is_sent(
    fakes: Fakes, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    fakes.add_sbatch()
    assert main([*words, *(["--submit"] if words[0] == "sweep" else [])]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("hpcsgd: ") and shown.err.count("\n") == 1
    assert said in shown.err
    assert fakes.calls() == [] and files() == []


def test_check_asks_slurm_and_writes_nothing(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    fakes.add_sbatch()
    assert main(["submit", "tiny.yaml", *HERE, "--nodes", "1", "--check"]) == 0
    assert main(["scale", "tiny.yaml", *HERE, "--gpus", "1,2", "--check"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "tiny.sbatch: sbatch: Job 7 to start now",
        "gpus-1.sbatch: sbatch: Job 7 to start now",
        "gpus-2.sbatch: sbatch: Job 7 to start now",
    ]
    assert all(call.startswith("sbatch --test-only ") for call in fakes.calls())
    assert files() == []


def test_the_doctor_is_sent_as_a_job(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    fakes.add_sbatch()
    assert main(["submit", "--doctor", *HERE, "--nodes", "2", "--submit", "--", "--max_bytes", "8"]) == 0
    assert capsys.readouterr().out == "sent job 101\n"
    assert "hpcsgd doctor --max_bytes 8\n" in fakes.sent(101)
    assert "scontrol" not in fakes.sent(101) and files() == []


def test_scale_writes_one_job_a_size(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", "tiny.yaml", "--gpus", "1,2,4", "--mode", "weak", *HERE, "-o", "s"]) == 0
    assert files() == ["s/gpus-1.sbatch", "s/gpus-2.sbatch", "s/gpus-4.sbatch", "s/jobs.json"]
    large = Path("s/gpus-4.sbatch").read_text()
    assert "#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=2\n" in large
    assert "hpcsgd train tiny.yaml --local_batch_size=4 --global_batch_size=null\n" in large
    assert "run_dir=s/gpus-4\n" in large
    assert "#SBATCH --nodes=1\n#SBATCH --ntasks-per-node=1\n" in Path("s/gpus-1.sbatch").read_text()
    assert "--submit sends" in capsys.readouterr().out


def test_scale_sends_what_is_neither_finished_nor_queued(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    fakes.add_sbatch()
    words = ["scale", "tiny.yaml", "--gpus", "1,2,4", "--mode", "weak", *HERE, "-o", "s", "--submit", "--chain"]
    make_run(Path("s/gpus-1"), "completed", words=["--local_batch_size=4", "--run_dir=elsewhere"])
    assert main(words) == 0
    assert fakes.calls("sbatch") == [
        "sbatch --parsable s/gpus-2.sbatch",
        "sbatch --parsable --dependency=afterany:101 s/gpus-4.sbatch",
    ]
    fakes.add("squeue", "printf '101|RUNNING|None\\n102|FAILED|None\\n'")
    capsys.readouterr()
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines() == [
        "s/gpus-1: finished already",
        "s/gpus-2: in the queue already",
        "sent job 103: gpus-4",
        "when they have run: hpcsgd figures scaling s",
    ]
    ids = [entry["ids"] for entry in json.loads(Path("s/jobs.json").read_text())["jobs"]]
    assert ids == [[], ["101"], ["102", "103"]]


def test_a_finished_run_of_another_recipe_is_not_taken_for_this_one(
    fakes: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(Path("s/gpus-1"), "completed", words=["--epochs=9"])
    assert main(["scale", "tiny.yaml", "--gpus", "1,2", "--mode", "weak", *HERE, "-o", "s"]) == 2
    assert "another configuration (epochs is 9 there, 1 here): choose another -o" in capsys.readouterr().err
    assert files("s") == ["s/gpus-1/run.h5"]


def test_what_was_sent_before_a_refusal_is_kept(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    fakes.add("sbatch", '[[ "$*" == *gpus-2* ]] && { echo "error: full" >&2; exit 1; }; echo 7')
    assert main(["scale", "tiny.yaml", "--gpus", "1,2", "--mode", "weak", *HERE, "-o", "s", "--submit"]) == 2
    assert "gpus-2.sbatch: sbatch refused: full (job 7 and those before it are sent)" in capsys.readouterr().err
    ids = [entry["ids"] for entry in json.loads(Path("s/jobs.json").read_text())["jobs"]]
    assert ids == [["7"], []]


def test_scale_here_runs_one_size_after_another(fakes: Fakes, capfd: pytest.CaptureFixture[str]) -> None:
    fakes.add("mpirun", '[[ "$*" == --version ]] && echo "mpirun (Open MPI) 5.0"; exit 0')
    words = ["scale", "tiny.yaml", "--gpus", "2,1", "--mode", "weak", "--launcher", "mpirun", "-o", "s"]
    make_run(Path("s/gpus-1"), "completed", words=["--local_batch_size=4"])
    assert main([*words, "--", "--epochs=1"]) == 0
    assert fakes.calls("mpirun")[1:] == [
        f"mpirun --oversubscribe --bind-to none -n 2 {sys.executable} -m hpcsgd train tiny.yaml --epochs=1 "
        "--local_batch_size=4 --global_batch_size=null --run_dir s/gpus-2 --resume auto"
    ]
    assert capfd.readouterr().out.splitlines() == [
        "s/gpus-1: finished already",
        "s/gpus-2: 2 ranks (2 of 2)",
        "figure and table: hpcsgd figures scaling s",
    ]
    jobs = json.loads(Path("s/jobs.json").read_text())["jobs"]
    assert jobs == [{"run": f"gpus-{n}", "script": None, "task": None, "ids": []} for n in (1, 2)]


LOCAL = ["scale", "tiny.yaml", "--gpus", "1,2", "--launcher", "mpirun", "-o", "s"]


def test_a_failed_size_is_named_and_the_rest_is_run(fakes: Fakes, capfd: pytest.CaptureFixture[str]) -> None:
    fakes.add("mpirun", '[[ "$*" == *"-n 1 "* ]] && exit 9; exit 0')
    assert main(LOCAL) == 1
    assert [call.split()[4] for call in fakes.calls("mpirun")[1:]] == ["1", "2"]
    assert "-bind-to none -n 1" in fakes.calls("mpirun")[1]
    said = capfd.readouterr()
    assert "s/gpus-1 ended with code 9" in said.err
    assert "hpcsgd: 1 of 2 sizes did not end well: gpus-1 ended with code 9; call the same again" in said.err
    assert said.out.splitlines()[-1] == "figure and table: hpcsgd figures scaling s"


def test_a_stopped_size_ends_the_study(fakes: Fakes, capfd: pytest.CaptureFixture[str]) -> None:
    fakes.add("mpirun", '[[ "$*" == --version ]] || exit 75')
    assert main(LOCAL) == 75
    assert len(fakes.calls("mpirun")) == 2
    assert "s/gpus-1 was stopped and saved; call the same again to go on" in capfd.readouterr().err


def test_the_size_that_is_left_of_a_stopped_study_is_named_by_status(
    fakes: Fakes, capfd: pytest.CaptureFixture[str]
) -> None:
    fakes.add("mpirun", '[[ "$*" == --version ]] || exit 75')
    make_run(Path("s/gpus-1"), "preempted", words=["--global_batch_size=4", "--local_batch_size=null"])
    assert main(LOCAL) == 75
    capfd.readouterr()
    assert main(["status", "s"]) == 0
    assert "2 runs: 1 preempted, 1 not begun" in capfd.readouterr().out
    assert main(["resubmit", "--failed", "s"]) == 1
    assert f"run without Slurm: call hpcsgd {' '.join(LOCAL)}" in capfd.readouterr().out


def test_a_diverged_size_is_not_run_again_and_stays_a_failure(fakes: Fakes, capfd: pytest.CaptureFixture[str]) -> None:
    fakes.add("mpirun")
    make_run(Path("s/gpus-1"), "diverged", words=["--global_batch_size=4", "--local_batch_size=null"])
    make_run(Path("s/gpus-2"), "completed", words=["--global_batch_size=4", "--local_batch_size=null"])
    assert main(LOCAL) == 1
    assert len(fakes.calls("mpirun")) == 1
    said = capfd.readouterr()
    assert said.out.splitlines()[:2] == ["s/gpus-1: diverged already", "s/gpus-2: finished already"]
    assert "hpcsgd: 1 of 2 sizes did not end well: gpus-1 diverged; " in said.err


def test_a_log_that_a_kill_left_unreadable_is_of_no_finished_run(fakes: Fakes) -> None:
    fakes.add("mpirun")
    Path("s/gpus-1").mkdir(parents=True)
    Path("s/gpus-1/run.h5").write_bytes(b"\x89HDF")
    assert main(LOCAL) == 0
    assert len(fakes.calls("mpirun")) == 3


def test_a_stop_is_passed_on_once_to_save_and_twice_to_end(fakes: Fakes) -> None:
    body = "trap 'echo USR1; [[ $TWICE ]] || exit 75' USR1; echo up; for _ in {1..600}; do sleep 0.1; done"
    fakes.add("waiting", body)
    code = "import sys; from hpcsgd.launch.local import run_to_end; sys.exit(run_to_end(['waiting']))"
    for twice, expected in (("", 75), ("1", 128 + signal.SIGTERM)):
        environment = {**os.environ, "TWICE": twice, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "USR1\n"
            if twice:
                process.send_signal(signal.SIGINT)
            assert process.wait() == expected


def test_more_ranks_than_cores_are_warned_of(fakes: Fakes, capfd: pytest.CaptureFixture[str]) -> None:
    fakes.add("mpirun")
    many = len(os.sched_getaffinity(0)) + 1
    words = ["--", "--data.synthetic_train_samples=4096"]
    assert main(["scale", "tiny.yaml", "--gpus", str(many), "--mode", "weak", "--launcher", "mpirun", *words]) == 0
    assert f"{many} ranks share {many - 1} cores" in capfd.readouterr().err


def test_sweep_here_runs_one_point_after_another(fakes: Fakes, capfd: pytest.CaptureFixture[str]) -> None:
    fakes.add("mpirun", '[[ "$*" == *"--seed=1"* ]] && exit 9; exit 0')
    words = ["sweep", "tiny.yaml", "--set", "epochs=1,2", "--seeds", "2", *LOCALLY, "--tasks_per_node", "2", "-o", "s"]
    make_run(Path("s/epochs-1_seed-0"), "completed", words=["--epochs=1", "--seed=0"])
    assert main(words) == 1
    points = [call.partition(" train ")[2] for call in fakes.calls("mpirun")[1:]]
    assert points == [
        f"tiny.yaml --epochs={epochs} --seed={seed} --run_dir s/epochs-{epochs}_seed-{seed} --resume auto"
        for epochs, seed in ((1, 1), (2, 0), (2, 1))
    ]
    assert all("-n 2 " in call for call in fakes.calls("mpirun")[1:])
    said = capfd.readouterr()
    assert said.out.splitlines()[0] == "s/epochs-1_seed-0: finished already"
    assert said.out.splitlines()[-1] == "curves and table: hpcsgd figures learning s -o s/figures"
    assert "2 of 4 runs did not end well: epochs-1_seed-1 ended with code 9, epochs-2" in said.err


def test_a_wider_sweep_trains_what_is_new_also_beside_runs_with_names_of_before(
    fakes: Fakes, capfd: pytest.CaptureFixture[str]
) -> None:
    fakes.add("mpirun")
    make_run(Path("s/0_base-0.02_seed-0"), "completed", words=["--learning_rate.base=0.02"])
    make_run(Path("s/1_base-0.1_seed-0"), "preempted", words=["--learning_rate.base=0.1"])
    make_run(Path("s/base-0.2_seed-0"), "completed", words=["--learning_rate.base=0.2"])
    Study(Path("s"), (), "/", tuple(Entry(f"{name}_seed-0", None) for name in ("0_base-0.02", "1_base-0.1"))).save()
    words = ["sweep", "tiny.yaml", "--set", "learning_rate.base=0.020,0.05,1e-1,0.2", "--seeds", "1", "-o", "s"]
    assert main([*words, *LOCALLY]) == 0
    trained = [call.partition("--run_dir ")[2].split()[0] for call in fakes.calls("mpirun")[1:]]
    assert trained == ["s/base-0.05_seed-0", "s/1_base-0.1_seed-0"]
    assert main(["status", "s"]) == 0
    assert "4 runs:" in capfd.readouterr().out


def test_scale_here_needs_mpirun(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", "tiny.yaml", "--gpus", "1", "--launcher", "mpirun"]) == 2
    assert "there is no mpirun here" in capsys.readouterr().err


def test_a_sweep_is_one_array_of_what_is_left(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    fakes.add_sbatch()
    words = ["sweep", "tiny.yaml", "--set", "epochs=1,2", "--seeds", "2", *HERE, "-o", "s", "--max_running", "2"]
    assert main([*words, "--submit"]) == 0
    assert fakes.calls("sbatch") == ["sbatch --parsable s/sweep.sbatch"]
    script = fakes.sent(101)
    assert "#SBATCH --array=0-3%2\n" in script and "#SBATCH --output=s/%A_%a.out\n" in script
    assert "    2)\n        run_dir=s/epochs-2_seed-0\n        point=(--epochs=2 --seed=0)\n" in script
    make_run(Path("s/epochs-1_seed-0"), "completed", words=["--epochs=1", "--seed=0"])
    fakes.add("squeue", "printf '101_1|RUNNING|None\\n101_2|FAILED|None\\n101_3|TIMEOUT|None\\n'")
    capsys.readouterr()
    assert main([*words, "--submit"]) == 0
    assert fakes.calls("sbatch")[1:] == ["sbatch --parsable --array=2,3%2 s/sweep.sbatch"]
    assert "sent job 102: 2 runs" in capsys.readouterr().out
    ids = [entry["ids"] for entry in json.loads(Path("s/jobs.json").read_text())["jobs"]]
    assert ids == [["101_0"], ["101_1"], ["101_2", "102_2"], ["101_3", "102_3"]]


def test_resubmit_sends_what_did_not_come_to_its_end(
    fakes: Fakes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fakes.add_sbatch()
    assert main(["sweep", "tiny.yaml", "--seeds", "4", *HERE, "-o", "s/sweep", "--submit"]) == 0
    assert main(["submit", "tiny.yaml", *HERE, "--nodes", "1", "--submit", "--", "--run_dir", "s/one"]) == 0
    for seed, status in enumerate(["completed", "running", "preempted", "diverged"]):
        make_run(Path(f"s/sweep/seed-{seed}"), status, words=[f"--seed={seed}"], jobs=(f"101_{seed}",))
    fakes.add("squeue", "echo '102|FAILED|NonZeroExitCode'")
    # From another directory: the scripts' paths are relative to the first one.
    work, elsewhere = Path.cwd(), tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["resubmit", "--failed", str(work / "s")]) == 0
    assert fakes.calls("sbatch")[2:] == [
        "sbatch --parsable s/one/job.sbatch",
        "sbatch --parsable --array=1,2 s/sweep/sweep.sbatch",
    ]
    assert json.loads((work / "s/one/jobs.json").read_text())["jobs"][0]["ids"] == ["102", "103"]


def test_resubmit_names_what_it_cannot_send(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(Path("s/done"), "completed")
    assert main(["resubmit", "--failed", "s"]) == 0
    assert "nothing to send" in capsys.readouterr().out
    make_run(Path("s/by_hand"), "failed", jobs=("7",))
    assert main(["resubmit", "--failed", "s"]) == 1
    assert "s/by_hand is failed, but was not sent by hpcsgd" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_a_run_does_not_go_on_without_who_started_it(fakes: Fakes, number: signal.Signals) -> None:
    fakes.add("waiting", "trap 'echo USR1; exit 75' USR1; echo up; for _ in {1..600}; do sleep 0.1; done")
    code = "from hpcsgd.launch.local import run_to_end; run_to_end(['waiting'])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        assert process.stdout.readline() == "USR1\n"


def test_a_study_that_runs_already_is_left_alone(fakes: Fakes, capfd: pytest.CaptureFixture[str]) -> None:
    fakes.add("mpirun")
    with Claim(None) as claimed:
        Path("s").mkdir()
        claimed.take_over(Path("s"), "study")
        assert main(LOCAL) == 2
    assert "s is in use by process" in capfd.readouterr().err
    assert fakes.calls("mpirun") == ["mpirun --version"] and os.listdir("s") == [".lock"]
    # Held by what it has started, too.
    with Claim(None) as claimed:
        claimed.take_over(Path("s"), "study")
        waiting = [sys.executable, "-c", "input()"]
        with subprocess.Popen(waiting, stdin=subprocess.PIPE, pass_fds=claimed.descriptors) as child:
            claimed.close()
            assert main(LOCAL) == 2
            child.kill()
    assert main(LOCAL) == 0


@pytest.mark.parametrize("banner", ["", "echo 'site module loaded' >&2; ", "printf '\\xff\\xfe\\n'; "])
def test_the_kind_of_mpirun_is_read_from_all_that_it_says(fakes: Fakes, banner: str) -> None:
    fakes.add("mpirun", f'{banner}echo "mpirun (Open MPI) 5.0"')
    assert mpirun_options() == ["--oversubscribe", "--bind-to", "none"]
