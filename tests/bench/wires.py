"""An averaging of one learner a rank by each wire, and the bytes that a rank gives to MPI for it."""

from __future__ import annotations

import sys
from functools import partial

import torch
from averaging import Averaging, Shape

from hpcsgd.algorithms.wires import make_wire
from hpcsgd.comm.backends import make_reducer
from hpcsgd.comm.flat import layout
from hpcsgd.comm.guard import FiniteGuard
from hpcsgd.comm.mpi import MpiCommunicator
from hpcsgd.config import CommConfig
from hpcsgd.optim.rows import Rows

WIRES = ("bfloat16", "float16", "int8", "sign", "ef_sign", "top_k")


def variants(comm: MpiCommunicator, shapes: list[Shape]) -> list[Averaging]:
    """The wires for a model of these ``shapes``, 1 % of it for ``top_k``; says their bytes. Collective."""
    slots, numel = layout([torch.empty(shape) for shape in shapes])
    own = torch.randn(numel, generator=torch.Generator().manual_seed(comm.rank))
    rows = Rows(own[None], (), 0, slots)
    reducer = make_reducer(CommConfig(), comm, rows.parameters.device)
    reducer.guard = FiniteGuard(comm)
    made = []
    for name in ("full", *WIRES):
        wire = make_wire(CommConfig(wire=name), rows, reducer)
        wire.place(torch.zeros_like(rows.parameters))
        rows.parameters.copy_(own)
        num_bytes = wire.average_(rows, ())
        if comm.rank == 0:
            print(f"{name}: {num_bytes} bytes a rank", file=sys.stderr, flush=True)
        made.append(Averaging(name, partial(wire.average_, rows, ()), lambda: rows.parameters.copy_(own), []))
    return made
