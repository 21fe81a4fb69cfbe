"""What all ranks are taken to have alike is compared before they begin: else they would wait for each other, or each
would train another thing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import hpcsgd
from hpcsgd.comm.communicator import Communicator
from hpcsgd.errors import UsageError

PACKAGES = ("torch", "numpy", "mpi4py", "horovod")
VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG",
    "HOROVOD_CPU_OPERATIONS",
    "HOROVOD_FUSION_THRESHOLD",
    "HOROVOD_HIERARCHICAL_ALLREDUCE",
    "NCCL_ALGO",
    "NCCL_PROTO",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
PREFIXES = ("MPIR_CVAR_", "OMPI_MCA_coll")
"""Variables that decide how ranks sum, or how a GPU multiplies."""


def check_same(comm: Communicator, what: str, values: Mapping[str, object]) -> None:
    """Compare ``values`` over the ranks. Collective.

    Args:
        comm: the ranks.
        what: what they are, in words.
        values: plain ones, by name, written alike where they are alike.

    Raises:
        UsageError: on all ranks: names what differs first, with both values.
    """
    digests = comm.allgather_object(hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest())
    if len(set(digests)) == 1:
        return
    everyone = comm.allgather_object(dict(values))
    first = everyone[0]
    for rank, found in enumerate(everyone):
        for name in sorted(first.keys() | found.keys()):
            if (here := found.get(name)) != (there := first.get(name)):
                raise UsageError(
                    f"the ranks differ in {what}: {name} is {_in_words(there)} on rank 0, {_in_words(here)} on rank "
                    f"{rank}: give all of them the same"
                )


def check_programs(comm: Communicator) -> None:
    """Compare what the ranks run, and the variables that change results. Collective.

    Raises:
        UsageError: see :func:`check_same`.
    """
    versions: dict[str, object] = {"hpcsgd": hpcsgd.__version__} | {name: _version(name) for name in PACKAGES}
    check_same(comm, "their versions", versions)
    variables = {name: value for name, value in os.environ.items() if name in VARIABLES or name.startswith(PREFIXES)}
    check_same(comm, "their environment", variables)


def _version(package: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _in_words(value: object) -> str:
    """A value as a message has it."""
    return "not there" if value is None else repr(value)
