"""Which of its kernels torch takes on a GPU, and with what it was made."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from hpcsgd.config import RunConfig
from hpcsgd.errors import KernelError, UsageError

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
WORKSPACES = (":4096:8", ":16:8")
"""Those with which cuBLAS adds in the same order at every call; the first is set where none is."""

HAS_NONE = "does not have a deterministic implementation"


@contextmanager
def choosing_kernels(config: RunConfig) -> Iterator[None]:
    """Inside, torch takes the kernels on GPUs that ``config`` asks for; afterwards those of before. On CPUs it is free.

    Raises:
        UsageError: the environment has a workspace of cuBLAS that does not fit.
        KernelError: there is no deterministic kernel for something in the model.
    """
    if config.device == "cpu" or not torch.cuda.is_available():
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    if config.deterministic:
        if os.environ.setdefault(WORKSPACE, WORKSPACES[0]) not in WORKSPACES:
            raise UsageError(
                f"deterministic is true, and {WORKSPACE} is {os.environ[WORKSPACE]}: it must be one of "
                f"{', '.join(WORKSPACES)}, or unset"
            )
        torch.use_deterministic_algorithms(True)
        # What nothing reads needs no kernel.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = config.cudnn_benchmark
    try:
        yield
    except RuntimeError as error:
        if config.deterministic and HAS_NONE in str(error):
            what = str(error).partition(HAS_NONE)[0].strip()
            raise KernelError(
                f"deterministic is true, but torch has no deterministic kernel for {what}: set it to false, or change "
                "the model"
            ) from error
        raise
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


def gpu_versions(device: torch.device) -> dict[str, Any] | None:
    """What the figures of a GPU depend on, for the provenance; None on a CPU.

    Returns:
        Values that JSON can hold: ``cuda`` (or ``rocm``), ``cudnn``, ``nccl``, ``driver``; ``tf32`` of products and
        convolutions; ``deterministic`` and ``cudnn_benchmark`` as they are.
    """
    if device.type != "cuda":
        return None
    nccl = torch.cuda.nccl.version() if torch.distributed.is_nccl_available() else None
    return {
        "cuda": torch.version.cuda,
        "rocm": torch.version.hip,
        "cudnn": torch.backends.cudnn.version(),
        "nccl": ".".join(map(str, nccl)) if nccl else None,
        "driver": driver_version(),
        "tf32": {"products": torch.backends.cuda.matmul.allow_tf32, "convolutions": torch.backends.cudnn.allow_tf32},
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }


def driver_version(
    places: tuple[Path, ...] = (Path("/proc/driver/nvidia/version"), Path("/sys/module/amdgpu/version")),
) -> str | None:
    """The version of the GPU's driver, as Linux shows it; None where it does not."""
    for place in places:
        try:
            found = re.search(r"\d+\.\d+(\.\d+)*", place.read_text())
        except OSError:
            continue
        if found:
            return found[0]
    return None
