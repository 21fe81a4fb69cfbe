"""Averagings in memory that ranks of a node share: the bits of MPI's ring on one node, and right over several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import pytest
import torch

from hpcsgd.comm.backends import make_reducer
from hpcsgd.comm.communicator import Communicator
from hpcsgd.comm.guard import FiniteGuard
from hpcsgd.comm.reduce import FlatReducer
from hpcsgd.comm.shared_memory import Address, SharedMemory, reach
from hpcsgd.comm.shared_reducer import SharedReducer, share_memory
from hpcsgd.config import CommConfig
from hpcsgd.errors import DivergedError, Preempted, UsageError
from hpcsgd.record import load_run
from hpcsgd.train import run
from tests.parallel.laws.common import (
    algorithm_named,
    assert_bits,
    assert_close,
    built,
    environment,
    make_config,
    num_versions,
    stack,
    train,
    vector,
)
from tests.parallel.laws.reducing import LENGTHS, random_flat
from tests.parallel.laws.registry import law
from tests.parallel.laws.resuming import assert_same_run, logged, shared_folder, stopping_at

CPU = torch.device("cpu")
NODES = ["0011", "0100", "0122", "0000"]
"""The node of each rank."""


def in_memory(
    comm: Communicator, world: Communicator, length: int, dtype: str, chunk_bytes: int
) -> tuple[SharedReducer | None, torch.Tensor]:
    """A reducer over ``comm``, and a part of this rank's memory with other values than all other ranks'."""
    kind = getattr(torch, dtype)
    memory = SharedMemory((length + 5) * kind.itemsize)
    memory.tensor((length + 5,), kind).fill_(7)
    reducer = share_memory(comm, world, memory, chunk_bytes)
    assert not isinstance(reducer, str), reducer
    flat = memory.tensor((length + 5,), kind)[3:-2]
    return reducer, flat.copy_(random_flat(world, length, dtype))


@contextmanager
def nodes_of(comm: Communicator, nodes: str) -> Iterator[None]:
    """Inside, the ranks are on these nodes."""
    with environment(SLURMD_NODENAME=f"n{nodes[comm.rank]}"):
        yield


@law(chunk_bytes=[24, 100, 4096], dtype=["float32", "float64"])
def averages_in_memory_have_the_bits_of_a_ring(comm: Communicator, chunk_bytes: int, dtype: str) -> None:
    for length in LENGTHS if chunk_bytes < 4096 else (*LENGTHS, 2000):
        reducer, flat = in_memory(comm, comm, length, dtype, chunk_bytes)
        if comm.size == 1:
            assert reducer is None
            continue
        assert reducer is not None
        for reduce in ("average_", "sum_"):
            by_mpi = flat.clone()
            getattr(FlatReducer(comm, chunk_bytes, staged=False), reduce)(by_mpi)
            with mock.patch("hpcsgd.comm.shared_reducer.PIECE_BYTES", 1024):
                getattr(reducer, reduce)(flat)
            assert_bits(flat, by_mpi, f"{reduce} of {length}")
        assert (reducer.memory.tensor((3,), flat.dtype) == 7).all(), "what lies beside it is left alone"
        elsewhere = random_flat(comm, length, dtype)
        mean = stack(comm, elsewhere).double().mean(dim=0)
        reducer.average_(elsewhere)
        assert_close(elsewhere.double(), mean, 1e-6)


@law(sizes=(2, 3, 4), nodes=NODES, part=["all", "half"])
def ranks_of_several_nodes_average_rightly(comm: Communicator, nodes: str, part: str) -> None:
    """Nodes of different sizes, of one rank too, and parts of the ranks that lie across nodes."""
    group = comm if part == "all" else comm.split(comm.rank % 2)
    with nodes_of(comm, nodes):
        for length in LENGTHS:
            reducer, flat = in_memory(group, comm, length, "float64", 100)
            shared = any(nodes[: comm.size].count(node) > 1 for node in nodes[: comm.size])
            assert reducer is not None or part == "half" or not shared
            if reducer is None:
                continue
            mean = stack(group, flat).mean(dim=0)
            reducer.average_(flat)
            assert num_versions(group, flat) == 1
            assert_close(flat, mean, 1e-14)
            flat.copy_(torch.arange(length) + comm.rank)
            total = stack(group, flat).sum(dim=0)
            reducer.sum_(flat)
            assert_bits(flat, total, "a sum of integers is exact")


@law(sizes=(2, 3, 4), nodes=NODES[::3], bad=["nan", "inf", "3e38"])
def what_is_not_finite_is_named_with_its_rank(comm: Communicator, nodes: str, bad: str) -> None:
    with nodes_of(comm, nodes):
        reducer, flat = in_memory(comm, comm, 151, "float32", 100)
    if reducer is None:
        return
    reducer.guard = FiniteGuard(comm)
    reducer.average_(flat)
    if comm.rank == comm.size - 1:
        flat[140] = float(bad)
    with pytest.raises(DivergedError, match=f"what was to be averaged is not finite on rank {comm.size - 1}$"):
        reducer.average_(flat)
    # The notes are taken away: the next one is judged by itself.
    reducer.guard = FiniteGuard(comm)
    reducer.average_(flat.fill_(1))


@law(sizes=(2, 3, 4))
def where_memory_cannot_be_shared_all_ranks_go_by_mpi(comm: Communicator) -> None:
    def not_here(address: Address) -> torch.Tensor:
        if comm.rank == comm.size - 1:
            raise OSError("it is another container")
        return reach(address)

    memory = SharedMemory(800)
    averaged = (memory.tensor((100,), torch.float64), memory)
    with mock.patch("hpcsgd.comm.shared_reducer.reach", not_here):
        assert type(make_reducer(CommConfig(), comm, CPU, averaged=averaged)) is FlatReducer
        with pytest.raises(UsageError, match="comm.averaging is shared, but it is another container: choose mpi"):
            make_reducer(CommConfig(averaging="shared"), comm, CPU, averaged=averaged)


@law(sizes=(2, 3, 4))
def all_ranks_take_the_way_that_was_faster_for_the_slowest(comm: Communicator) -> None:
    memory = SharedMemory(800)
    flat = memory.tensor((100,), torch.float64).fill_(comm.rank)
    reducers = [make_reducer(CommConfig(), part, CPU, comm, (flat, memory)) for part in (comm, comm.split(0))]
    assert (flat == comm.rank).all()
    for reducer in reducers:
        assert reducer.name == min(reducer.seconds, key=reducer.seconds.__getitem__)
        assert len(set(comm.allgather_object((reducer.name, tuple(reducer.seconds.values()))))) == 1


@law(sizes=(2, 3, 4), name=["post_local_sgd", "hierarchical_local_sgd"])
def a_run_in_memory_has_the_bits_of_one_by_mpi(comm: Communicator, name: str) -> None:
    found = []
    for averaging in ("mpi", "shared"):
        section = algorithm_named(name, comm.size, momentum_policy="average")
        config = make_config(learners_per_rank=2, algorithm=section, comm={"averaging": averaging})
        with built(config, comm) as parts:
            assert parts.world.name == averaging
            train(parts)
            parts.algorithm.finish()
            module, rows = parts.replica.module, parts.learners.rows.buffer.clone()
        del parts
        found.append((vector(module), rows))  # the model outlives its run
    for by_mpi, by_memory in zip(*found, strict=True):
        assert_bits(by_memory, by_mpi)


def chosen(name: str) -> Callable[[SharedReducer, torch.Tensor, Communicator], None]:
    """In the place of a measurement."""

    def choose(reducer: SharedReducer, sample: torch.Tensor, world: Communicator) -> None:
        reducer.name, reducer.seconds = name, {"shared": 1.0, "mpi": 1.0}

    return choose


@law(sizes=(3,))
def a_resumed_run_keeps_the_way_that_it_began_with(comm: Communicator) -> None:
    """Over two nodes, where the ways add in different orders."""
    models = []
    small = make_config(comm={"averaging": "auto"})
    with shared_folder(comm) as folder, nodes_of(comm, "001"):
        for name, later in (("shared", "mpi"), ("mpi", "shared")):
            config = logged(comm, "local_sgd", "mpi", folder / name)
            config = replace(config, model=small.model, data=small.data, comm=small.comm, max_steps=6)
            with mock.patch.object(SharedReducer, "choose", chosen(name)):
                run(config, comm)
                stopped = replace(config, run_dir=str(folder / f"{name}-stopped"))
                with stopping_at(4), pytest.raises(Preempted):
                    run(stopped, comm)
            with mock.patch.object(SharedReducer, "choose", chosen(later)):
                run(replace(stopped, resume="auto"), comm)
            if comm.rank == 0:
                whole, again = load_run(folder / name), load_run(folder / f"{name}-stopped")
                assert_same_run(again, whole)
                models.append(torch.load(folder / name / "model.pt", weights_only=True))
                assert (whole.provenance["averaging"], again.provenance["averaging"]) == (name, name)
    if models:
        assert any((models[0][key] != models[1][key]).any() for key in models[0]), "the ways add in one order here"
