"""What a user's own work costs: a network by import path, and a loop of the user's own that is timed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from itertools import repeat
from pathlib import Path

import torch
import torch.nn.functional as F
from learners import Steps
from torch import Tensor, nn
from training import BATCH, RATE

import hpcsgd


def network(widths: tuple[int, ...]) -> nn.Sequential:
    """What ``fully_connected`` is for images of Fashion-MNIST, as a user has it."""
    sizes = (784, *widths)
    hidden = [part for pair in zip(sizes, sizes[1:], strict=False) for part in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes[-1], 10))


class Whole(Steps):
    """Steps that are all timed: what a session writes now and then counts, whenever it comes.

    Several ways of one loop share network, optimizer and batch: where these happen to lie in memory makes a loop up to
    3 % faster or slower for good.
    """

    def __init__(self, name: str, step: Callable[[], None], steps: int, keep: object = None) -> None:
        """As of :class:`Steps`; ``keep`` lives as long as this."""
        super().__init__(name, step, steps)
        self._keep = keep

    def prepare(self) -> None:
        """Nothing comes before."""


def timer_variants(directory: Path, widths: tuple[int, ...], steps: int) -> list[Whole]:
    """A plain loop, and the same in a session that only times it and writes its log."""
    torch.manual_seed(0)
    module = network(widths)
    optimizer = torch.optim.SGD(module.parameters(), RATE)
    alone = repeat((torch.randn(BATCH, 1, 28, 28), torch.arange(BATCH) % 10))
    stack = contextlib.ExitStack()
    run = stack.enter_context(hpcsgd.session(module, optimizer, algorithm=None, run_dir=str(directory / "timed")))
    batches, step_plainly = iter(run.batches(alone)), optimizer.step

    def passes(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(module(images), labels).backward()

    def plain() -> None:
        passes(*next(alone))
        step_plainly()

    def timed() -> None:
        passes(*next(batches))
        run.step()

    return [Whole("plain", plain, steps), Whole("timed", timed, steps, stack), Whole("plain again", plain, steps)]
