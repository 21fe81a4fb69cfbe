"""The rendered examples for the test cluster, handed to ``sbatch`` as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcsgd.record import load_run
from hpcsgd.record.frames import by_metric
from tests.cluster.jobs import succeeded
from tests.cluster.slurm_cluster import ROOT, SlurmCluster

EXAMPLES = sorted((ROOT / "slurm" / "examples").glob("local_cluster_*.sbatch"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem.removeprefix("local_cluster_"))
def test_an_example_runs(two_nodes: SlurmCluster, tmp_path: Path, example: Path) -> None:
    """All four ranks train in one run, each at its place, and the log has all of it; the job's id is in the log."""
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    job = two_nodes.sbatch(example, cwd=tmp_path)
    succeeded(two_nodes, job)
    [run_dir] = (tmp_path / "runs").iterdir()
    run = load_run(run_dir)
    assert run_dir.name.endswith(f"-{job}")
    assert (run.status, run.segments["job"].tolist()) == ("completed", [job])
    assert run.segments["world_size"].tolist() == [4]
    assert run.ranks["node"].tolist() == ["n1", "n1", "n2", "n2"]
    assert run.ranks["node_index"].tolist() == [0, 0, 1, 1]
    assert run.ranks["local_rank"].tolist() == [0, 1, 0, 1]
    assert run.iterations.groupby("step")["rank"].apply(list).tolist() == [[0, 1, 2, 3]] * 100
    if "sync_sgd" in example.stem:
        assert run.provenance["gradient_allreduce"] == "horovod"
        assert set(run.iterations["action"]) == {"gradient"}
    else:
        assert set(run.iterations["action"]) == {"none", "global"}
    # Ten classes; the log's last evaluation is of the final model.
    assert by_metric(run.evaluations)["accuracy"].iloc[-1] > 0.5
    assert (run_dir / "model.pt").exists()
