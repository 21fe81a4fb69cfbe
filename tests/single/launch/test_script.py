"""The scripts: the examples are what the commands in them make, and every site renders for every launcher."""

from __future__ import annotations

import dataclasses
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from hpcsgd.cli import main
from hpcsgd.errors import UsageError
from hpcsgd.launch.script import Job, Point, Stage, job_name, render
from hpcsgd.launch.shell import expanded
from hpcsgd.launch.site import SiteProfile, load_site, site_names

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted((ROOT / "slurm" / "examples").iterdir())
JOB = Job("tiny", "hpcsgd submit x", 2, 2, ("jobs/x.yaml", "--epochs", "3"))


def options(script: str) -> dict[str, str]:
    """The ``#SBATCH`` lines: the options with their values."""
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH --")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def line_of(script: str, start: str) -> str:
    """The one line that starts so."""
    found = [line for line in script.splitlines() if line.lstrip().startswith(start)]
    assert len(found) == 1, found
    return found[0].strip()


def check_with_shellcheck(files: Sequence[Path]) -> None:
    """Nothing to say about any of them."""
    assert shutil.which("shellcheck"), "install shellcheck (Debian: apt-get install shellcheck)"
    done = subprocess.run(["shellcheck", *map(str, files)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_what_its_command_makes(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = line_of(path.read_text(), "# Made by: hpcsgd ").removeprefix("# Made by: hpcsgd ")
    monkeypatch.chdir(ROOT)
    assert main(shlex.split(command)) == 0
    assert capsys.readouterr().out == path.read_text(), f"cd {ROOT}; hpcsgd {command} > {path.relative_to(ROOT)}"


def test_there_is_an_example_for_every_site() -> None:
    assert {(name, load_site(name).scheduled_by.suffix) for name in site_names()} <= {
        (path.stem if path.stem in site_names() else path.stem.partition("_local_sgd_srun")[0], path.suffix)
        for path in EXAMPLES
    }
    local = {path.stem for path in EXAMPLES if path.stem.startswith("local_cluster")}
    both = {f"{algorithm}_sgd_{launcher}" for algorithm in ("sync", "local") for launcher in ("srun", "mpirun")}
    assert local == {f"local_cluster_{name}" for name in both}


@pytest.mark.parametrize("name", site_names())
def test_every_site_renders_for_every_launcher(name: str, tmp_path: Path) -> None:
    files = []
    scheduler = load_site(name).scheduled_by
    for launcher in scheduler.launchers:
        site = dataclasses.replace(load_site(name), launcher=launcher)  # type: ignore[arg-type]
        stage = Stage("mnist", "/data/my mnist") if site.node_local else None
        points = tuple(Point(f"runs/a b/{i}", (f"--seed={i}",)) for i in range(2))
        given = {option: "x" for option in scheduler.options}
        jobs = {
            "run": dataclasses.replace(JOB, stage=stage, options=given),
            "array": dataclasses.replace(JOB, points=points, max_running=3, options=given),
            "doctor": dataclasses.replace(JOB, words=(), trains=False, options=given),
            "quiet": dataclasses.replace(JOB, run_dir="it's mine", logged=False, options=given),
        }
        for kind, of_two in jobs.items():
            job = dataclasses.replace(of_two, tasks_per_node=min(2, site.tasks_per_node))
            if kind == "array" and not scheduler.has_arrays:
                continue
            path = tmp_path / f"{launcher}-{kind}{scheduler.suffix}"
            path.write_text(render(site, job))
            assert "{%" not in path.read_text() and "None" not in path.read_text()
            assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
            files.append(path)
    check_with_shellcheck(files)


@pytest.mark.parametrize("name", ["perlmutter", "frontier", "lumi", "juwels_booster", "alps", "polaris", "tuolumne"])
def test_a_missing_account_is_an_error_that_names_it(name: str) -> None:
    with pytest.raises(UsageError, match=f"site {name} needs account, which is not given: add --account"):
        render(load_site(name), JOB)


def test_options_of_the_command_win_over_the_site() -> None:
    site = load_site("perlmutter")
    made = options(render(site, dataclasses.replace(JOB, time="10", options={"account": "P", "qos": "debug"})))
    assert made["account"] == "P"
    assert made["qos"] == "debug"
    assert made["constraint"] == "gpu"
    assert made["time"] == "10"
    assert "partition" not in made


def test_gpus_of_all_or_per_task() -> None:
    gpus = SiteProfile("x", tasks_per_node=4, gpus_per_node=4)
    assert options(render(gpus, JOB))["gpus-per-node"] == "2"
    whole = dataclasses.replace(gpus, whole_nodes=True)
    assert options(render(whole, JOB))["gpus-per-node"] == "4"
    gres = dataclasses.replace(gpus, gpu_request="gres")
    assert options(render(gres, JOB))["gres"] == "gpu:2"
    own = render(dataclasses.replace(gpus, gpu_visibility="per-task"), JOB)
    assert options(own)["gpus-per-task"] == "1" and "gpus-per-node" not in options(own)
    assert "--gpus-per-task=1" in line_of(own, "launch=(srun")
    # mpirun's helpers are srun's tasks: one GPU a task would be one GPU a node.
    by_mpirun = render(dataclasses.replace(gpus, gpu_visibility="per-task", launcher="mpirun"), JOB)
    assert options(by_mpirun)["gpus-per-node"] == "2" and "per-task" not in by_mpirun.replace("cpus-per-task", "")
    none = render(SiteProfile("x", tasks_per_node=4), JOB)
    assert "gpu" not in "".join(options(none))


def test_launchers_and_their_signal() -> None:
    site = SiteProfile("x", 4, cpus_per_task=8, cpu_bind="cores", srun_options=("--mpi=pmix",), signal_seconds=60)
    by_srun = render(site, JOB)
    assert line_of(by_srun, "launch=") == ("launch=(srun --kill-on-bad-exit=1 --wait=60 --cpu-bind=cores --mpi=pmix)")
    assert options(by_srun)["signal"] == "USR1@60"
    assert options(by_srun)["cpus-per-task"] == "8"
    assert 'export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"' in by_srun
    by_mpirun = render(dataclasses.replace(site, launcher="mpirun"), JOB)
    assert line_of(by_mpirun, "launch=") == "launch=(mpirun -n 4 --bind-to none --map-by slot)"
    assert options(by_mpirun)["signal"] == "B:USR1@60"
    # It would bind mpirun's helpers, of which each node has one.
    assert "SRUN_CPUS_PER_TASK" not in by_mpirun
    by_ibrun = render(dataclasses.replace(site, launcher="ibrun"), JOB)
    assert line_of(by_ibrun, "launch=") == "launch=(ibrun)"
    assert options(by_ibrun)["signal"] == "B:USR1@60"


def test_the_command_and_where_it_runs() -> None:
    script = render(SiteProfile("x", 4, container=("run", "$IMAGE")), JOB)
    assert line_of(script, "run ") == 'run "$IMAGE" hpcsgd train jobs/x.yaml --epochs 3'
    assert line_of(script, "run_dir=") == 'run_dir="runs/tiny-$SLURM_JOB_ID"'
    assert line_of(script, "--run_dir") == '--run_dir "$run_dir" --resume auto'
    assert line_of(script, "state=") == 'state="$(run "$IMAGE" hpcsgd status --word "$run_dir" || true)"'
    fixed = render(SiteProfile("x", 4), dataclasses.replace(JOB, run_dir="a $b", words=("it's", "$(x)")))
    assert line_of(fixed, "run_dir=") == "run_dir='a $b'"
    assert line_of(fixed, "hpcsgd train") == "hpcsgd train 'it'\"'\"'s' '$(x)'"


def test_requeue_is_bounded_or_off() -> None:
    assert options(render(SiteProfile("x", 4), JOB)).keys() >= {"requeue"}
    never = render(SiteProfile("x", 4, max_restarts=0), JOB)
    assert "no-requeue" in options(never) and "scontrol" not in never
    assert "lt 5 ]" in render(SiteProfile("x", 4, max_restarts=5), JOB)


def test_an_array_has_a_case_for_every_point() -> None:
    points = (Point("d/0", ("--seed=0",)), Point("d/1", ("--seed=1", "--model.widths=[4, 4]")))
    script = render(SiteProfile("x", 4), dataclasses.replace(JOB, points=points, max_running=1))
    assert options(script)["array"] == "0-1%1"
    assert "point=(--seed=1 '--model.widths=[4, 4]')" in script
    without = render(SiteProfile("x", 4), dataclasses.replace(JOB, points=points))
    assert options(without)["array"] == "0-1"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks_per_node": 5}, "5 tasks a node cannot be at site mine: choose 1 to 4"),
        ({"time": "soon"}, "--time is 'soon'"),
        ({"time": "2"}, "told to save 120 s before it is over"),
        ({"options": {"account": "a b"}}, "--account is 'a b': it must be one word"),
        ({"options": {"qos": "x\n#SBATCH --nodes=99"}}, "--qos is"),
        ({"output": "a b-%j.out"}, "--output is"),
        ({"stage": Stage("mnist", "/x")}, "site mine has no node_local"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        render(SiteProfile("x", 4, name="mine"), dataclasses.replace(JOB, **changes))  # type: ignore[arg-type]
    assert said in str(refused.value)


def test_words_of_the_shell() -> None:
    assert expanded("--bind=a,b") == '"--bind=a,b"'
    assert expanded("/mnt/$USER") == '"/mnt/$USER"'
    assert expanded('a "b" `c` $(d)') == '"a \\"b\\" \\`c\\` \\$(d)"'
    assert expanded("slot:PE=2") == "slot:PE=2"
    assert job_name("jobs/a b'c.yaml") == "jobs-a-b-c.yaml"
    assert job_name("$") == "job"
