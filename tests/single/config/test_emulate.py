"""The section ``emulate``: what it refuses, and what it says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from hpcsgd.config.emulate import EmulateConfig, EmulatedComputeConfig, EmulatedNetworkConfig
from hpcsgd.config.recipe import load_config
from hpcsgd.errors import UsageError


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"network.bytes_per_second": "0.5"}, "emulate.network.bytes_per_second is 0.5: it must be 1 or more"),
        ({"network.latency_seconds": "-1"}, "emulate.network.latency_seconds is -1.0: it must be 0 to 60"),
        ({"network.ranks_per_node": "4"}, "counts with emulate.network.latency_seconds or bytes_per_second only"),
        (
            {"network.latency_seconds": "1e-4", "network.node_latency_seconds": "1e-5"},
            "counts with emulate.network.ranks_per_node above 1 only",
        ),
        ({"compute.spread": "0.1"}, "counts with emulate.compute.step_seconds or sample_seconds only"),
        ({"compute.step_seconds": "1", "compute.slow_factor": "2"}, "counts with emulate.compute.slow_ranks only"),
        ({"compute.step_seconds": "1", "compute.correlation": "0"}, "counts with emulate.compute.correlated_spread"),
        ({"compute.step_seconds": "1", "compute.slow_ranks": "[2, 2]"}, "it must be different ranks, from 0"),
        ({"compute.step_seconds": "1", "compute.spread": "3"}, "in [0, 2]"),
        ({"compute.step_seconds": "1", "compute.drift": "-1"}, "in [0, 1]"),
        ({"compute.step_second": "1"}, "did you mean emulate.compute.step_seconds?"),
    ],
)
def test_what_it_refuses(given: dict[str, str], said: str) -> None:
    words = [f"--emulate.{key}={value}" for key, value in given.items()]
    with pytest.raises(UsageError) as raised:
        load_config(None, ["--local_batch_size=8", *words])
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("section", "words", "said"),
    [
        ("network", ["--comm.allreduce=horovod"], "emulate.network is given, but comm.allreduce is 'horovod'"),
        ("network", ["--comm.allreduce=torch"], "emulate.network is given, but comm.allreduce is 'torch'"),
        ("network", ["--comm.averaging=nccl"], "emulate.network is given, but comm.averaging is 'nccl'"),
        ("network", ["--device=cuda"], "emulate is given, but device is 'cuda'"),
        ("compute", ["--device=cuda"], "emulate is given, but device is 'cuda'"),
        ("compute", ["--learners_per_rank=auto"], "emulate.compute is given, but learners_per_rank is 'auto'"),
        ("compute", ["--on_failure=shrink", "--algorithm.name=local_sgd"], "but on_failure is 'shrink'"),
    ],
)
def test_what_does_not_go_over_an_emulated_machine_is_refused_by_name(
    section: str, words: list[str], said: str
) -> None:
    on = {"network": "--emulate.network.latency_seconds=1e-4", "compute": "--emulate.compute.step_seconds=0.1"}
    with pytest.raises(UsageError) as raised:
        load_config(None, ["--local_batch_size=8", on[section], *words])
    assert said in str(raised.value)
    assert load_config(None, ["--local_batch_size=8", on[section]]).emulate.is_on


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, ""),
        ({"compute": EmulatedComputeConfig(0.02, slow_ranks=(3, 4))}, "compute (step_seconds 0.02, slow_ranks 3 4)"),
        (
            {
                "compute": EmulatedComputeConfig(sample_seconds=1e-3),
                "network": EmulatedNetworkConfig(1e-4, 1e9, ranks_per_node=4),
            },
            "compute (sample_seconds 0.001) and network (latency_seconds 0.0001, bytes_per_second 1e+09, "
            "ranks_per_node 4)",
        ),
    ],
)
def test_it_says_what_is_emulated(given: dict[str, Any], said: str) -> None:
    assert EmulateConfig(**given).describe() == said
    assert EmulateConfig(**given).is_on == bool(said)
