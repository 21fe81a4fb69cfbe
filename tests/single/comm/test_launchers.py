"""What launchers tell, each by its own variables."""

from __future__ import annotations

import pytest

from hpcsgd.comm.launchers import LAUNCHERS, Launcher, find_launch, launched_size, launcher_rank, refusal, tasks_asked

SLURM = {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}
ELASTIC = {"TORCHELASTIC_RUN_ID": "x"}


@pytest.mark.parametrize(
    ("variables", "size", "rank"),
    [
        ({}, None, None),
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}, 4, 3),
        ({"PMI_SIZE": "3", "PMI_RANK": "2"}, 3, 2),
        ({"MV2_COMM_WORLD_SIZE": "2", "MV2_COMM_WORLD_RANK": "0"}, 2, 0),
        ({"MPIRUN_NPROCS": "2", "MPIRUN_RANK": "1"}, 2, 1),
        ({"JSM_NAMESPACE_SIZE": "6", "JSM_NAMESPACE_RANK": "5"}, 6, 5),
        ({"FLUX_JOB_SIZE": "8", "FLUX_TASK_RANK": "7"}, 8, 7),
        # ibrun starts another launcher's ranks: MVAPICH's of two ages, Intel's, Open MPI's, in a job of Slurm's.
        ({"MVP_COMM_WORLD_SIZE": "4", "MVP_COMM_WORLD_RANK": "1", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"}, 4, 1),
        ({"MV2_COMM_WORLD_SIZE": "4", "MV2_COMM_WORLD_RANK": "1", "MPIRUN_RANK": "1", "MPIRUN_NPROCS": "4"}, 4, 1),
        ({"PMI_SIZE": "4", "PMI_RANK": "2", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, 4, 2),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "1"}, 8, 1),
        ({"HOROVOD_SIZE": "2", "HOROVOD_RANK": "1"}, 2, 1),
        ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}, 2, 1),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "node1"}, 2, 0),
        # Only the rank is told: MPI must say of how many.
        ({"PMIX_RANK": "1"}, None, 1),
        ({"PALS_RANKID": "3", "PALS_LOCAL_SIZE": "4"}, None, 3),
        ({"ALPS_APP_PE": "0"}, None, 0),
        # The innermost counts: mpirun inside a Slurm job, whose variable is the batch step's; torchrun inside srun.
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "PMIX_RANK": "3", **SLURM}, 4, 3),
        ({"WORLD_SIZE": "4", "RANK": "2", **ELASTIC, **SLURM}, 4, 2),
        # srun's ranks of a script that has set torch's variables for itself.
        ({"WORLD_SIZE": "8", "RANK": "1", "MASTER_ADDR": "n", "SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "1"}, 8, 1),
        # torchrun with one process, and what mpirun starts in it.
        ({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", **ELASTIC}, None, None),
        ({"WORLD_SIZE": "1", "RANK": "0", **ELASTIC, "PMI_SIZE": "2", "PMI_RANK": "1"}, 2, 1),
        # Set by hand, or left over.
        ({"RANK": "3"}, None, None),
        ({"WORLD_SIZE": "4"}, None, None),
        ({"WORLD_SIZE": "4", "RANK": "0"}, None, None),
        ({"WORLD_SIZE": "1", "RANK": "5", "LOCAL_RANK": "5"}, None, None),
        # A job's script, which is no task of a step.
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7"}, None, None),
    ],
)
def test_what_a_launcher_tells(variables: dict[str, str], size: int | None, rank: int | None) -> None:
    assert (launched_size(variables), launcher_rank(variables)) == (size, rank)


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda launcher: launcher.rank)
@pytest.mark.parametrize("value", ["", "abc", "-1", "1.5", "²", "٣", " 2", "9" * 5000])
def test_a_value_that_is_no_number_is_not_told(launcher: Launcher, value: str) -> None:
    right = dict.fromkeys(launcher.marks, "x") | {launcher.rank: "1"} | ({launcher.size: "2"} if launcher.size else {})
    assert find_launch(right) is not None
    assert launcher_rank(right | {launcher.rank: value}) is None
    assert launched_size(right | {launcher.size or "NONE": value}) is None


FLUX = {"FLUX_JOB_SIZE": "8", "FLUX_TASK_RANK": "7", "FLUX_TASK_LOCAL_ID": "3"}
JSM = {"JSM_NAMESPACE_SIZE": "6", "JSM_NAMESPACE_RANK": "5", "JSM_NAMESPACE_LOCAL_RANK": "2"}
PALS = {"PALS_RANKID": "3", "PALS_LOCAL_RANKID": "1", "PALS_LOCAL_SIZE": "2", "PMI_LOCAL_RANK": "1"}


@pytest.mark.parametrize(
    ("variables", "name", "size", "rank"),
    [
        ({**FLUX, "PMI_SIZE": "8", "PMI_RANK": "7"}, "flux run", 8, 7),
        ({**FLUX, "OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "7"}, "flux run", 8, 7),
        ({**JSM, "OMPI_COMM_WORLD_SIZE": "6", "OMPI_COMM_WORLD_RANK": "5", "PMIX_RANK": "5"}, "jsrun", 6, 5),
        ({**PALS, "PMI_SIZE": "4", "PMI_RANK": "3"}, "mpiexec of PALS", 4, 3),
        (PALS, "mpiexec of PALS", None, 3),
        # One process of theirs has started an mpirun of its own.
        ({**FLUX, "FLUX_JOB_SIZE": "1", "FLUX_TASK_RANK": "0", "PMI_SIZE": "2", "PMI_RANK": "1"}, "mpirun", 2, 1),
        ({**JSM, "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, "mpirun", 2, 1),
        ({**PALS, "PALS_RANKID": "0", "PMI_SIZE": "2", "PMI_RANK": "1"}, "mpirun", 2, 1),
    ],
)
def test_who_started_the_ranks_by_all_that_it_sets(
    variables: dict[str, str], name: str, size: int | None, rank: int
) -> None:
    launch = find_launch(variables)
    assert launch is not None
    assert (launch.launcher.name, launch.size, launch.rank) == (name, size, rank)


def test_no_processes_at_all_are_not_told() -> None:
    assert find_launch({"PMI_SIZE": "0"}) is None


@pytest.mark.parametrize(
    ("variables", "tells"),
    [
        ({"PMI_SIZE": "2", "PMI_RANK": "0"}, True),
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, False),
        ({"PMI_SIZE": "2"}, True),
        # The first process may be alone, as far as it knows; the second one is not.
        ({"PMIX_RANK": "1"}, True),
        ({"PMIX_RANK": "2"}, False),
        ({"PALS_RANKID": "0", "PALS_LOCAL_SIZE": "2"}, True),
        ({"PALS_RANKID": "1", "PALS_LOCAL_SIZE": "2"}, False),
    ],
)
def test_one_process_says_what_is_wrong(variables: dict[str, str], tells: bool) -> None:
    launch = find_launch(variables)
    assert launch is not None
    assert refusal(launch, "alone").tells is tells


def test_a_refusal_names_the_launcher_to_use() -> None:
    launch = find_launch({"WORLD_SIZE": "2", "RANK": "0", **ELASTIC})
    assert launch is not None
    assert str(refusal(launch, "alone")).startswith("torchrun started 2 processes, but alone: start them by mpirun -n")
    launch = find_launch({"PALS_RANKID": "1", "PALS_LOCAL_SIZE": "4"})
    assert launch is not None and "at least 4 processes" in str(refusal(launch, "alone"))


@pytest.mark.parametrize(
    ("variables", "asked"),
    [
        ({"SLURM_NTASKS": "4"}, None),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_ID": "1"}, 4),
        ({"SLURM_NTASKS": "many", "SLURM_JOB_ID": "1"}, None),
        ({"LSB_DJOB_NUMPROC": "6", "LSB_JOBID": "1"}, 6),
        ({"PBS_NP": "2", "PBS_JOBID": "1"}, 2),
    ],
)
def test_tasks_that_a_job_was_asked_for(variables: dict[str, str], asked: int | None) -> None:
    told = tasks_asked(variables)
    assert (told[0] if told is not None else None) == asked
