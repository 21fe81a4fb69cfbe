"""What the launcher tells, the pinned allreduce, and the choice of a communicator; MPI itself is played."""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from collections.abc import Callable

import pytest

from hpcsgd.comm import mpi
from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.comm.mpi import SIZE_VARIABLES, MpiCommunicator, connect, launched_size, pin_allreduce_algorithm
from hpcsgd.config import CommConfig
from hpcsgd.errors import UsageError

PINNED = ("OMPI_MCA_coll", "OMPI_MCA_coll_tuned_use_dynamic_rules", "OMPI_MCA_coll_tuned_allreduce_algorithm")
CVAR = "MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM"


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without a launcher, restored afterwards."""
    for name in (*SIZE_VARIABLES, *PINNED, CVAR):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def play_mpi(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A function that puts an mpi4py of ``size`` ranks in the place of the real one."""

    def play(size: int) -> None:
        world = types.SimpleNamespace(Get_rank=lambda: 0, Get_size=lambda: size)
        library = types.SimpleNamespace(
            COMM_WORLD=world, IN_PLACE=None, MAX=None, Get_library_version=lambda: "Play MPI 1.0\nbuilt\0"
        )
        library.Exception = RuntimeError
        library.ERR_PROC_FAILED = library.ERR_PROC_FAILED_PENDING = library.ERR_REVOKED = 1
        monkeypatch.setitem(sys.modules, "mpi4py", types.SimpleNamespace(MPI=library))
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())

    return play


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, 4),
        ({"PMI_SIZE": "3"}, 3),
        ({"MV2_COMM_WORLD_SIZE": "2"}, 2),
        ({"SLURM_STEP_NUM_TASKS": "8"}, 8),
        # mpirun inside a Slurm job: Slurm's variable is the batch step's.
        ({"OMPI_COMM_WORLD_SIZE": "4", "SLURM_STEP_NUM_TASKS": "1"}, 4),
        ({"OMPI_COMM_WORLD_SIZE": "", "PMI_SIZE": "x", "SLURM_STEP_NUM_TASKS": "2"}, 2),
        ({"SLURM_NTASKS": "8"}, None),
    ],
)
def test_size_that_the_launcher_tells(variables: dict[str, str], expected: int | None) -> None:
    assert launched_size(variables) == expected


def test_the_processes_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched_size() is None
    monkeypatch.setenv("PMI_SIZE", "5")
    assert launched_size() == 5


@pytest.mark.parametrize(
    ("algorithm", "mpich"),
    [
        ("ring", "ring"),
        ("recursive_doubling", "recursive_doubling"),
        ("rabenseifner", "reduce_scatter_allgather"),
    ],
)
def test_pinning_sets_the_variables_of_both_libraries(algorithm: str, mpich: str) -> None:
    variables = pin_allreduce_algorithm(algorithm)
    assert variables == dict(zip((*PINNED, CVAR), ("^han", "1", algorithm, mpich), strict=True))
    assert {name: os.environ[name] for name in variables} == variables


def test_pinning_by_default_sets_nothing() -> None:
    assert pin_allreduce_algorithm("default") == {}
    assert not set(os.environ) & {*PINNED, CVAR}


def test_what_the_user_has_set_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_MCA_coll_tuned_allreduce_algorithm", "linear")
    assert pin_allreduce_algorithm("ring")["OMPI_MCA_coll_tuned_allreduce_algorithm"] == "linear"


def test_without_a_launcher_there_is_no_mpi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)  # importing it would fail
    assert isinstance(connect(CommConfig()), SingleCommunicator)


def test_one_process_needs_no_mpi4py(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert isinstance(connect(CommConfig()), SingleCommunicator)


def test_several_processes_without_mpi4py_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "3")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"started 3 processes, but mpi4py is not installed"):
        connect(CommConfig())


def test_a_launcher_of_another_mpi_is_refused(monkeypatch: pytest.MonkeyPatch, play_mpi: Callable[[int], None]) -> None:
    monkeypatch.setenv("PMI_SIZE", "3")
    play_mpi(1)
    with pytest.raises(UsageError, match=r"started 3 processes, but MPI \(Play MPI 1.0\) sees 1"):
        connect(CommConfig())


def test_the_launchers_ranks_are_connected(monkeypatch: pytest.MonkeyPatch, play_mpi: Callable[[int], None]) -> None:
    monkeypatch.setenv("PMI_SIZE", "3")
    play_mpi(3)
    comm = connect(CommConfig(allreduce_algorithm="rabenseifner"))
    assert isinstance(comm, MpiCommunicator)
    assert (comm.rank, comm.size, comm.library) == (0, 3, "Play MPI 1.0")
    assert os.environ[CVAR] == "reduce_scatter_allgather"
    assert mpi.launched_size() == 3
