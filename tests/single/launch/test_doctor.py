"""The doctor: what it finds wrong, and a look at this machine alone and under mpirun."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.typing import NDArray

from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.comm.topology import arrange
from hpcsgd.launch.allreduce import Sample, time_allreduce
from hpcsgd.launch.doctor import doubtful, doubtful_locks, examine, run_doctor, wrong
from hpcsgd.launch.probes import Facts, try_locks

ROOT = Path(__file__).resolve().parents[3]
LAUNCH_VARIABLES = ("SLURM", "OMPI_", "PMI", "PRTE_", "MV2_")


def ranks(nodes: str = "aabb", **changes: object) -> list[Facts]:
    """Ranks without a fault on nodes of these letters, each with its own core and GPU; ``changes`` for all."""
    return [
        dataclasses.replace(
            Facts(
                place=place,
                host=place.node,
                cores=f"{4 * place.local_rank}-{4 * place.local_rank + 3}",
                num_cores=4,
                device=f"GPU {place.node}{place.local_rank}",
                visible_gpus=place.local_size,
                omp_threads="1",
                mpi="an MPI",
                allreduce="ring",
                thread_level="multiple",
                mpi_cuda="no",
                horovod="0.28.1 with mpi",
                versions="torch 2",
                clock_offset=0.0,
                clock_error=1e-6,
            ),
            **changes,  # type: ignore[arg-type]
        )
        for place in arrange(list(nodes))
    ]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No launcher, no Slurm."""
    for name in [name for name in os.environ if name.startswith(LAUNCH_VARIABLES)]:
        monkeypatch.delenv(name)


def test_ranks_without_a_fault(alone: None) -> None:
    assert [*wrong(ranks(), share_gpu=False), *doubtful(ranks())] == []


def test_two_ranks_on_one_gpu() -> None:
    shared = ranks(device="H100 uuid-1")
    errors = list(wrong(shared, share_gpu=False))
    assert len(errors) == 1 and "ranks [0, 1] would share one GPU (H100 uuid-1 on a)" in errors[0]
    assert list(wrong(shared, share_gpu=True)) == []
    assert list(wrong(ranks(device="cpu"), share_gpu=False)) == []


def test_ranks_that_do_not_run_the_same() -> None:
    differing = ranks()
    differing[2] = dataclasses.replace(differing[2], versions="torch 3")
    assert list(wrong(differing, share_gpu=False)) == ["the ranks do not run the same: 3 ranks torch 2; 1 rank torch 3"]


def test_a_broken_horovod() -> None:
    broken = ranks(horovod="!0.28.1 with mpi: it sees rank 0 of 1")
    assert list(wrong(broken, share_gpu=False)) == ["Horovod (rank 0): 0.28.1 with mpi: it sees rank 0 of 1"]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (ranks(thread_level="funneled"), "thread level is funneled"),
        (ranks("aaab"), "different numbers of ranks: 3 on a, 1 on b"),
        (ranks("aa", cores="0", num_cores=1), "a: 2 ranks share core(s) 0"),
        (ranks("aa", num_cores=3), "rank 0 has a GPU and 3 core(s): its threads want 4"),
        (ranks("aa", cores="0-3"), "rank 0 has a GPU and 2 core(s)"),
        (ranks("aa", visible_gpus=4), "a: 2 ranks for 4 GPUs"),
        (ranks("aa", clock_error=0.002), "known to 2.0 ms only"),
    ],
)
def test_what_may_not_be_meant(alone: None, facts: list[Facts], said: str) -> None:
    warnings = list(doubtful(facts))
    assert len(warnings) == 1 and said in warnings[0]


def test_ranks_that_share_cores_enough_for_all(alone: None) -> None:
    assert list(doubtful(ranks("aa", cores="0-7", num_cores=8))) == []
    assert list(doubtful(ranks("aa", cores="0-3", device="cpu"))) == []


def test_a_process_of_a_job_without_a_launcher(alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    assert "the job is for 8 tasks, but this process was started alone" in next(iter(doubtful(ranks("a"))))
    assert list(doubtful(ranks("aa"))) == []


def test_locks_that_keep_nobody_out() -> None:
    locks = {"flock": {"a": "kept out", "b": "let in"}, "fcntl": {"a": "ENOLCK: No locks available", "b": "no file"}}
    said = list(doubtful_locks(locks, Path("runs")))
    assert len(said) == 3
    assert "flock in runs does not keep others out on b" in said[0]
    assert "fcntl in runs cannot be taken (ENOLCK" in said[1]
    assert "b does not see runs" in said[2]


def test_locks_of_one_process(tmp_path: Path) -> None:
    found = try_locks(SingleCommunicator(), arrange(["here"]), tmp_path)
    assert found == {"flock": {"here": "kept out"}, "fcntl": {"here": "can be taken"}}
    assert list(tmp_path.iterdir()) == []


class WrongSums(SingleCommunicator):
    """A communicator whose sums are right but for one element of large arrays."""

    def sum_(self, array: NDArray[Any]) -> None:
        if array.size >= 256:
            array[-1] += 1


def test_sums_are_checked() -> None:
    good = time_allreduce(SingleCommunicator(), torch.device("cpu"), 1024)
    assert [(sample.num_bytes, sample.right) for sample in good] == [(8, True), (1024, True)]
    bad = time_allreduce(WrongSums(), torch.device("cpu"), 1024)
    assert [sample.right for sample in bad] == [True, False]
    assert Sample(8, 2e-6, True).bytes_per_second == pytest.approx(4e6)


def test_one_process(alone: None, tmp_path: Path) -> None:
    text, errors = examine(SingleCommunicator(), tmp_path, "cpu", False, 8)
    assert list(errors) == []
    assert "0 of 1" in text and "one rank, nothing to sum" in text and "single process" in text


def test_a_rank_that_is_alone_among_many(alone: None) -> None:
    variables = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_ID": "1"}
    for rank, messages in (("0", 1), ("1", 0)):
        done = subprocess.run(
            [sys.executable, "-m", "hpcsgd", "doctor"],
            env=os.environ | variables | {"SLURM_PROCID": rank},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.count("srun started 2 processes, but MPI") == messages
        assert done.stderr.count("\n") == messages


def test_under_mpirun(alone: None, tmp_path: Path) -> None:
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMP_NUM_THREADS": "1"}
    words = ["doctor", "--run_dir", str(tmp_path), "--max_bytes", "1024", "--device", "cpu"]
    done = subprocess.run(
        ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", "2", sys.executable, "-m", "hpcsgd", *words],
        env=os.environ | allowed,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["0", "1"]
    assert "0 of 2" in lines[1] and "1 of 2" in lines[2]
    text = done.stdout
    assert "2 on 1 node\n" in text and text.count("kept out") == 2 and text.count("right") == 2
    assert "0 errors" in lines[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_not_there(alone: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(ValueError, match="this rank sees no GPU"):
        run_doctor(tmp_path, "cuda", False, 8)
