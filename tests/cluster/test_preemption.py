"""Jobs that are stopped in the middle of a run: they come back, and end with the bits of a run that was not stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcsgd.record import Run, load_run
from tests.cluster.jobs import log_so_far, sent, succeeded
from tests.cluster.slurm_cluster import ROOT, SlurmCluster
from tests.parallel.laws.resuming import assert_same_run

STEPS = 240
RECIPE = """\
epochs: 24
local_batch_size: 8
model: {name: resnet8}
data: {name: synthetic, synthetic_shape: [1, 8, 8], synthetic_train_samples: 160, synthetic_test_samples: 40}
algorithm: {name: post_local_sgd, sync_period: 3}
evaluate: {every_epochs: 4}
checkpoint: {every_steps: 20}
faults: {stop_check_steps: 2}
log: {flush_steps: 10}
"""
"""ResNet-8 with momentum on two ranks: 10 steps an epoch, of some ten milliseconds. Windows of 3
local steps do not end where epochs and checkpoints do."""

SITE = ("--site", "local_cluster", "--nodes", "2", "--tasks_per_node", "1")
LOCAL_STARTS = {"srun": "step:1000", "mpirun": "step:15"}
"""By srun, gradients are reduced to the end; by mpirun, there are local steps when the run is stopped."""
SWEEP = ("sweep", "tiny.yaml", "--set", f"algorithm.local_start={','.join(LOCAL_STARTS.values())}", "-o", "d", *SITE)
POINTS = {"srun": "local_start-step-1000-fb59e9e14c", "mpirun": "local_start-step-15-ecff414e39"}


def words_of(launcher: str) -> list[str]:
    """The overrides of a run by this launcher."""
    return [f"--algorithm.local_start={LOCAL_STARTS[launcher]}", "--run_dir", "run"]


def in_the_middle(cluster: SlurmCluster, job: str, run_dir: Path, segment: int = 0) -> None:
    """Wait until a run has a checkpoint and, since it was started for the ``segment``-th time, rows in its log."""

    def ready() -> bool:
        run = log_so_far(run_dir) if list(run_dir.glob("checkpoints/step-*/manifest.json")) else None
        return run is not None and bool((run.iterations["segment"] == segment).any())

    cluster.wait_for(job, ready)


def stop(cluster: SlurmCluster, job: str, launcher: str) -> None:
    """Send USR1 as ``#SBATCH --signal`` of the template does."""
    cluster.signal(job, "USR1", batch=launcher == "mpirun")


def check_resumed(directory: Path, expected: Run, segments: int) -> Run:
    """The run was gone on with, in the middle, and is the same as the one that was not stopped."""
    run = load_run(directory)
    assert run.status == "completed"
    starts = run.segments["first_step"].tolist()
    assert len(starts) == segments and starts[0] == 0 < starts[1] < STEPS and starts == sorted(starts)
    assert run.iterations["segment"].max() == segments - 1
    assert_same_run(run, expected)
    return run


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory with the recipe."""
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    return tmp_path


@pytest.fixture(scope="module")
def undisturbed(two_nodes: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """The runs that nobody stopped, by launcher: elements of one array."""
    directory = tmp_path_factory.mktemp("undisturbed")
    (directory / "tiny.yaml").write_text(RECIPE)
    [job] = sent(two_nodes, directory, *SWEEP, "--submit")
    runs = {}
    for element, (launcher, name) in enumerate(POINTS.items()):
        succeeded(two_nodes, f"{job}_{element}")
        runs[launcher] = load_run(directory / "d" / name)
    assert set(runs["srun"].iterations["action"]) == {"gradient"}
    assert set(runs["mpirun"].iterations["action"]) == {"gradient", "none", "global"}
    return runs


@pytest.mark.parametrize("launcher", LOCAL_STARTS)
def test_usr1(two_nodes: SlurmCluster, work: Path, undisturbed: dict[str, Run], launcher: str) -> None:
    """The run keeps its state, the job goes back to the queue by itself, and the run goes on."""
    words = ["submit", "tiny.yaml", *SITE, "--launcher", launcher, "--submit", "--", *words_of(launcher)]
    [job] = sent(two_nodes, work, *words)
    in_the_middle(two_nodes, job, work / "run")
    stop(two_nodes, job, launcher)
    two_nodes.restart_now(job)
    output = succeeded(two_nodes, job)
    assert "asked to stop; the state after" in output and f"job {job}, restart 1" in output
    run = check_resumed(work / "run", undisturbed[launcher], segments=2)
    assert run.segments["job"].tolist() == [job] * 2


@pytest.mark.parametrize("launcher", LOCAL_STARTS)
def test_requeue(two_nodes: SlurmCluster, work: Path, undisturbed: dict[str, Run], launcher: str) -> None:
    """Slurm sends TERM and, some time later, KILL.

    The ranks of srun save on TERM. mpirun's helpers end theirs at once: these go on from the last checkpoint.
    """
    words = ["submit", "tiny.yaml", *SITE, "--launcher", launcher, "--submit", "--", *words_of(launcher)]
    [job] = sent(two_nodes, work, *words)
    in_the_middle(two_nodes, job, work / "run")
    two_nodes.requeue(job)
    output = succeeded(two_nodes, job)
    if launcher == "srun":
        assert "asked to stop; the state after" in output
    check_resumed(work / "run", undisturbed[launcher], segments=2)


def test_an_element_of_an_array_comes_back_alone(
    two_nodes: SlurmCluster, work: Path, undisturbed: dict[str, Run]
) -> None:
    """The other element is not touched."""
    [job] = sent(two_nodes, work, *SWEEP, "--submit")
    disturbed = work / "d" / POINTS["mpirun"]
    in_the_middle(two_nodes, f"{job}_1", disturbed)
    stop(two_nodes, f"{job}_1", "srun")
    two_nodes.restart_now(f"{job}_1")
    outputs = [succeeded(two_nodes, f"{job}_{element}") for element in (0, 1)]
    assert [two_nodes.show(f"{job}_{element}")["Restarts"] for element in (0, 1)] == ["0", "1"]
    assert f"job {job}_1, restart 1" in outputs[1] and "restart 1" not in outputs[0]
    check_resumed(disturbed, undisturbed["mpirun"], segments=2)
    assert_same_run(load_run(work / "d" / POINTS["srun"]), undisturbed["srun"])


def test_the_number_of_restarts_is_bounded(two_nodes: SlurmCluster, work: Path, undisturbed: dict[str, Run]) -> None:
    """With a site of the user's own: the second stop is the last; what was stopped is sent again by hand."""
    site = (ROOT / "slurm" / "sites" / "local_cluster.toml").read_text()
    (work / "mine.toml").write_text(site.replace("signal_seconds = 60", "signal_seconds = 60\nmax_restarts = 1"))
    own = ["--site", "mine.toml", *SITE[2:]]
    [job] = sent(two_nodes, work, "submit", "tiny.yaml", *own, "--submit", "--", *words_of("srun"))
    in_the_middle(two_nodes, job, work / "run")
    stop(two_nodes, job, "srun")
    two_nodes.restart_now(job)
    in_the_middle(two_nodes, job, work / "run", segment=1)
    # What a preemption with a grace time begins with.
    two_nodes.signal(job, "TERM")
    assert two_nodes.wait(job) == "FAILED"
    assert two_nodes.exit_code(job) == 75
    assert "has been restarted 1 times: it stays stopped" in two_nodes.output(job)
    assert "preempted" in two_nodes.run(["hpcsgd", "status", "run"], cwd=work).stdout
    [again] = sent(two_nodes, work, "resubmit", "--failed", "run")
    succeeded(two_nodes, again)
    run = check_resumed(work / "run", undisturbed["srun"], segments=3)
    assert run.segments["job"].tolist() == [job, job, again]
    assert "nothing to send" in two_nodes.run(["hpcsgd", "resubmit", "--failed", "run"], cwd=work).stdout
