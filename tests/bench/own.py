"""What a user's own work costs: a network by import path, and a loop of the user's own that is timed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import torch
import torch.nn.functional as F
from interleave import Gate
from torch import Tensor, nn
from training import BATCH, RATE, Bench

import hpcsgd
from hpcsgd.comm.mpi import MpiCommunicator


def network(widths: tuple[int, ...]) -> nn.Sequential:
    """What ``fully_connected`` is for images of Fashion-MNIST, as a user has it."""
    sizes = (784, *widths)
    hidden = [part for pair in zip(sizes, sizes[1:], strict=False) for part in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes[-1], 10))


def add_loops(bench: Bench, widths: tuple[int, ...]) -> None:
    """A plain loop, and the same in a session that only times it and keeps its log."""

    def parts() -> tuple[nn.Module, torch.optim.Optimizer, tuple[Tensor, Tensor]]:
        torch.manual_seed(0)
        module = network(widths)
        batch = torch.randn(BATCH, 1, 28, 28), torch.arange(BATCH) % 10
        return module, torch.optim.SGD(module.parameters(), RATE), batch

    def gated(gate: Gate, batch: tuple[Tensor, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for again in repeat(batch):
            gate()
            yield again

    def plain(gate: Gate) -> None:
        module, optimizer, batch = parts()
        for images, labels in gated(gate, batch):
            optimizer.zero_grad()
            F.cross_entropy(module(images), labels).backward()
            optimizer.step()

    number = len(bench.lanes)

    def timed(gate: Gate) -> None:
        module, optimizer, batch = parts()
        comm, run_dir = MpiCommunicator(bench.comm.comm.Dup()), str(bench.directory / f"timed{number}")
        with hpcsgd.session(module, optimizer, algorithm=None, comm=comm, run_dir=run_dir) as run:
            for images, labels in run.batches(gated(gate, batch)):
                optimizer.zero_grad()
                F.cross_entropy(module(images), labels).backward()
                run.step()

    bench.loop("plain", plain)
    bench.loop("timed", timed)
    bench.loop("plain again", plain)
