"""Sums and averages of flat tensors, and the order of additions of the pinned allreduce algorithm."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
import torch.distributed as dist

from hpcsgd.comm.communicator import Communicator
from hpcsgd.comm.guard import FiniteGuard
from hpcsgd.comm.reduce import FlatReducer
from hpcsgd.comm.torch_reducer import QueuedSums, TorchReducer
from hpcsgd.errors import DivergedError
from tests.parallel.laws.common import (
    algorithm_named,
    assert_bits,
    assert_close,
    built,
    make_config,
    num_versions,
    stack,
    train,
    vector,
)
from tests.parallel.laws.registry import law

LENGTHS = (1, 2, 7, 40, 151)


def random_flat(comm: Communicator, length: int, dtype: str) -> torch.Tensor:
    """Different values on each rank."""
    generator = torch.Generator().manual_seed(100 * length + comm.rank)
    return torch.randn(length, generator=generator, dtype=getattr(torch, dtype))


@law(chunk_bytes=[1, 24, 100, 4096], dtype=["float32", "float64"])
def chunks_of_any_size_average_rightly(comm: Communicator, chunk_bytes: int, dtype: str) -> None:
    reducer = FlatReducer(comm, chunk_bytes, staged=False)
    for length in LENGTHS:
        flat = random_flat(comm, length, dtype)
        mean = stack(comm, flat).double().mean(dim=0)
        reducer.average_(flat)
        assert num_versions(comm, flat) == 1
        assert_close(flat.double(), mean, 1e-6 if dtype == "float32" else 1e-14)


@law(sizes=(2, 4))
def torch_reduces_as_mpi_does(comm: Communicator) -> None:
    """Gloo stands in for NCCL: all ranks and halves of them, twice at the same time, sums in the background too."""
    half = comm.split(comm.rank % 2)
    made = [TorchReducer(part, comm, torch.device("cpu")) for part in (comm, half, comm)]
    for length in LENGTHS:
        flat = random_flat(comm, length, "float64")
        for reducer in made:
            by_mpi, by_torch = flat.clone(), flat.clone()
            FlatReducer(reducer.comm, 64, staged=False).average_(by_mpi)
            reducer.average_(by_torch)
            assert num_versions(reducer.comm, by_torch) == 1
            assert_close(by_torch, by_mpi, 1e-14)
        late = QueuedSums(made[0])
        parts = [flat.clone(), 2 * flat]
        for part in parts:
            late.start(part)
        late.wait()
        assert_close(parts[1], 2 * parts[0], 1e-14)
        assert_close(parts[0], by_mpi * comm.size, 1e-14)
    for reducer in made:
        messages = torch.arange(3 * reducer.comm.size).view(-1, 3).add(100 * comm.rank).to(torch.uint8)
        by_mpi = FlatReducer(reducer.comm, 64, staged=False)
        assert torch.equal(reducer.allgather(messages[0]), by_mpi.allgather(messages[0]))
        received = reducer.alltoall(messages)
        assert torch.equal(received, by_mpi.alltoall(messages))
        assert torch.equal(received[reducer.comm.rank], messages[reducer.comm.rank])
    made[0].guard = FiniteGuard(comm)
    flat[0] = torch.nan if comm.rank == comm.size - 1 else 1.0
    with pytest.raises(DivergedError, match=f"what was to be averaged is not finite on rank {comm.size - 1}$"):
        made[0].average_(flat)
    for reducer in (*made, *made):
        reducer.close()
    assert not dist.is_initialized()


@law(sizes=(2, 4), name=["post_local_sgd", "hierarchical_local_sgd", "sma", "sma_overlapped"])
def a_run_that_torch_averages_is_that_of_mpi(comm: Communicator, name: str) -> None:
    """Gloo stands in for NCCL. The gradients of the first steps leave their process group, which goes on."""
    section = algorithm_named(name.removesuffix("_overlapped"), comm.size)
    overlap = True if "overlapped" in name else None
    found = {}
    for averaging in ("mpi", "nccl"):
        config = make_config(algorithm=section, comm={"allreduce": "torch", "overlap": overlap})
        with mock.patch("hpcsgd.comm.backends.resolve_averaging", lambda *_given, kind=averaging: kind):
            with built(config, comm) as parts:
                assert parts.world.name == {"mpi": "mpi", "nccl": "torch"}[averaging]
                train(parts)
                assert dist.is_initialized() == (averaging == "nccl")
                parts.algorithm.finish()
            assert not dist.is_initialized()
        found[averaging] = vector(parts.replica.module)
    assert_close(found["nccl"], found["mpi"])
    if comm.size == 2:
        assert_bits(found["nccl"], found["mpi"])


@law(chunk_bytes=[1, 24, 100, 4096], dtype=["float32", "float64"])
def passing_through_host_buffers_gives_the_same_bits(comm: Communicator, chunk_bytes: int, dtype: str) -> None:
    direct, staged = (FlatReducer(comm, chunk_bytes, staged=staged) for staged in (False, True))
    # The long one again after short ones: the buffers are kept, and grow.
    for length in (*LENGTHS, 3, 151):
        flat = random_flat(comm, length, dtype)
        first, second = flat.clone(), flat.clone()
        direct.average_(first)
        staged.average_(second)
        assert_bits(second, first, f"average of {length}")
        first, second = flat.clone(), flat.clone()
        direct.reduce_(first, 1.0, None)
        staged.reduce_(second, 1.0, None)
        assert_bits(second, first, f"sum of {length}")


@law(kind=["part", "block"])
def only_the_given_part_and_the_given_ranks_change(comm: Communicator, kind: str) -> None:
    flat = random_flat(comm, 50, "float64")
    kept = flat.clone()
    group = comm.split(comm.rank // 2) if kind == "block" else comm
    FlatReducer(group, 64, staged=False).average_(flat[10:40])
    mean = torch.from_numpy(np.stack(group.allgather_object(kept[10:40].numpy()))).mean(dim=0)
    assert_close(flat[10:40], mean, 1e-14)
    assert_bits(flat[:10], kept[:10])
    assert_bits(flat[40:], kept[40:])


def ring_allreduce(ranks: list[np.ndarray]) -> tuple[np.ndarray, list[int], int]:
    """A ring's sum, the bytes that each rank sends, and the number of rounds.

    Block b goes round from rank b, each rank adding its own to what came; then the sums go round once more.
    """
    size = len(ranks)
    blocks = [np.array_split(values.copy(), size) for values in ranks]
    sent = [0] * size
    rounds = 0
    for phase in ("add", "copy"):
        for turn in range(size - 1):
            rounds += 1
            moving = []
            for rank in range(size):
                block = (rank - turn + (phase == "copy")) % size
                moving.append((block, blocks[rank][block].copy()))
                sent[rank] += blocks[rank][block].nbytes
            for rank in range(size):
                block, values = moving[rank - 1]
                if phase == "add":
                    values = values + blocks[rank][block]
                blocks[rank][block] = values
    sums = [np.concatenate(parts) for parts in blocks]
    assert all((total == sums[0]).all() for total in sums)
    return sums[0], sent, rounds


@law(dtype=["float32", "float64"])
def the_pinned_allreduce_is_a_ring(comm: Communicator, dtype: str) -> None:
    # A ring's order of additions shows in the bits. So the allreduce moves 2 (p - 1) / p of the buffer a rank.
    size, length = comm.size, 12 * 500
    everyone = [random_flat(comm, length, dtype).numpy()] if size == 1 else None
    everyone = everyone or comm.allgather_object(random_flat(comm, length, dtype).numpy())
    expected, sent, rounds = ring_allreduce(everyone)
    assert rounds == 2 * (size - 1)
    assert sent == [2 * (size - 1) * expected.nbytes // size] * size
    actual = everyone[comm.rank].copy()
    comm.sum_(actual)
    np.testing.assert_allclose(actual, expected, atol=1e-5 if dtype == "float32" else 1e-13)
    if "Open MPI" in comm.library:
        assert actual.tobytes() == expected.tobytes(), "the MPI library does not use the algorithm that was asked for"
        if size > 2:
            assert actual.tobytes() != np.sum(everyone, axis=0).tobytes(), "the order of additions cannot be told here"
