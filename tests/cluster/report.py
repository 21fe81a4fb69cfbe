"""A rank of a job: says where it lives, by MPI, by hpcsgd and by what the launcher set, as a line of JSON."""

from __future__ import annotations

import json
import os
from dataclasses import asdict

import numpy as np

from hpcsgd.comm.mpi import connect
from hpcsgd.comm.topology import discover
from hpcsgd.config import CommConfig


def main() -> None:
    """Collective."""
    comm = connect(CommConfig())
    total = np.full(3, float(comm.rank + 1))
    comm.sum_(total)
    place = discover(comm)[comm.rank]
    report = {
        "topology": asdict(place),
        "sum": total.tolist(),
        "num_sharing_memory": sharing_memory(),
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }
    lines = comm.allgather_object(report)
    if comm.rank == 0:
        for line in lines:
            print("REPORT " + json.dumps(line), flush=True)


def sharing_memory() -> int:
    """How many ranks MPI thinks are on this rank's node."""
    from mpi4py import MPI

    return MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED).Get_size()


main()
