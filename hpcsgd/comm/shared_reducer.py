"""Sums and averages in memory that the ranks of a node share: each reads what the others hold, and writes it there.

A part of the buffer is a rank's to sum: it reads that part of every rank of the node, once, and writes the result to
each, once; no byte is copied on the way, and two barriers are all the talk. Between nodes, the ranks of equal place on
their nodes sum their parts by MPI (a lane); where nodes have different numbers of ranks, as many take part as the
smallest has.

On one node the bits are those of MPI's ring, chunk by chunk: block b of a chunk is added up in the order in which it
would go round from rank b. So it does not matter which of the two a start finds to be faster. Over several nodes the
orders differ, and a checkpoint keeps the choice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from hpcsgd.comm.communicator import Communicator
from hpcsgd.comm.guard import FiniteGuard, is_sound
from hpcsgd.comm.reduce import FlatReducer
from hpcsgd.comm.shared_memory import TOKEN, SharedMemory, notes_of, reach
from hpcsgd.comm.topology import discover
from hpcsgd.errors import reason

PIECE_BYTES = 1 << 18
"""What is summed at a time, for each of torch's threads: a rank's own and a sum of it stay in its cache."""

SAMPLE_BYTES = 32 << 20
"""What is averaged to see which way is faster, at most."""

REPEATS = 3
OWN_BAD, SOME_BAD = 0, 1
"""Places of the notes that a rank finds: its own part was not finite, and some rank's was not."""


class SharedReducer(FlatReducer):
    """Sums what lies in the shared memory there, and all else by MPI.

    Attributes:
        name: ``shared``, or ``mpi`` where that was found to be faster.
    """

    def __init__(
        self,
        comm: Communicator,
        chunk_bytes: int,
        memory: SharedMemory,
        contents: list[Tensor],
        node: Communicator,
        lane: Communicator | None,
        num_lanes: int,
    ) -> None:
        """
        Args:
            comm: the ranks.
            chunk_bytes: size of a chunk of MPI's.
            memory: of this rank.
            contents: of the memories of all ranks of the node, in their order.
            node: those ranks.
            lane: the ranks of this one's place on their nodes; None: there is one node, or this rank has no lane.
            num_lanes: ranks of a node that sum.
        """
        super().__init__(comm, chunk_bytes, staged=False)
        self.name = "shared"
        self.memory = memory
        self.node = node
        self.lane = lane
        self.num_lanes = num_lanes
        # This rank's own first: MPI's ring adds the others in this order.
        self._contents = contents[node.rank :] + contents[: node.rank]
        self._totals: dict[torch.dtype, Tensor] = {}

    def choose(self, sample: Tensor, world: Communicator) -> None:
        """Go the way that averages ``sample``, which keeps its values, faster. Collective in ``world``."""
        sample = sample[: SAMPLE_BYTES // sample.element_size()]
        kept, ways = sample.clone(), ("shared", "mpi")
        seconds = np.zeros((len(ways), REPEATS))
        for repeat in range(-1, REPEATS):
            for way, name in enumerate(ways):
                self.name = name
                self.comm.barrier()
                begin = time.perf_counter()
                self.reduce_(sample, 1.0 / self.comm.size, None)
                seconds[way, repeat] = time.perf_counter() - begin
        sample.copy_(kept)
        # The slowest rank of the best time: the same numbers everywhere, and so the same choice.
        world.max_(seconds)
        self.seconds = dict(zip(ways, seconds.min(axis=1).tolist(), strict=True))
        self.name = min(ways, key=self.seconds.__getitem__)

    def take_up(self, name: str | None) -> None:
        """See :class:`~hpcsgd.comm.reduce.FlatReducer`; what the recipe asks for comes first."""
        if self.seconds and name in self.seconds:
            self.name = name

    def reduce_(
        self, flat: Tensor, scale: float, ready: torch.cuda.Event | None, guard: FiniteGuard | None = None
    ) -> torch.cuda.Event | None:
        """See :class:`~hpcsgd.comm.reduce.FlatReducer`."""
        begin = self.memory.find(flat) if self.name == "shared" else None
        if begin is None:
            return super().reduce_(flat, scale, ready, guard)
        whole = self._whole_numel(flat)
        if whole:
            self._reduce_in_place(flat.detach()[:whole], begin, scale, guard)
        if whole < flat.numel():
            super().reduce_(flat[whole:], scale, None, guard)
        return None

    def _whole_numel(self, flat: Tensor) -> int:
        """Elements of the chunks of ``flat`` that have some for each rank: Open MPI goes round with no others."""
        numel = self._chunk_numel(flat)
        if numel < self.comm.size:
            return 0
        rest = flat.numel() % numel
        return flat.numel() - rest if rest < self.comm.size else flat.numel()

    def _reduce_in_place(self, flat: Tensor, begin: int, scale: float, guard: FiniteGuard | None) -> None:
        """Replace ``flat``, which begins at the byte ``begin`` of the memory, by ``scale`` times its sum."""
        stretch = slice(begin, begin + flat.numel() * flat.element_size())
        everyone = [content[stretch].view(flat.dtype) for content in self._contents]
        self.node.barrier()  # all have computed theirs
        for start, stop in self._own_pieces(flat):
            self._reduce_piece([each[start:stop] for each in everyone], scale, guard)
        self.node.barrier()  # all have written to this rank
        if guard is not None:
            notes = notes_of(self._contents[0])
            if notes[SOME_BAD]:
                guard.spoil(flat, own=bool(notes[OWN_BAD]))
                notes[:TOKEN] = 0

    def _own_pieces(self, flat: Tensor) -> Iterator[tuple[int, int]]:
        """Where the pieces of ``flat`` that this rank sums begin and end: of its block of each chunk."""
        if self.node.rank >= self.num_lanes:
            return
        piece = torch.get_num_threads() * PIECE_BYTES // flat.element_size()
        for chunk, end in pairwise([*range(0, flat.numel(), self._chunk_numel(flat)), flat.numel()]):
            each, more = divmod(end - chunk, self.num_lanes)
            first = chunk + self.node.rank * each + min(self.node.rank, more)
            last = first + each + (self.node.rank < more)
            yield from ((start, min(start + piece, last)) for start in range(first, last, piece))

    def _reduce_piece(self, parts: list[Tensor], scale: float, guard: FiniteGuard | None) -> None:
        """Replace the ranks' ``parts`` by ``scale`` times their sum over all nodes."""
        total = self._total(parts[0])
        torch.add(*parts[:2], out=total) if len(parts) > 1 else total.copy_(parts[0])
        for part in parts[2:]:
            total.add_(part)
        if guard is not None and not is_sound(total):
            self._note_bad(parts, total)
        if self.lane is not None:
            self.lane.sum_(total.numpy())
            if guard is not None and math.isnan(total[0]):
                self._note(SOME_BAD)
        if scale != 1:
            total.mul_(scale)
        for part in parts:
            part.copy_(total)

    def _total(self, part: Tensor) -> Tensor:
        """Room for the sum of a piece, kept."""
        room = self._totals.get(part.dtype)
        if room is None or len(room) < len(part):
            room = self._totals[part.dtype] = torch.empty_like(part)
        return room[: len(part)]

    def _note_bad(self, parts: list[Tensor], total: Tensor) -> None:
        """Tell the ranks whose part is not finite, and everyone that there are some."""
        bad = [content for content, part in zip(self._contents, parts, strict=True) if not is_sound(part)]
        for content in bad:
            notes_of(content)[OWN_BAD] = 1
        if bad:
            total[0] = math.nan
            self._note(SOME_BAD)

    def _note(self, place: int) -> None:
        """Leave a note for every rank of the node."""
        for content in self._contents:
            notes_of(content)[place] = 1


def share_memory(
    comm: Communicator, world: Communicator, memory: SharedMemory | str, chunk_bytes: int
) -> SharedReducer | str | None:
    """The reducer in memory that the ranks of a node share. Collective in ``world``.

    Args:
        comm: the ranks: all, or a part that each rank is in one of.
        world: all ranks.
        memory: of this rank, or why it has none.
        chunk_bytes: size of a chunk of MPI's.

    Returns:
        the reducer; or why there can be none; None: no two ranks are on one node.
    """
    places = discover(comm)
    place, is_one_node = places[comm.rank], places[0].num_nodes == 1
    if max(world.allgather_object(max(each.local_size for each in places))) == 1:
        return None
    node = comm if is_one_node else comm.split(place.node_index)
    num_lanes = min(each.local_size for each in places)
    lane = None if is_one_node else comm.split(min(place.local_rank, num_lanes))
    if place.local_rank >= num_lanes:
        lane = None
    contents = _reach_all(node, memory)
    # Nobody ends before all have reached what it holds.
    why = next((told for told in world.allgather_object(contents if isinstance(contents, str) else "") if told), "")
    if isinstance(memory, str) or isinstance(contents, str) or why:
        return why
    return SharedReducer(comm, chunk_bytes, memory, contents, node, lane, num_lanes)


def _reach_all(node: Communicator, memory: SharedMemory | str) -> list[Tensor] | str:
    """The contents of the memories of all ranks of ``node``, or why this rank does not reach them. Collective."""
    addresses = node.allgather_object(None if isinstance(memory, str) else memory.address)
    if isinstance(memory, str):
        return memory
    try:
        return [
            memory.content if rank == node.rank else reach(address)
            for rank, address in enumerate(addresses)
            if address is not None
        ]
    except OSError as error:
        return reason(error)
