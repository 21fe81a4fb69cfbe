"""Whether MPI takes buffers that are on a GPU. Its own word first: one that does not ends the process in a trial."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from typing import Any

import torch

from hpcsgd.comm.communicator import Communicator
from hpcsgd.errors import UsageError

FUNCTIONS = {
    "cuda": ("MPIX_Query_cuda_support",),
    "rocm": ("MPIX_Query_rocm_support", "MPIX_Query_hip_support"),
}
"""Those of Open MPI and MPICH that say it."""

VARIABLES = ("MPICH_GPU_SUPPORT_ENABLED", "MV2_USE_CUDA", "I_MPI_OFFLOAD")
"""Those by which Cray MPICH, MVAPICH2 and Intel MPI are told to."""


def said_by_mpi(environment: Mapping[str, str] = os.environ) -> bool | None:
    """The MPI library's own word, by a function or by the variable that switches it on; None where there is none."""
    told = [environment[name] not in ("", "0") for name in VARIABLES if name in environment]
    if told:
        return any(told)
    library = mpi_library()
    for name in FUNCTIONS["rocm" if torch.version.hip else "cuda"]:
        if (function := getattr(library, name, None)) is not None:
            return bool(function())
    return None


def mpi_library() -> Any:
    """mpi4py's extension module, through which the functions of its MPI are found; None where it cannot be opened."""
    from mpi4py import MPI

    try:
        return ctypes.CDLL(MPI.__file__)
    except OSError:
        return None


def check_cuda_aware(comm: Communicator, device: torch.device, num_bytes: int) -> None:
    """See that MPI sums buffers on ``device``, of as many bytes as will be summed at once. Collective.

    Raises:
        UsageError: on all ranks, it does not.
    """
    answers = comm.allgather_object(said_by_mpi())
    if not all(answers):
        said = "says that it takes no GPU buffers" if False in answers else "does not say that it takes GPU buffers"
        raise UsageError(f"comm.cuda_aware is true, but {comm.library} {said}: set it to false")
    if not probe(comm, device, num_bytes):
        raise UsageError(f"comm.cuda_aware is true, but {comm.library} did not sum a GPU buffer: set it to false")


def probe(comm: Communicator, device: torch.device, num_bytes: int) -> bool:
    """Whether MPI really sums GPU buffers: a round trip with known values, agreed by all ranks. Collective.

    Small and large ones go by different ways: ``num_bytes`` should be as in use. An MPI that takes none may end the
    process here.
    """
    values = torch.full((max(1, num_bytes // 4),), float(comm.rank + 1), device=device)
    expected = comm.size * (comm.size + 1) / 2
    try:
        torch.cuda.current_stream(device).synchronize()
        comm.sum_(values)  # type: ignore[arg-type]
        right = bool((values == expected).all())
    except (RuntimeError, TypeError, ValueError, BufferError):
        right = False
    return all(comm.allgather_object(right))
