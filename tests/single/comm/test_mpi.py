"""What the launcher tells, the pinned allreduce, and the choice of a communicator; MPI itself is played."""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from collections.abc import Callable

import pytest

from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.comm.launchers import LAUNCHERS, launched_size
from hpcsgd.comm.mpi import MpiCommunicator, connect
from hpcsgd.comm.pinning import CVAR
from hpcsgd.comm.torch_ranks import find_torch_ranks
from hpcsgd.config import CommConfig
from hpcsgd.errors import LaunchError, UsageError

TOLD = {name for launcher in LAUNCHERS for name in (launcher.size, launcher.rank, *launcher.marks) if name}


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without a launcher, restored afterwards."""
    for name in (*TOLD, CVAR):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def play_mpi(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """A function that puts an mpi4py of ``size`` ranks in the place of the real one; gives what each start saw."""

    def play(size: int, *, runs: bool = False, fails: bool = False) -> list[str]:
        begun: list[str] = []

        def start(level: int) -> None:
            begun.append(os.environ.get(CVAR, ""))
            if fails:
                raise library.Exception("no transport")

        world = types.SimpleNamespace(Get_rank=lambda: 0, Get_size=lambda: size)
        library = types.SimpleNamespace(
            COMM_WORLD=world, IN_PLACE=None, MAX=None, Get_library_version=lambda: "MPICH Version:\t4.2\nbuilt\0"
        )
        library.Exception = RuntimeError
        library.ERR_PROC_FAILED = library.ERR_PROC_FAILED_PENDING = library.ERR_REVOKED = 1
        library.Is_initialized, library.Init_thread, library.THREAD_MULTIPLE = lambda: runs, start, 3
        settings = types.SimpleNamespace(thread_level="multiple", threads=True)
        monkeypatch.setitem(sys.modules, "mpi4py", types.SimpleNamespace(MPI=library, rc=settings))
        if runs:
            monkeypatch.setitem(sys.modules, "mpi4py.MPI", library)
        else:
            monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
        return begun

    return play


def test_the_processes_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched_size() is None
    monkeypatch.setenv("PMI_SIZE", "5")
    assert launched_size() == 5


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


@pytest.mark.parametrize(
    "variables", [{"PMI_SIZE": "3"}, {"PMIX_RANK": "1"}, {"PALS_RANKID": "0", "PALS_LOCAL_SIZE": "2"}]
)
def test_a_launcher_of_another_mpi_is_refused(
    monkeypatch: pytest.MonkeyPatch, play_mpi: Callable[..., list[str]], variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    play_mpi(1)
    with pytest.raises(LaunchError, match=r"processes, but MPI \(MPICH Version: 4.2\) sees 1"):
        connect(CommConfig())


def test_ranks_whose_number_mpi_alone_tells(
    monkeypatch: pytest.MonkeyPatch, play_mpi: Callable[..., list[str]]
) -> None:
    monkeypatch.setenv("PMIX_RANK", "1")
    play_mpi(3)
    assert connect(CommConfig()).size == 3


def test_torchrun_is_refused_before_mpi_starts(
    monkeypatch: pytest.MonkeyPatch, play_mpi: Callable[..., list[str]]
) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    begun = play_mpi(1)
    with pytest.raises(LaunchError, match=r"started 2 processes.*mpirun -n N hpcsgd"):
        connect(CommConfig())
    with pytest.raises(LaunchError, match=r"started 2 processes, but .*init_process_group was not called"):
        find_torch_ranks()
    assert begun == []


def test_the_launchers_ranks_are_connected(monkeypatch: pytest.MonkeyPatch, play_mpi: Callable[..., list[str]]) -> None:
    monkeypatch.setenv("PMI_SIZE", "3")
    begun = play_mpi(3)
    comm = connect(CommConfig(allreduce_algorithm="rabenseifner"))
    assert isinstance(comm, MpiCommunicator)
    assert (comm.rank, comm.size, comm.library) == (0, 3, "MPICH Version: 4.2")
    assert begun == ["reduce_scatter_allgather"] and comm.allreduce_algorithm == "rabenseifner"


def test_an_mpi_that_runs_already_is_taken_as_it_is(
    monkeypatch: pytest.MonkeyPatch, play_mpi: Callable[..., list[str]]
) -> None:
    begun = play_mpi(3, runs=True)
    comm = connect(CommConfig())
    assert (comm.size, begun) == (3, [])
    assert comm.allreduce_algorithm == "default (MPI was started before)" and CVAR not in os.environ


def test_an_mpi_that_does_not_start_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch, play_mpi: Callable[..., list[str]]
) -> None:
    monkeypatch.setenv("PMI_SIZE", "3")
    play_mpi(3, fails=True)
    with pytest.raises(UsageError, match="MPI does not start: no transport"):
        connect(CommConfig())
