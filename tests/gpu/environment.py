"""What is here."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys

import torch

from hpcsgd.comm.device import core_list
from hpcsgd.run.kernels import gpu_versions
from hpcsgd.tasks.precision import float32_flags
from tests.gpu.check import Check

PACKAGES = ("torch", "torchvision", "triton", "numpy", "h5py", "mpi4py", "jsonargparse", "nvidia-ml-py", "pytest")
ASK_MPI = "from mpi4py import MPI; print(MPI.Get_library_version().splitlines()[0].strip('\\0'))"


def look(check: Check) -> None:
    """Card, versions, cores, MPI: what the figures depend on."""
    card = torch.cuda.get_device_properties(check.device) if check.on_gpu else None
    memory = {"memory_gib": card.total_memory / 2**30} if card is not None else {}
    check.row("device", card=card.name if card is not None else "cpu", **memory)
    versions = gpu_versions(check.device)
    if versions is not None:
        check.row("its libraries", **{name: str(value) for name, value in versions.items() if name != "tf32"})
    check.row("float32 as torch has it at the start", **float32_flags())
    check.row("Python and packages", python=platform.python_version(), **_packages())
    check.row("cores of this process", number=len(os.sched_getaffinity(0)), cores=core_list())
    asked = subprocess.run([sys.executable, "-c", ASK_MPI], capture_output=True, text=True, timeout=60, check=False)
    check.row("MPI", library=asked.stdout.strip()[:60] if asked.returncode == 0 else "none")


def _packages() -> dict[str, str]:
    """Their versions."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found
