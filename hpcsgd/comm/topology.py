"""Where a rank lives: its node, its place there, its block.

The node is ``SLURMD_NODENAME``, else the host's name; all else follows from one allgather of it. Neither MPI's
shared-memory split nor Slurm's local id can be trusted under every launcher.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from hpcsgd.comm.communicator import Communicator
from hpcsgd.errors import UsageError


@dataclass(frozen=True)
class Topology:
    """The place of one rank."""

    rank: int
    world_size: int
    node: str
    node_index: int
    num_nodes: int
    local_rank: int
    local_size: int
    block: int
    num_blocks: int


def arrange(nodes: list[str], block_size: int | None = None) -> list[Topology]:
    """The places of all ranks, from the node's name of each.

    A block is a node, or ``block_size`` ranks following each other.

    Raises:
        UsageError: ``block_size`` does not divide the number of ranks.
    """
    size = len(nodes)
    names = list(dict.fromkeys(nodes))
    if block_size is not None and size % block_size:
        valid = [n for n in range(1, size + 1) if size % n == 0]
        raise UsageError(
            f"algorithm.block_size is {block_size}, which does not divide {size} ranks: choose one of {valid}"
        )
    places = []
    for rank, node in enumerate(nodes):
        node_index = names.index(node)
        places.append(
            Topology(
                rank=rank,
                world_size=size,
                node=node,
                node_index=node_index,
                num_nodes=len(names),
                local_rank=nodes[:rank].count(node),
                local_size=nodes.count(node),
                block=node_index if block_size is None else rank // block_size,
                num_blocks=len(names) if block_size is None else size // block_size,
            )
        )
    return places


def discover(comm: Communicator, block_size: int | None = None) -> list[Topology]:
    """The places of all ranks; this rank's is at its own index. Collective."""
    return arrange(comm.allgather_object(node_name()), block_size)


def node_name() -> str:
    """The name of this rank's node."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()
