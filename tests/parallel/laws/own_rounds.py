"""DiLoCo, schedules of H and averagings under way in loops of the user's own, against scripts of plain torch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

import hpcsgd
from hpcsgd.comm.communicator import Communicator
from tests.parallel.laws.common import assert_close, vector
from tests.parallel.laws.registry import law
from tests.parallel.laws.rounds import nesterov
from tests.parallel.laws.sessions import NO_LOG


def batches(num_steps: int, rank: int) -> Iterator[tuple[Tensor, Tensor]]:
    """What a rank trains on, without the package."""
    stream = torch.Generator().manual_seed(rank)
    for _ in range(num_steps):
        yield torch.randn(4, 6, generator=stream, dtype=torch.float64), torch.randint(3, (4,), generator=stream)


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def plain_diloco(num_ranks: int, period: int, num_steps: int) -> Tensor:
    """AdamW inside, torch's SGD with Nesterov momentum outside: the whole algorithm, in plain torch."""
    theta = network()
    outer = torch.optim.SGD(theta.parameters(), lr=0.7, momentum=0.9, nesterov=True)
    replicas = [network() for _ in range(num_ranks)]
    inner = [torch.optim.AdamW(each.parameters(), lr=0.01, weight_decay=0.1) for each in replicas]
    data = [list(batches(num_steps, rank)) for rank in range(num_ranks)]
    for step in range(num_steps):
        for replica, optimizer, own in zip(replicas, inner, data, strict=True):
            inputs, targets = own[step]
            optimizer.zero_grad()
            F.cross_entropy(replica(inputs), targets).backward()
            optimizer.step()
        if (step + 1) % period == 0:
            for parameter, *own in zip(theta.parameters(), *(each.parameters() for each in replicas), strict=True):
                parameter.grad = parameter.detach() - torch.stack([p.detach() for p in own]).mean(dim=0)
            outer.step()
            for replica in replicas:
                replica.load_state_dict(theta.state_dict())
    return vector(theta)


@law()
def adamw_with_diloco_equals_a_plain_script_of_torch(comm: Communicator) -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    with hpcsgd.session(model, optimizer, algorithm=hpcsgd.DiLoCo(period=4), comm=comm, log=NO_LOG) as run:
        for inputs, targets in batches(12, comm.rank):
            run.backward(F.cross_entropy(model(inputs), targets))
            run.step()
    assert_close(vector(model), plain_diloco(comm.size, 4, 12))


@law(sizes=(1, 2), kind=["power", "divergence"])
def periods_of_a_loop_of_the_users_own_go_by_its_rate(comm: Communicator, kind: str) -> None:
    """The user's scheduler halves the rate at steps 4 and 8; the end is not known, and the last round is cut short."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    halved = torch.optim.lr_scheduler.MultiStepLR(optimizer, [4, 8], gamma=0.5)
    schedule = {"kind": kind} | ({"alpha": 0.1} if kind == "power" else {"target": 1e9, "largest": 4})
    algorithm = hpcsgd.LocalSGD(period=1, period_schedule=schedule)
    equal = []
    with hpcsgd.session(model, optimizer, algorithm=algorithm, comm=comm, log=NO_LOG) as run:
        for inputs, targets in batches(12, comm.rank):
            run.backward(F.cross_entropy(model(inputs), targets))
            run.step()
            halved.step()
            equal.append(len(set(comm.allgather_object(vector(model).sum().item()))) == 1)
    ends = [0, 1, 2, 3, 7] if kind == "power" else [0, 2, 6, 10]
    assert [step for step, same in enumerate(equal) if same] == (ends if comm.size > 1 else list(range(12)))


@law(sizes=(1, 2))
def an_averaging_under_way_at_the_end_of_a_loop_is_merged(comm: Communicator) -> None:
    """Of two that begin after steps 3 and 7 and take two steps, the end comes before the second is merged."""

    def step_of(each: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, targets: Tensor) -> Tensor:
        optimizer.zero_grad()
        return F.cross_entropy(each(inputs), targets)

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    method = hpcsgd.DiLoCo(period=4, overlap_steps=2)
    with hpcsgd.session(model, optimizer, algorithm=method, comm=comm, log=NO_LOG) as run:
        for inputs, targets in batches(9, comm.rank):
            run.backward(step_of(model, optimizer, inputs, targets))
            run.step()
    replicas, move = [network() for _ in range(comm.size)], nesterov({}, lambda step: 0.7)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in replicas]
    data, anchor = [list(batches(9, rank)) for rank in range(comm.size)], vector(replicas[0])
    for step in range(9):
        for each, own, batch in zip(replicas, optimizers, data, strict=True):
            step_of(each, own, *batch[step]).backward()
            own.step()
        now = torch.stack([vector(each) for each in replicas])
        if step in (3, 7):
            before = now
        if step in (5, 8):
            anchor = move(anchor, before.mean(dim=0), step, 0.1)
            now = now + anchor - before
            for each, row in zip(replicas, now, strict=True):
                vector_to_parameters(row.clone(), each.parameters())
    assert_close(vector(model), now.mean(dim=0))
