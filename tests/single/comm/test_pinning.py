"""The allreduce algorithm is pinned by a name that the MPI library at hand has."""

from __future__ import annotations

import pytest

from hpcsgd.comm.pinning import CVAR, pin_allreduce, pinning

OPEN_MPI = "Open MPI v5.0.11, package: Open MPI root@host, ident: 5.0.11"
TUNED = "OMPI_MCA_coll_tuned_allreduce_algorithm"


def mpich(version: str) -> str:
    return f"MPICH Version:\t{version}\nMPICH Release date:\tThu Apr  7 12:34:45 CDT 2022\n\0"


@pytest.mark.parametrize("algorithm", ["ring", "recursive_doubling", "rabenseifner"])
def test_open_mpi_has_all(algorithm: str) -> None:
    environment: dict[str, str] = {}
    assert pin_allreduce(algorithm, OPEN_MPI, environment) == algorithm
    assert environment == {"OMPI_MCA_coll": "^han", "OMPI_MCA_coll_tuned_use_dynamic_rules": "1", TUNED: algorithm}


@pytest.mark.parametrize(
    ("version", "algorithm", "value", "said"),
    [
        ("4.0.2", "ring", "reduce_scatter_allgather", "rabenseifner (MPICH 4.0 has no ring)"),
        ("3.4.1", "ring", "reduce_scatter_allgather", "rabenseifner (MPICH 3.4 has no ring)"),
        ("4.1", "ring", "ring", "ring"),
        ("4.1b1", "ring", "ring", "ring"),
        ("10.0", "ring", "ring", "ring"),
        ("4.0.2", "recursive_doubling", "recursive_doubling", "recursive_doubling"),
        ("5.0.0", "rabenseifner", "reduce_scatter_allgather", "rabenseifner"),
    ],
)
def test_mpich_has_ring_from_4_1_on(version: str, algorithm: str, value: str, said: str) -> None:
    assert pinning(algorithm, mpich(version)) == ({CVAR: value}, said)


@pytest.mark.parametrize(
    "library",
    [
        mpich("3.2"),
        "Intel(R) MPI Library 2021.9 for Linux* OS\n",
        "MVAPICH2 Version      :\t2.3.7\n",
        "MVAPICH Version:\t4.0\n",
        "MPI VERSION    : CRAY MPICH version 8.1.28.15 (ANL base 3.4a2)\n",
        "IBM Spectrum MPI, Version 10.4\n",
        "",
    ],
)
@pytest.mark.parametrize("algorithm", ["ring", "rabenseifner"])
def test_a_library_with_a_list_that_is_not_known_is_left_alone(library: str, algorithm: str) -> None:
    variables, said = pinning(algorithm, library)
    assert variables == {}
    assert said.startswith(f"default ({algorithm} cannot be pinned in {library.split()[0] if library else ''}")


def test_default_sets_nothing() -> None:
    assert pinning("default", OPEN_MPI) == pinning("default", mpich("4.2")) == ({}, "default")


def test_what_the_user_has_set_wins_and_is_named() -> None:
    environment = {TUNED: "linear"}
    assert pin_allreduce("ring", OPEN_MPI, environment) == f"as the environment says: {TUNED}=linear"
    assert environment[TUNED] == "linear" and environment["OMPI_MCA_coll"] == "^han"
    environment = {CVAR: "reduce_scatter_allgather"}
    assert pin_allreduce("rabenseifner", mpich("4.0.2"), environment) == "rabenseifner"
