"""Campaigns at sites of PBS and Flux, by programs that stand in for theirs and train for real."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hpcsgd.record import load_run
from tests.cluster.slurm_cluster import ROOT

RECIPE = """\
epochs: 1
local_batch_size: 8
model: {widths: [4]}
data: {name: synthetic, synthetic_shape: [1, 4, 4], synthetic_train_samples: 32, synthetic_test_samples: 8}
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the recipe; the programs come first in ``PATH``."""
    programs, state, work = (tmp_path / name for name in ("programs", "state", "work"))
    for path in (programs, state, work):
        path.mkdir()
    text = (Path(__file__).parent / "stand_ins.py").read_text()
    for name in ("qsub", "qstat", "mpiexec", "flux"):
        (programs / name).write_text(f"#!{sys.executable}\n{text}")
        (programs / name).chmod(0o755)
    hpcsgd = programs / "hpcsgd"
    hpcsgd.write_text(f'#!/bin/sh\nexec {sys.executable} -m hpcsgd "$@"\n')
    hpcsgd.chmod(hpcsgd.stat().st_mode | stat.S_IXUSR)
    for name in [name for name in os.environ if name.startswith(("OMPI_COMM", "PMIX_", "SLURM_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", os.pathsep.join([str(programs), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HPCSGD_STAND_IN", str(state))
    (work / "tiny.yaml").write_text(RECIPE)
    return work


def call(work: Path, *words: str) -> str:
    """What ``hpcsgd`` prints, which must end well."""
    done = subprocess.run(["hpcsgd", *words], cwd=work, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + "".join(p.read_text() for p in sorted(work.rglob("*.o*")))
    return done.stdout


def test_an_array_of_pbs(work: Path) -> None:
    """Both elements train on their own two ranks; the log says the job, and status finds both at their good end."""
    words = ["sweep", "tiny.yaml", "--seeds", "2", "--site", "generic_pbs", "--tasks_per_node", "2", "-o", "d"]
    assert call(work, *words, "--submit") == "sent job 1[]: 2 runs\n"
    runs = [load_run(work / "d" / f"seed-{seed}") for seed in (0, 1)]
    assert [(run.status, len(run.ranks), run.segments["job"].tolist()) for run in runs] == [
        ("completed", 2, ["1[0]"]),
        ("completed", 2, ["1[1]"]),
    ]
    assert "hpcsgd: job 1[1], on n1, " in (work / "d" / "1[1].server.OU").read_text()
    assert "2 runs: 2 completed" in call(work, "status", "d")


def test_a_job_of_flux(work: Path) -> None:
    """The same of a run on two ranks; what Flux calls ƒ1 is f1 here."""
    words = ["submit", "tiny.yaml", "--nodes", "1", "--site", "generic_flux", "--tasks_per_node", "2", "--submit"]
    assert call(work, *words, "--", "--run_dir=r") == "sent job f1: r\n"
    run = load_run(work / "r")
    assert (run.status, len(run.ranks), run.segments["job"].tolist()) == ("completed", 2, ["f1"])
    assert "hpcsgd: job f1, on n1, " in (work / "r" / "flux-ƒ1.out").read_text()
    assert "1 run: 1 completed" in call(work, "status", "r")
