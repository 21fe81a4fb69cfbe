"""Training on an emulated machine: the same bits as on this one, and no less time than arithmetic says."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from hpcsgd.comm.communicator import Communicator
from hpcsgd.comm.emulated import EmulatedCommunicator, emulate_network, emulated_nodes, network_of
from hpcsgd.config import EmulateConfig
from hpcsgd.config.emulate import EmulatedComputeConfig, EmulatedNetworkConfig
from hpcsgd.run.parts import Parts
from tests.parallel.laws.common import assert_bits, built, make_config, training
from tests.parallel.laws.registry import law

NETWORK = EmulatedNetworkConfig(2e-4, 2e6, ranks_per_node=2, node_latency_seconds=1e-4)
COMPUTE = EmulatedComputeConfig(0.003, spread=0.3, slow_ranks=(1,))
STEPS = 4


@law(sizes=(2, 4))
def a_collective_ends_no_earlier_than_the_network_says(comm: Communicator) -> None:
    ranks = emulate_network(comm, NETWORK)
    assert isinstance(ranks, EmulatedCommunicator)
    part = ranks.split(comm.rank // 2)
    for group in (ranks, part, ranks.duplicate()):
        assert isinstance(group, EmulatedCommunicator)
        time.sleep(0.002 * comm.rank)
        array, came = np.full(500, comm.rank + 1.0), time.perf_counter()
        group.sum_(array)
        ended = time.perf_counter()
        last = max(group.real.allgather_object(came))
        assert ended - last >= group.network.allreduce(array.nbytes, group.nodes).seconds
        assert array[0] == sum(group.real.allgather_object(comm.rank + 1.0))
    assert isinstance(part, EmulatedCommunicator)
    assert part.nodes == [comm.rank // 2] * 2 and part.links is ranks.links


@law(sizes=(2, 4), algorithm=["sync_sgd", "hierarchical_local_sgd", "sma"])
def an_emulated_machine_trains_the_same_bits_in_the_time_it_says(comm: Communicator, algorithm: str) -> None:
    method = {
        "sync_sgd": {},
        "hierarchical_local_sgd": {"sync_period": 1, "block_sync_period": 2, "block_size": 2},
        "sma": {"sync_period": 2},
    }[algorithm]
    config = make_config(
        algorithm={"name": algorithm, **method},
        comm={"overlap": True if algorithm == "sma" else None},
        max_steps=STEPS,
    )
    with built(config, comm) as parts:
        for _ in training(parts):
            pass
        real = parts.replica.parameters.clone()
    emulated = replace(config, emulate=EmulateConfig(NETWORK, COMPUTE))
    with built(emulated, comm) as parts:
        assert parts.compute is not None
        begin = max(comm.allgather_object(time.perf_counter()))
        for _ in training(parts):
            pass
        took = min(comm.allgather_object(time.perf_counter())) - begin
        assert_bits(parts.replica.parameters, real, algorithm)
        slowest = max(comm.allgather_object(sum(parts.compute.seconds(step, 3) for step in range(STEPS))))
        assert took >= slowest + exposed_seconds(parts)


def exposed_seconds(parts: Parts) -> float:
    """What the transfers of all steps take that no compute can hide."""
    network, nodes = network_of(NETWORK), emulated_nodes(NETWORK, parts.comm.size)
    if parts.config.algorithm.name == "sync_sgd":
        last = parts.gradients.buckets.parts[-1]
        return STEPS * network.allreduce(last.nbytes, nodes).seconds
    if parts.config.algorithm.name == "sma":
        # A sum in the background may be hidden.
        return 0.0
    of_all, of_block = (network.allreduce(parts.replica.parameters.nbytes, some).seconds for some in (nodes, [0, 0]))
    return STEPS / 2 * (of_all + of_block)
