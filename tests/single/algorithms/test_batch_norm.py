"""Running statistics: merging and recomputing."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from hpcsgd.algorithms.batch_norm import average_statistics_, recompute_statistics_
from hpcsgd.comm.reduce import FlatReducer
from hpcsgd.learners.replica import Replica
from hpcsgd.learners.stack import ReplicaStack
from tests.single.comm.counting import Call, CountingCommunicator


def make_replica(*layers: nn.Module) -> Replica:
    return Replica(nn.Sequential(*layers), torch.device("cpu"), torch.float64, channels_last=False)


def normed() -> Replica:
    torch.manual_seed(0)
    return make_replica(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2), nn.BatchNorm1d(2, momentum=0.3))


def test_a_model_without_batch_norm_moves_nothing() -> None:
    comm = CountingCommunicator()
    replica = make_replica(nn.Linear(4, 3), nn.LayerNorm(3))
    reducer = FlatReducer(comm, 1024, staged=False)
    assert average_statistics_(ReplicaStack([replica]), reducer) == 0
    recompute_statistics_(
        ReplicaStack([replica]), nn.Module.__call__, [[torch.ones(2, 4, dtype=torch.float64)]], reducer
    )
    assert comm.take() == []


def test_equal_statistics_stay_and_three_collectives_move_them() -> None:
    comm = CountingCommunicator(size=4)
    replica = normed()
    replica.module(torch.randn(8, 4, dtype=torch.float64))
    before = replica.statistics.clone()
    num_bytes = average_statistics_(ReplicaStack([replica]), FlatReducer(comm, 1024, staged=False))
    # Three and two channels, each in eight places; two counters.
    assert comm.take() == [Call("sum", 128), Call("sum", 128), Call("max", 16)]
    assert num_bytes == 128 + 128 + 16
    assert torch.equal(replica.statistics, before)
    assert replica.counts == [1, 1]


@pytest.mark.parametrize("num_batches", [1, 3])
def test_recomputed_statistics_are_the_mean_over_the_batches(num_batches: int) -> None:
    replica = normed()
    for _ in range(5):
        replica.module(torch.randn(8, 4, dtype=torch.float64) * 7)
    batches = [torch.randn(8, 4, dtype=torch.float64) + i for i in range(num_batches)]
    parameters = replica.parameters.clone()
    expected = copy.deepcopy(replica.module)
    update_bn(batches, expected)
    replica.module.eval()
    reducer = FlatReducer(CountingCommunicator(size=1), 1024, staged=False)
    recompute_statistics_(ReplicaStack([replica]), nn.Module.__call__, [[images] for images in batches], reducer)
    for norm, other in zip(replica.norms, (expected[1], expected[3]), strict=True):
        torch.testing.assert_close(norm.running_mean, other.running_mean, rtol=0, atol=1e-14)
        torch.testing.assert_close(norm.running_var, other.running_var, rtol=0, atol=1e-14)
    assert replica.counts == [num_batches] * 2
    assert [norm.momentum for norm in replica.norms] == [0.1, 0.3]
    assert torch.equal(replica.parameters, parameters)
    assert not replica.gradients.any()
    first = replica.norms[0]
    assert first.running_mean is not None
    assert first.running_mean.data_ptr() == replica.means.data_ptr(), "the statistics are still views"
