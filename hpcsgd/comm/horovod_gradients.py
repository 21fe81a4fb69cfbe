"""Gradient allreduce by Horovod."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from hpcsgd.comm.gradients import Buckets, GradientAllreduce, told_as_start
from hpcsgd.errors import UsageError

MPI_LIBRARY = re.compile(r"/(lib(?:mpi|mpich|mpi_cray\w*)\.so[.\d]*)\s*$", re.MULTILINE)

SETTINGS = {"HOROVOD_CONTROLLER": ("mpi",), "HOROVOD_CPU_OPERATIONS": ("mpi", "gloo", "ccl")}


def check_same_mpi(maps: Path = Path("/proc/self/maps")) -> None:
    """See that Horovod, once imported, has brought no other MPI library than mpi4py's: its start would end the process.

    Args:
        maps: what the process has loaded, as Linux shows it.

    Raises:
        UsageError: two MPI libraries are loaded.
    """
    loaded = sorted({found[1] for found in MPI_LIBRARY.finditer(maps.read_text(errors="replace"))})
    if len(loaded) > 1:
        raise UsageError(
            f"Horovod was built with another MPI than mpi4py ({' and '.join(loaded)} are loaded): build it again with "
            "the MPI at hand, or set comm.allreduce: mpi"
        )


def check_settings(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse values of Horovod's variables that end the process where it starts.

    Raises:
        UsageError: names the variable and what it may be.
    """
    for name, valid in SETTINGS.items():
        value = environment.get(name, "")
        if value and value.lower() not in valid:
            raise UsageError(f"{name} is {value}: Horovod over MPI wants {' or '.join(valid)}, or leave it unset")


def prepare_horovod(*, on_gpu: bool) -> None:
    """Import Horovod, and look for what would end the process where it starts.

    Args:
        on_gpu: it is to sum tensors that are on a GPU.

    Raises:
        UsageError: it cannot be imported, or would not start.
    """
    try:
        import horovod.torch as hvd
    except (ImportError, OSError) as error:
        text = " ".join(str(error).split())
        raise UsageError(
            f"Horovod cannot be imported ({text}): build it again for this torch, or set comm.allreduce: mpi"
        ) from error
    if on_gpu and not hvd.nccl_built():
        # It would copy to the host before the GPU is done, and then end the process.
        raise UsageError(
            "comm.allreduce is horovod, which was built without NCCL and cannot sum on GPUs: build it again with "
            "HOROVOD_GPU_OPERATIONS=NCCL (see slurm/README.md), or choose torch or mpi"
        )
    check_same_mpi()
    check_settings()


class HorovodGradients(GradientAllreduce):
    """Buckets summed by Horovod's background thread.

    Horovod's own tensor fusion is off: our buckets are fused already, as views of one buffer, with no copy; and what is
    summed together does not depend on timing.
    """

    name = "horovod"

    def __init__(self, buckets: Buckets, world: Any, *, overlap: bool) -> None:
        """
        Args:
            buckets: the gradient.
            world: mpi4py's communicator of all ranks.
            overlap: launch buckets during the backward pass.
        """
        os.environ.setdefault("HOROVOD_FUSION_THRESHOLD", "0")
        if buckets.flat.device.type == "cuda":
            # The queue waits for a sum in place of the host, and a bucket for less than a millisecond.
            os.environ.setdefault("HOROVOD_ENABLE_ASYNC_COMPLETION", "1")
            os.environ.setdefault("HOROVOD_CYCLE_TIME", "0.1")
        import horovod.torch as hvd

        with told_as_start("Horovod", "HOROVOD_*"):
            hvd.init(comm=world)
        assert hvd.size() == world.Get_size(), "Horovod sees other ranks than MPI"
        super().__init__(buckets, overlap=overlap)
        self._hvd = hvd
        self._handles: list[int] = []

    def launch(self, index: int, bucket: Tensor) -> None:
        """Queue the bucket for the background thread."""
        self._handles.append(self._hvd.allreduce_async_(bucket, name=f"gradient.{index}", op=self._hvd.Sum))

    def wait(self) -> None:
        """Wait for every bucket."""
        for handle in self._handles:
            self._hvd.synchronize(handle)
        self._handles.clear()

    def shut_down(self) -> None:
        """End Horovod's thread."""
        self._hvd.shutdown()
