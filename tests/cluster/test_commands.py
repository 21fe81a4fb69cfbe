"""The commands that send jobs and ask for them, and ``doctor``, against a real Slurm."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pandas as pd
import pytest

from hpcsgd.record import load_run
from tests.cluster.jobs import LAUNCHERS, log_so_far, sent, succeeded
from tests.cluster.slurm_cluster import ROOT, SlurmCluster

RECIPE = """\
epochs: 2
local_batch_size: 4
model: {widths: [8]}
data: {name: synthetic, synthetic_shape: [1, 4, 4], synthetic_train_samples: 64, synthetic_test_samples: 16}
"""
SITE = ("--site", "local_cluster")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory with the recipe."""
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    return tmp_path


def test_check_asks_and_sends_nothing(two_nodes: SlurmCluster, work: Path) -> None:
    """Slurm says when it would start; what it would refuse is one message."""
    checked = two_nodes.run(["hpcsgd", "submit", "tiny.yaml", *SITE, "--nodes", "2", "--check"], cwd=work)
    assert "to start at" in checked.stdout and "n[1-2]" in checked.stdout
    refused = two_nodes.run(["hpcsgd", "submit", "tiny.yaml", *SITE, "--nodes", "3", "--check"], cwd=work, check=False)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1 and "sbatch refused" in refused.stderr
    assert [path.name for path in work.iterdir()] == ["tiny.yaml"]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_doctor(two_nodes: SlurmCluster, work: Path, launcher: str) -> None:
    """It sees both nodes with two ranks each, and the sums are right."""
    words = ["submit", "--doctor", *SITE, "--nodes", "2", "--launcher", launcher, "--submit", "--", "--max_bytes", "8"]
    [job] = sent(two_nodes, work, *words)
    output = succeeded(two_nodes, job)
    rows = [line.split() for line in output.splitlines()]
    table = [(row[2], " ".join(row[3:6])) for row in rows if row[:1] and row[0].isdecimal() and len(row) > 8]
    assert table == [(node, f"{local} of 2") for node in ("n1", "n2") for local in (0, 1)]
    assert "4 on 2 nodes" in output and "0 errors" in output and " right" in output


def test_scale(two_nodes: SlurmCluster, work: Path) -> None:
    """One job a size, of one and of two nodes; they end in the scaling figure and its table."""
    words = ["scale", "tiny.yaml", "--gpus", "1,2", *SITE, "--tasks_per_node", "1", "-o", "d", "--submit"]
    jobs = sent(two_nodes, work, *words, "--chain")
    for job in jobs:
        succeeded(two_nodes, job)
    runs = [load_run(work / "d" / name) for name in ("gpus-1", "gpus-2")]
    assert [run.segments["job"].tolist() for run in runs] == [[job] for job in jobs]
    assert [run.ranks["node"].nunique() for run in runs] == [len(run.ranks) for run in runs] == [1, 2]
    assert {run.provenance["global_batch_size"] for run in runs} == {4}
    status = two_nodes.run(["hpcsgd", "status", "d"], cwd=work).stdout
    assert "2 runs: 2 completed" in status
    again = two_nodes.run(["hpcsgd", *words], cwd=work).stdout
    assert again.count("finished already") == 2 and "sent" not in again
    two_nodes.run([sys.executable, str(ROOT / "analysis" / "scaling.py"), "d"], cwd=work)
    assert {path.name for path in (work / "d" / "figures").glob("scaling_strong.*")} >= {
        f"scaling_strong.{kind}" for kind in ("png", "svg", "csv", "md")
    }
    assert pd.read_csv(work / "d" / "figures" / "scaling_strong.csv", comment="#")["num_ranks"].tolist() == [1, 2]


def test_what_failed_is_sent_again(two_nodes: SlurmCluster, work: Path) -> None:
    """Of a sweep of two runs, one was cancelled, one killed: the latter alone is sent again, and goes on."""
    words = ["sweep", "tiny.yaml", "--seeds", "2", *SITE, "-o", "d", "--tasks_per_node", "1", "--submit"]
    [job] = sent(two_nodes, work, *words, "--", "--epochs=100000", "--max_steps=60000", "--evaluate.every_epochs=0")
    killed = work / "d" / "seed-1"
    for element, name in enumerate(("seed-0", "seed-1")):
        path = work / "d" / name
        two_nodes.wait_for(f"{job}_{element}", lambda path=path: log_so_far(path) is not None)
    two_nodes.run(["scancel", f"{job}_0"])
    os.kill(int(load_run(killed).ranks["pid"].iloc[0]), signal.SIGKILL)
    assert two_nodes.wait(f"{job}_0") == "CANCELLED"
    assert two_nodes.wait(f"{job}_1") == "FAILED"
    status = two_nodes.run(["hpcsgd", "status", "d"], cwd=work).stdout
    assert "1 cancelled" in status and "1 killed" in status
    [again] = sent(two_nodes, work, "resubmit", "--failed", "d")
    two_nodes.wait_for(f"{again}_1", lambda: two_nodes.state(f"{again}_1") == "RUNNING")
    assert "1 running" in two_nodes.run(["hpcsgd", "status", "d"], cwd=work).stdout

    def goes_on() -> bool:
        run = log_so_far(killed)
        return run is not None and run.segments["job"].tolist()[-1:] == [f"{again}_1"]

    two_nodes.wait_for(f"{again}_1", goes_on)
    two_nodes.run(["scancel", again])
