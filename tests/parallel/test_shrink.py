"""Ranks die in a local SGD run, and the others go on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from hpcsgd.record import Run, load_run
from hpcsgd.record.frames import by_metric
from runs.logs import entry, log_notes
from tables.iterations import record_iterations
from tests.parallel.ranks import ROOT, mpirun, train_words

DYING_RANK = str(ROOT / "tests" / "parallel" / "dying_rank.py")
ULFM = ("--with-ft", "ulfm")
# 240 samples in local batches of 4: 15, 20 and 30 steps an epoch at 4, 3 and 2 ranks; chunks of 256 values.
KEYS = {
    "epochs": "4",
    "model__widths": "[32]",
    "comm__chunk_bytes": "1024",
    "algorithm__name": "local_sgd",
    "algorithm__sync_period": "4",
    "on_failure": "shrink",
    "log__flush_steps": "5",
}


def train_and_die(
    run_dir: Path, deaths: str, *, num_ranks: int = 4, options: tuple[str, ...] = ULFM, **keys: str
) -> subprocess.CompletedProcess[str]:
    """A run of ranks of which some die."""
    words = train_words(run_dir, **(KEYS | keys))
    return mpirun(num_ranks, DYING_RANK, *words[2:], options=options, DEATHS=deaths)


def check(run: Run, lost: list[str], survivors: list[list[int]]) -> None:
    """The log has every step of every rank that was there, once, and names those that were lost."""
    assert run.status == "completed"
    assert run.segments["lost_ranks"].tolist() == lost
    assert run.segments["world_size"].tolist() == [len(ranks) for ranks in survivors]
    iterations = run.iterations
    assert not iterations.duplicated(["step", "rank"]).any()
    starts = [*run.segments["first_step"], None]
    for segment, ranks in enumerate(survivors):
        part = iterations[iterations["segment"] == segment]
        assert sorted(part["rank"].unique()) == ranks
        assert part.groupby("rank").size().nunique() <= 1
        steps = part["step"].unique()
        assert steps.tolist() == list(range(starts[segment], starts[segment] + len(steps)))
        assert part["loss"].notna().all()
        # As much of the data set has been seen as the step says, to half a step for each loss.
        if segment:
            before = iterations.loc[iterations["segment"] < segment, "num_samples"].sum()
            assert abs(starts[segment] * 4 * len(ranks) - before) <= 2 * sum(map(len, survivors[1 : segment + 1]))
    assert (np.diff(iterations.groupby("step")["start_seconds"].min()) > 0).all()
    assert run.epochs["epoch"].tolist() == [0, 1, 2, 3]
    assert (run.epochs["train_seconds"] > 0).all()
    assert iterations["step"].max() + 1 == 4 * 240 // (4 * len(survivors[-1]))
    assert by_metric(run.evaluations)["epoch_fraction"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("rank", "where"),
    [
        (0, "data"),
        (0, "collective"),
        (0, "logging"),
        (0, "evaluation"),
        (2, "backward"),
        (2, "collective"),
        (2, "averaging"),
        (2, "exception"),
    ],
)
def test_the_others_go_on(tmp_path: Path, rank: int, where: str) -> None:
    """Step 19 ends a window; step 29, the second epoch, with an evaluation."""
    step = 29 if where == "evaluation" else 19
    done = train_and_die(tmp_path / "run", f"{rank}:{step}:{where}")
    assert done.returncode == 0, done.stderr
    run = load_run(tmp_path / "run")
    others = [other for other in range(4) if other != rank]
    check(run, ["", str(rank)], [[0, 1, 2, 3], others])
    assert f"hpcsgd: lost rank {rank}; 3 of 4 ranks go on" in done.stderr
    assert ("deliberate fault" in done.stderr) == (where == "exception")
    # The linear rule: 0.1 for a batch of 256.
    rates = run.iterations.groupby("segment")["learning_rate"].unique()
    assert rates[0].tolist() == [pytest.approx(0.1 * 16 / 256)]
    assert rates[1].tolist() == [pytest.approx(0.1 * 12 / 256)]
    assert torch.load(tmp_path / "run" / "model.pt", weights_only=True)


def test_one_after_another(tmp_path: Path) -> None:
    """Down to one rank, the first and the last among the dead."""
    done = train_and_die(tmp_path / "run", "0:9:forward,3:31:collective,1:61:update")
    assert done.returncode == 0, done.stderr
    run = load_run(tmp_path / "run")
    check(run, ["", "0", "3", "1"], [[0, 1, 2, 3], [1, 2, 3], [1, 2], [2]])
    # What the analysis makes of it: samples of the ranks that were there, and a note.
    item = entry(run, "run")
    samples = record_iterations(item).groupby("segment")["num_samples"].unique()
    assert [part.tolist() for part in samples] == [[16], [12], [8], [4]]
    assert sum("went on without rank" in note for note in log_notes([item], [])) == 3


def test_two_at_once_in_a_hierarchy(tmp_path: Path) -> None:
    """Blocks of two: both ranks of the second block die, and one block is left."""
    keys = {"algorithm__name": "hierarchical_local_sgd", "algorithm__block_size": "2", "algorithm__sync_period": "2"}
    done = train_and_die(tmp_path / "run", "2:19:forward,3:19:forward", algorithm__block_sync_period="2", **keys)
    assert done.returncode == 0, done.stderr
    check(load_run(tmp_path / "run"), ["", "2,3"], [[0, 1, 2, 3], [0, 1]])


def test_learners_around_a_central_model_go_on_around_it(tmp_path: Path) -> None:
    keys = {"algorithm__name": "sma", "algorithm__sync_period": "2"}
    done = train_and_die(tmp_path / "run", "2:19:collective", **keys)
    assert done.returncode == 0, done.stderr
    check(load_run(tmp_path / "run"), ["", "2"], [[0, 1, 2, 3], [0, 1, 3]])


def test_blocks_that_cannot_be_filled_end_the_run(tmp_path: Path) -> None:
    keys = {"algorithm__name": "hierarchical_local_sgd", "algorithm__block_size": "2"}
    done = train_and_die(tmp_path / "run", "3:19:forward", **keys)
    assert done.returncode == 2
    assert "algorithm.block_size is 2, which does not divide 3 ranks" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_fault_tolerance_it_is_refused(tmp_path: Path) -> None:
    done = train_and_die(tmp_path / "run", "1:19:forward", num_ranks=2, options=())
    assert done.returncode == 2
    assert "mpirun --with-ft ulfm" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_run_that_has_lost_a_rank_is_resumed(tmp_path: Path) -> None:
    """Stopped later, it goes on with three ranks to the same bits as if it had not been stopped."""
    keys = {"checkpoint__every_steps": "10", "checkpoint__keep": "100"}
    deaths = "1:19:forward"
    assert train_and_die(tmp_path / "whole", deaths, **keys).returncode == 0
    stopped = train_and_die(tmp_path / "stopped", deaths, max_steps="50", **keys)
    assert stopped.returncode == 0, stopped.stderr
    (tmp_path / "stopped" / "model.pt").unlink()
    words = train_words(tmp_path / "stopped", **(KEYS | keys), resume="auto")
    done = mpirun(3, *words, options=ULFM)
    assert done.returncode == 0, done.stderr
    whole, resumed = load_run(tmp_path / "whole"), load_run(tmp_path / "stopped")
    check(whole, ["", "1"], [[0, 1, 2, 3], [0, 2, 3]])
    assert resumed.segments["lost_ranks"].tolist() == ["", "1", ""]
    columns = ["step", "rank", "loss", "learning_rate", "num_samples", "action"]
    assert resumed.iterations[columns].equals(whole.iterations[columns])
    models = [torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "stopped")]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
