"""What needs processes of its own: the tests that are marked for a GPU, and ranks under mpirun."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hpcsgd.record.reader import load_run
from tests.gpu.check import Check
from tests.parallel.ranks import ROOT, command, environment

TESTS_SECONDS = 60.0
RANKS_SECONDS = 60.0
FIRST_STEADY = 5


def run_tests(check: Check) -> None:
    """Do the tests that need a GPU pass?"""
    if not check.is_real:
        check.left_out("pytest -m gpu", "there is no GPU")
        return
    words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    code, text = _run(check, [*words, *files_with_mark()], TESTS_SECONDS)
    lines = text.strip().splitlines() or ["nothing"]
    told = next((line for line in reversed(lines) if " passed" in line or " failed" in line), lines[-1])
    check.row("pytest -m gpu", "ok" if code == 0 and " passed" in told else "failed", told[:150])


def files_with_mark() -> list[str]:
    """The files that have tests for a GPU: importing all the others takes longer than these tests."""
    files = sorted((ROOT / "tests/single").rglob("test_*.py"))
    return [str(file.relative_to(ROOT)) for file in files if "@pytest.mark.gpu" in file.read_text()]


@dataclass(frozen=True)
class Ranks:
    """A run under mpirun.

    Attributes:
        what: for the table.
        number: of ranks.
        words: of the command line.
        refused: by which the message that refuses it is known; empty where it trains.
    """

    what: str
    number: int
    words: Sequence[str]
    refused: str = ""


SHARED = ("--share_gpu=true",)
ON_ANY = (
    Ranks("sync_sgd by MPI, two ranks", 2, (*SHARED, "--comm.allreduce=mpi")),
    Ranks("local_sgd of every step, two ranks", 2, (*SHARED, "--algorithm.name=local_sgd")),
    Ranks(
        "sma, two learners each, summed behind",
        2,
        (*SHARED, "--algorithm.name=sma", "--learners_per_rank=2", "--engine=auto", "--comm.overlap=true"),
    ),
    Ranks("sync_sgd by torch, one rank", 1, ("--comm.allreduce=torch",)),
)
ON_A_GPU = (
    Ranks("sync_sgd by NCCL, two ranks on one GPU", 2, (*SHARED, "--comm.allreduce=torch"), refused="share one GPU"),
    Ranks("two ranks on one GPU, unasked", 2, (), refused="would share one GPU"),
)


def run_ranks(check: Check) -> None:
    """Do ranks under mpirun train on one GPU, and is what cannot be refused?"""
    if check.pretend or shutil.which("mpirun") is None:
        check.left_out("ranks", "no other process sees a pretended GPU" if check.pretend else "there is no mpirun")
        return
    for ranks in (*(ON_ANY[:1] if check.tiny else ON_ANY), *(ON_A_GPU if check.on_gpu else ())):
        if check.has_time(20, ranks.what):
            _run_ranks(check, ranks)


def _run_ranks(check: Check, ranks: Ranks) -> None:
    """The row of a run."""
    with tempfile.TemporaryDirectory() as folder:
        code, text = _run(
            check,
            command(ranks.number, "-m", "hpcsgd", "train", *_words(check), *ranks.words, f"--run_dir={folder}/run"),
            RANKS_SECONDS,
        )
        if ranks.refused:
            check.row(
                ranks.what, "ok" if code and ranks.refused in text else "failed", f"code {code}: it is to be refused"
            )
        elif code:
            lines = [line for line in text.splitlines() if "rror" in line] or text.splitlines() or ["nothing"]
            check.row(ranks.what, "failed", f"code {code}: {lines[0][:160]}")
        else:
            steps = load_run(f"{folder}/run").iterations.query(f"step >= {FIRST_STEADY}")
            seconds = steps.groupby("step")["wall_seconds"].max().median()
            check.row(ranks.what, "ok", milliseconds=1e3 * float(seconds))


def _words(check: Check) -> list[str]:
    """Of a run of some steps."""
    batch, model, steps = (4, "resnet8", 8) if check.tiny else (128, "resnet20", 60)
    values = {
        "device": check.device.type,
        "data.name": "synthetic",
        "data.synthetic_shape": "[3,32,32]",
        "data.synthetic_train_samples": "4096",
        "local_batch_size": str(batch),
        "model.name": model,
        "max_steps": str(steps),
        "epochs": "1000",
        "evaluate.every_epochs": "0",
        "progress": "none",
        "log.save_model": "false",
    }
    return [f"--{key}={value}" for key, value in values.items()]


def _run(check: Check, words: Sequence[str], seconds: float) -> tuple[int, str]:
    """Run a command for at most so long; its exit code and all that it said."""
    limit = min(seconds, max(check.clock.left() - 5, 1.0)) if not check.tiny else max(check.clock.left(), 1.0)
    begin = time.monotonic()
    try:
        done = subprocess.run(
            words,
            cwd=ROOT,
            env=environment(PYTHONPATH=str(ROOT)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit,
            check=False,
        )
        code, text = done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        said = error.stdout or b""
        text = said.decode(errors="replace") if isinstance(said, bytes) else said
        code, text = -1, f"{text}\nError: no end after {time.monotonic() - begin:.0f} s"
    print(f"--- {' '.join(words)}\n{text}", flush=True)
    return code, text
