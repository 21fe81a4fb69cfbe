"""The communicator: values in closed form from rank and size, on all ranks, a duplicate, halves and single ranks."""

from __future__ import annotations

import threading
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist

from hpcsgd.comm.communicator import Communicator, SingleCommunicator, agree
from hpcsgd.comm.topology import discover
from hpcsgd.comm.torch_group import join_group, leave_group
from hpcsgd.comm.torch_ranks import TorchCommunicator
from hpcsgd.config import RunConfig
from hpcsgd.errors import UsageError
from tests.parallel.laws.common import built, environment, make_config, num_versions
from tests.parallel.laws.registry import law

GROUPS = ["world", "duplicate", "halves", "self", "single", "torch", "torch_halves"]


@contextmanager
def group_of(comm: Communicator, kind: str) -> Iterator[Communicator]:
    """Some of the ranks, or all; joined by MPI or, as those of torchrun, by torch."""
    if not kind.startswith("torch"):
        yield make_group(comm, kind)
        return
    device = torch.device("cpu")
    join_group(comm, device)
    world = TorchCommunicator(dist.new_group(backend="gloo"))
    yield world.split(world.rank % 2) if kind.endswith("halves") else world
    leave_group(device)


def make_group(comm: Communicator, kind: str) -> Communicator:
    """See :func:`group_of`, of MPI."""
    if kind == "single":
        return SingleCommunicator()
    if kind == "duplicate":
        return comm.duplicate()
    if kind == "halves":
        return comm.split(comm.rank % 2)
    return comm.split(comm.rank) if kind == "self" else comm


@law(kind=GROUPS)
def groups_hold_the_right_ranks(comm: Communicator, kind: str) -> None:
    everyone = list(range(comm.size))
    all_of = dict.fromkeys(("world", "duplicate", "torch"), everyone)
    expected = (all_of | dict.fromkeys(("halves", "torch_halves"), everyone[comm.rank % 2 :: 2])).get(kind, [comm.rank])
    with group_of(comm, kind) as group:
        assert group.allgather_object(comm.rank) == expected
        assert group.size == len(expected)
        assert expected[group.rank] == comm.rank


@law(kind=GROUPS, dtype=["float32", "float64", "int64"])
def reductions_have_closed_forms(comm: Communicator, kind: str, dtype: str) -> None:
    with group_of(comm, kind) as group:
        size, rank = group.size, group.rank
        for shape in [(0,), (1,), (7,), (3, 5), (1000,)]:
            index = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
            values = (rank + 1) * index
            group.sum_(values)
            np.testing.assert_array_equal(values, size * (size + 1) // 2 * index)
            values = np.where(index % 2 == 0, rank, -rank).astype(dtype)
            group.max_(values)
            np.testing.assert_array_equal(values, np.where(index % 2 == 0, size - 1, 0))
            assert values.dtype == dtype


@law(kind=GROUPS)
def broadcasts_and_gathers_have_closed_forms(comm: Communicator, kind: str) -> None:
    with group_of(comm, kind) as group:
        size, rank = group.size, group.rank
        for root in range(size):
            values = np.arange(5.0) + 10 * rank
            group.broadcast_(values, root)
            np.testing.assert_array_equal(values, np.arange(5.0) + 10 * root)
            assert group.broadcast_object({"rank": rank}, root) == {"rank": root}
            gathered = group.gather(np.full((2, 3), rank, np.int64), root)
            assert (gathered is None) == (rank != root)
            if gathered is not None:
                np.testing.assert_array_equal(gathered, np.arange(size)[:, None, None] * np.ones((1, 2, 3), np.int64))
        assert group.allgather_object(str(rank)) == [str(j) for j in range(size)]
        group.barrier()


@law()
def a_duplicate_has_messages_of_its_own(comm: Communicator) -> None:
    # A thread sums on the duplicate while this one sums on the original: nothing is mixed up.
    duplicate = comm.duplicate()
    sums = []

    def work() -> None:
        for i in range(50):
            values = np.full(10 + i, 1000.0 * i)
            duplicate.sum_(values)
            sums.append(values[-1])

    thread = threading.Thread(target=work)
    thread.start()
    for i in range(50):
        values = np.full(10 + i, float(i))
        comm.sum_(values)
        assert values[0] == i * comm.size
    thread.join()
    assert sums == [1000.0 * i * comm.size for i in range(50)]


@law(kind=["world", "torch"])
def clock_offset_is_right_within_its_error(comm: Communicator, kind: str) -> None:
    # All ranks read one clock here; rank j's is made to run 7 j seconds ahead.
    shifted = types.SimpleNamespace(perf_counter=lambda: time.perf_counter() + 7.0 * comm.rank)
    with mock.patch("hpcsgd.comm.communicator.time", shifted), group_of(comm, kind) as group:
        offset, error = group.clock_offset()
    assert (error == 0) == (comm.rank == 0)
    assert abs(offset - 7.0 * comm.rank) <= error + 1e-6
    assert error < 1.0


@law()
def agree_raises_one_message_everywhere(comm: Communicator) -> None:
    last = comm.size - 1

    def fail_on(ranks: set[int]) -> int:
        if comm.rank in ranks:
            raise UsageError(f"rank {comm.rank} cannot")
        return comm.rank

    assert agree(comm, lambda: fail_on(set())) == comm.rank
    for ranks in ({last}, {0}, set(range(comm.size)), {0, last}):
        try:
            agree(comm, lambda ranks=ranks: fail_on(ranks))
            message = "nothing was raised"
        except UsageError as error:
            message = str(error)
        assert message == f"rank {min(ranks)} cannot" + (f" (rank {min(ranks)})" if min(ranks) else "")
        assert set(comm.allgather_object(message)) == {message}
    assert agree(comm, lambda: fail_on(set())) == comm.rank


@law(kind=["block_size", "batch", "samples"])
def a_mistake_in_the_sizes_is_one_message_on_all_ranks(comm: Communicator, kind: str) -> None:
    if kind == "block_size":
        config = make_config(algorithm={"name": "hierarchical_local_sgd", "block_size": comm.size + 1})
        wanted = f"algorithm.block_size is {comm.size + 1}"
    elif kind == "batch":
        config = make_config(global_batch_size=12 * comm.size + 1)
        wanted = "cannot share evenly" if comm.size > 1 else "nothing"
    else:
        config = make_config(data={"synthetic_train_samples": 2})
        wanted = "2 training samples" if comm.size > 2 else "only 2"
    message = failure_of_build(config, comm)
    assert wanted in message, message
    assert set(comm.allgather_object(message)) == {message}


def failure_of_build(config: RunConfig, comm: Communicator) -> str:
    """The message of the UsageError that building the parts raises."""
    try:
        with built(config, comm):
            return "nothing was raised"
    except UsageError as error:
        return str(error)


@law(sizes=(3, 4))
def nodes_come_from_slurm_and_local_ranks_from_them(comm: Communicator) -> None:
    # Ranks 0 and 2 on one node, the others on another.
    node = "ab"[comm.rank % 2]
    with environment(SLURMD_NODENAME=node, SLURM_LOCALID="0"):
        places = discover(comm)
    place = places[comm.rank]
    assert (place.rank, place.world_size) == (comm.rank, comm.size)
    assert (place.node, place.node_index, place.num_nodes) == (node, comm.rank % 2, 2)
    assert (place.local_rank, place.local_size) == (comm.rank // 2, len(range(comm.rank % 2, comm.size, 2)))
    assert (place.block, place.num_blocks) == (comm.rank % 2, 2)
    assert set(comm.allgather_object(tuple(places))) == {tuple(places)}


@law(sizes=(3, 4))
def parts_know_their_places(comm: Communicator) -> None:
    with (
        environment(SLURMD_NODENAME=f"n{comm.rank // 2}"),
        built(make_config(algorithm={"name": "hierarchical_local_sgd"}), comm) as parts,
    ):
        rows = parts.rank_rows
    assert [row["rank"] for row in rows] == list(range(comm.size))
    assert [row["node"] for row in rows] == [f"n{rank // 2}" for rank in range(comm.size)]
    assert [row["block"] for row in rows] == [rank // 2 for rank in range(comm.size)]
    assert [row["local_rank"] for row in rows] == [rank % 2 for rank in range(comm.size)]
    assert len({row["pid"] for row in rows}) == comm.size
    assert set(comm.allgather_object(str(rows))) == {str(rows)}
    block = parts.algorithm.reducers[2].comm
    assert block.allgather_object(comm.rank) == [j for j in range(comm.size) if j // 2 == comm.rank // 2]


@law()
def start_gives_all_ranks_the_first_ones_parameters(comm: Communicator) -> None:
    with built(make_config(), comm) as parts:
        parts.replica.parameters.add_(comm.rank)
        own = parts.replica.parameters.clone()
        parts.algorithm.start()
        assert num_versions(comm, parts.replica.parameters) == 1
        if comm.rank == 0:
            assert (parts.replica.parameters == own).all()
