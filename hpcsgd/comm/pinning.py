"""The algorithm by which MPI sums, pinned by the library's own variables before it starts.

Equal bits from run to run need one algorithm. Each library has its own list of names, and some end the process where
they are given a name that is not on it: so the library is asked first who it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping

OPEN_MPI = re.compile(r"Open MPI v(\d+)\.(\d+)")
MPICH = re.compile(r"MPICH Version:\s*(\d+)\.(\d+)")
"""MPICH's own; those that are made from it have other lists, and call themselves otherwise."""

CVAR = "MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM"
MPICH_NAMES = {
    "ring": "ring",
    "recursive_doubling": "recursive_doubling",
    "rabenseifner": "reduce_scatter_allgather",
}
MPICH_WITH_RING = (4, 1)
MPICH_WITH_NAMES = (3, 3)
"""The first versions that have ring, and that have any choice by name."""


def pinning(algorithm: str, library: str) -> tuple[dict[str, str], str]:
    """The variables that make a library sum by ``algorithm``, and what that comes to, in words.

    Args:
        algorithm: ``ring``, ``recursive_doubling``, ``rabenseifner``, or ``default``.
        library: what ``MPI_Get_library_version`` says.
    """
    if algorithm == "default":
        return {}, "default"
    if OPEN_MPI.match(library):
        # "han" would choose by message size and node; "tuned" obeys.
        return {
            "OMPI_MCA_coll": "^han",
            "OMPI_MCA_coll_tuned_use_dynamic_rules": "1",
            "OMPI_MCA_coll_tuned_allreduce_algorithm": algorithm,
        }, algorithm
    found = MPICH.match(library)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < MPICH_WITH_NAMES:
        name = " ".join(library.split("\n")[0].split()).strip("\0")
        return {}, f"default ({algorithm} cannot be pinned in {name})"
    if algorithm == "ring" and version < MPICH_WITH_RING:
        # It moves as few bytes.
        return {CVAR: MPICH_NAMES["rabenseifner"]}, f"rabenseifner (MPICH {version[0]}.{version[1]} has no ring)"
    return {CVAR: MPICH_NAMES[algorithm]}, algorithm


def pin_allreduce(algorithm: str, library: str, environment: MutableMapping[str, str] = os.environ) -> str:
    """Set the library's variables, where the user has not set them; what is in force then, in words.

    To be called before MPI starts.
    """
    wanted, words = pinning(algorithm, library)
    own = _set_by_user(wanted, environment)
    for name, value in wanted.items():
        environment.setdefault(name, value)
    return words if not own else f"as the environment says: {', '.join(f'{k}={v}' for k, v in own.items())}"


def _set_by_user(wanted: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that are there with another value."""
    return {name: environment[name] for name, value in wanted.items() if environment.get(name, value) != value}
