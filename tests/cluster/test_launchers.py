"""srun and mpirun inside sbatch: ranks that belong together, on the right nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.jobs import LAUNCHERS, completed, reports, script
from tests.cluster.slurm_cluster import SlurmCluster

REPORT = str(Path(__file__).with_name("report.py"))


def places(num_nodes: int, tasks_per_node: int) -> list[tuple[str, int, int]]:
    """Node, its index and the local rank, for each rank."""
    return [(f"n{node + 1}", node, local) for node in range(num_nodes) for local in range(tasks_per_node)]


def check(found: list[dict], num_nodes: int, tasks_per_node: int) -> None:
    """Every rank took part in the sum, and knows its place."""
    size = num_nodes * tasks_per_node
    assert [one["sum"] for one in found] == [[size * (size + 1) / 2] * 3] * size
    topologies = [one["topology"] for one in found]
    assert [(t["node"], t["node_index"], t["local_rank"]) for t in topologies] == places(num_nodes, tasks_per_node)
    assert [t["rank"] for t in topologies] == list(range(size))
    assert {(t["world_size"], t["num_nodes"], t["local_size"]) for t in topologies} == {
        (size, num_nodes, tasks_per_node)
    }
    # MPI takes the nodes for different machines: that they are one must not help.
    assert [one["num_sharing_memory"] for one in found] == [tasks_per_node] * size


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_nodes_of_two_tasks(two_nodes: SlurmCluster, tmp_path: Path, launcher: str) -> None:
    """MPI joins all ranks, and each knows its node and its place there."""
    path = script(tmp_path, launcher, [REPORT], ["--nodes=2", "--ntasks-per-node=2"])
    check(reports(completed(two_nodes, path)), num_nodes=2, tasks_per_node=2)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_four_nodes(four_nodes: SlurmCluster, tmp_path: Path, launcher: str) -> None:
    """More nodes than the machine has cores."""
    path = script(tmp_path, launcher, [REPORT], ["--nodes=4", "--ntasks-per-node=1"])
    check(reports(completed(four_nodes, path)), num_nodes=4, tasks_per_node=1)


def test_srun_gives_each_task_its_gpu(two_nodes: SlurmCluster, tmp_path: Path) -> None:
    """--gpus-per-task=1: the local rank is the number of the one GPU that the task sees."""
    options = ["--nodes=2", "--ntasks-per-node=2", "--gpus-per-task=1"]
    found = reports(completed(two_nodes, script(tmp_path, "srun", [REPORT], options)))
    assert [one["gpus"] for one in found] == ["0", "1", "0", "1"]


def test_mpirun_shows_all_gpus_of_the_node(two_nodes: SlurmCluster, tmp_path: Path) -> None:
    """--gpus-per-node: all ranks of a node see all of its GPUs, and choose by their local rank.

    (--gpus-per-task would give one GPU to ``prted``, the only task of a node that Slurm knows of, and so the same
    GPU to all ranks of the node.)
    """
    options = ["--nodes=2", "--ntasks-per-node=2", "--gpus-per-node=2"]
    found = reports(completed(two_nodes, script(tmp_path, "mpirun", [REPORT], options)))
    assert [one["gpus"] for one in found] == ["0,1"] * 4
