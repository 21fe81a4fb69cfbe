"""Worker processes: they give what the training process would, are no ranks, and end with their rank."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from hpcsgd.config import DataConfig
from hpcsgd.data.batches import Loader
from hpcsgd.data.make import make_loader
from hpcsgd.data.own.data import open_own
from hpcsgd.data.own.items import SampleError
from hpcsgd.data.own.workers import is_of_rank
from hpcsgd.errors import UsageError
from tests.single.data.own.own_data import Files, Rows

ROOT = Path(__file__).parents[4]


class Surroundings:
    """A Dataset that tells what its process is."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        of_rank = [name for name in os.environ if is_of_rank(name)]
        figures = [
            os.getpid(),
            len(of_rank),
            {signal.SIGUSR1, signal.SIGTERM, signal.SIGINT} <= blocked,
            torch.get_num_threads(),
            os.environ.get("CUDA_VISIBLE_DEVICES") == "",
        ]
        return torch.tensor([float(figure) for figure in figures], dtype=torch.float64), 0


def loader_of(data: Any, workers: int, **changes: Any) -> Loader:
    """Batches of one rank."""
    options: dict[str, Any] = {"seed": 3, "learner": 0, "num_learners": 1, "local_batch_size": 4,
                               "device": torch.device("cpu"), "dtype": torch.float64}  # fmt: skip
    config = DataConfig(name="given", workers=workers)
    return make_loader(open_own(config, data), config, channels_last=False, **(options | changes))


def is_gone(pid: int) -> bool:
    """Whether there is no such process, or its parent has yet to take note of its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_workers_read_what_the_training_process_would(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID", "PMI_RANK"):
        monkeypatch.setenv(name, "1")
    alone, helped = (loader_of(Files, workers) for workers in (0, 2))
    for step in (0, 1, 2, 11, 3, 3):
        one, other = alone.batch(step), helped.batch(step)
        assert torch.equal(one.inputs, other.inputs) and torch.equal(one.targets, other.targets)
    assert os.environ["PMIX_RANK"] == "1" and os.environ.get("CUDA_VISIBLE_DEVICES") is None
    workers = helped._reading._batches._workers  # type: ignore[attr-defined]
    helped.close()
    helped.close()
    assert not any(worker.is_alive() for worker in workers)
    around = loader_of({"train": Surroundings()}, 1)
    for pid, of_rank, blocked, threads, blind in around.batch(0).inputs.tolist():
        assert (of_rank, blocked, threads, blind) == (0, 1, 1, 1)
        assert pid != os.getpid()
    # The signals of a stop reach them too, and do nothing.
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
        os.kill(int(pid), number)
    assert len(around.batch(1)) == 4 and not is_gone(int(pid))
    os.kill(int(pid), signal.SIGKILL)
    with pytest.raises(SampleError, match="a worker that reads the split train is gone: it was killed"):
        for step in range(2, 8):
            around.batch(step)
    around.close()


def test_a_worker_that_fails_is_told_with_its_traceback() -> None:
    loader = loader_of({"train": Rows(40, bad=8)}, 1, local_batch_size=40)
    with pytest.raises(SampleError) as info:
        loader.batch(0)
    text = str(info.value)
    assert "sample 8 of the split train cannot be read" in text
    assert "OSError: row 8 is gone" in text and 'own_data.py", line' in text
    loader.close()


def test_what_cannot_be_sent_to_a_worker_is_refused() -> None:
    rows = Rows(8)
    rows.lock = threading.Lock()  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="split train cannot be sent to worker processes .*lock.*set data.workers: 0"):
        loader_of({"train": rows}, 1).batch(0)


@pytest.mark.parametrize("how", ["killed", "leave"])
def test_no_worker_is_left_behind(how: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.single.data.own.own_process", how],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2
    if how == "killed":
        process.kill()
    assert process.wait(120) == (-signal.SIGKILL if how == "killed" else 1)
    deadline = time.monotonic() + 60
    while not all(map(is_gone, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(map(is_gone, pids))
