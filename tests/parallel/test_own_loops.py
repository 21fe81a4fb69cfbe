"""The examples of a loop of the user's own, under mpirun."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

import hpcsgd
from tests.parallel.ranks import ROOT, command, run

TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0")
GLOO_ENDS_BADLY = "terminate called without an active exception"
"""Said where torch's Gloo aborts at a process's end: one in some twenty, of plain DistributedDataParallel."""


def launch(script: str, *words: str, folder: Path, by: str = "mpirun") -> str:
    """The output of two ranks of an example; started again where Gloo has aborted, after all was done."""
    words = (str(ROOT / "jobs" / "own" / script), *words)
    for _ in range(5):
        started = command(2, *words) if by == "mpirun" else [sys.executable, *TORCHRUN, *words]
        done = run(started, folder)
        if GLOO_ENDS_BADLY not in done.stderr:
            break
        shutil.rmtree(folder / "runs", ignore_errors=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_loop_of_local_sgd_leaves_a_log_with_every_span(tmp_path: Path) -> None:
    said = launch("loop.py", "2", folder=tmp_path)
    accuracies = re.findall(r"epoch 2: last loss \d\S*, accuracy (0\.\d{4})", said)
    assert len(accuracies) == 2 and len(set(accuracies)) == 1, "both ranks evaluate the consensus"
    log = hpcsgd.load_run(tmp_path / "runs" / "own_loop")
    assert log.status == "completed" and len(log.iterations) == 2 * 2 * 16
    assert log.epochs["num_samples"].tolist() == [1024, 1024]
    assert set(log.iterations["action"]) == {"none", "global"}
    averaged = log.iterations[log.iterations["action"] == "global"]
    assert averaged["step"].unique().tolist() == list(range(3, 32, 4))
    assert (averaged["averaging_seconds"] > 0).all() and (averaged["sync_bytes"] > 0).all()
    for span in ("data", "forward", "backward", "update"):
        assert (log.iterations[f"{span}_seconds"] > 0).all(), span
    assert (log.iterations.groupby("rank")["evaluation_seconds"].sum() > 0).all()


def test_a_script_of_ddp_is_timed_and_changed_in_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = []
    for number, by in enumerate(("mpirun", "torchrun", "")):
        text = (ROOT / "jobs" / "own" / "ddp_timed.py").read_text()
        if not by:
            text = "\n".join(
                line.replace("run.batches(loader)", "loader").replace("run.step()", "optimizer.step()")
                for line in text.replace("    with hpcsgd.session(", "    if True:  # (").splitlines()
                if line != "import hpcsgd"
            )
        folder = tmp_path / str(number)
        folder.mkdir()
        script = folder / "ddp.py"
        script.write_text(text)
        monkeypatch.setenv("MASTER_PORT", str(29731 + number))
        said = launch(str(script), "12", folder=folder, by=by or "mpirun")
        # Ranks write to one pipe: the end of a line of one may come after the line of another.
        losses.append(sorted(re.findall(r"rank (\d): last loss (\d\.\d{7,9})", said)))
    assert losses[0] == losses[1] == losses[2] and len(losses[0]) == 2
    for number in range(2):
        log = hpcsgd.load_run(tmp_path / str(number) / "runs" / "ddp_timed")
        assert log.status == "completed" and len(log.iterations) == 24 and log.config["algorithm"]["name"] == "none"
        assert (log.iterations["update_seconds"] > 0).all() and log.iterations["loss"].isna().all()
