"""Make this process one with a pretend GPU, before it imports torch.

``device: cuda`` then works, on the CPU, with its numbers. Real are: all arithmetic, autograd with its thread for the
device and the streams that it keeps to, hooks in that thread, the package's own code. Emulated are streams and events
(every access is compared with those before by vector clocks), graphs, pinned memory, the current device of a thread.
There is no speed, no limit of memory, no cuDNN and no NCCL.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

from tests.pretend_gpu.guard import Guard, compiled

if TYPE_CHECKING:
    from tests.pretend_gpu.machine import Machine

LOCAL_RANK_VARIABLES = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")


@functools.cache
def activate() -> Machine:
    """Load the guard, import torch, and patch it; a second call gives the same machine."""
    # Autograd's thread of the device has a number of threads of its own.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    guard = Guard(compiled())

    from tests.pretend_gpu import copies, cuda, host, machine, tensor

    present = machine.begin(guard)
    local_rank = next((int(os.environ[name]) for name in LOCAL_RANK_VARIABLES if name in os.environ), 0)
    present.home = local_rank % guard.num_devices
    tensor.let_data_be_set()
    present.kept.append(copies.let_tensors_be_made())
    cuda.replace_cuda()
    host.watch_host()
    return present
