"""``hpcsgd train`` as a Slurm job, under both launchers."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcsgd.record import load_run
from tests.cluster.jobs import LAUNCHERS, completed, script, train_words
from tests.cluster.slurm_cluster import SlurmCluster

ALGORITHMS = {
    "sync_sgd": {"algorithm__name": "sync_sgd", "comm__allreduce": "horovod"},
    "local_sgd": {"algorithm__name": "local_sgd", "algorithm__sync_period": "2"},
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_on_two_nodes(two_nodes: SlurmCluster, tmp_path: Path, algorithm: str, launcher: str) -> None:
    """All four ranks train in one run, each at its place; the job's id is in the log."""
    words = train_words(tmp_path / "run", **ALGORITHMS[algorithm])
    options = ["--nodes=2", "--ntasks-per-node=2", "--output=%j.out"]
    completed(two_nodes, script(tmp_path, launcher, words, options))
    [output] = tmp_path.glob("*.out")
    run = load_run(tmp_path / "run")
    assert run.status == "completed"
    assert list(run.ranks["node"]) == ["n1", "n1", "n2", "n2"]
    assert list(run.ranks["local_rank"]) == [0, 1, 0, 1]
    assert list(run.ranks["node_index"]) == [0, 0, 1, 1]
    assert list(run.segments["world_size"]) == [4]
    assert list(run.segments["job"]) == [output.stem]
    # 64 samples of 4 ranks of 4.
    assert sorted(set(run.iterations["step"])) == [0, 1, 2, 3]
    assert set(run.iterations["action"]) == ({"gradient"} if algorithm == "sync_sgd" else {"none", "global"})
