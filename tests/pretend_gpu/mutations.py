"""Planted defects: each takes one thing out of the package's stream code, and must be found."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hpcsgd.train as loop
from hpcsgd.comm import background, reduce
from tests.pretend_gpu.cases import CASES
from tests.pretend_gpu.compare import Row, run_case
from tests.pretend_gpu.ranks import Work
from tests.pretend_gpu.streams import Event, Stream
from tests.pretend_gpu.tensor import DeviceTensor
from tests.pretend_gpu.trouble import replaced

STEPS = 4

Hits = list[None]
"""One a time that something was left out."""


@dataclass(frozen=True)
class Mutation:
    """A defect.

    Attributes:
        name: by which it is asked for.
        case: the run that shows it.
        plant: inside, the package has it; gives what counts its effect.
        waits: times that the host may wait in a steady step; None: the defect shows in another way.
    """

    name: str
    case: str
    plant: Callable[[], AbstractContextManager[Hits]]
    waits: int | None = None
    sampled: bool = True


def run_mutation(mutation: Mutation, folder: Path) -> Row:
    """The row of its run: wrong where it is found, and nothing wrong where it had no effect."""
    case = CASES[mutation.case]
    keys = {**case.keys, "max_steps": STEPS}
    with mutation.plant() as hits:
        row = run_case(
            replace(case, name=mutation.name, keys=keys, waits=mutation.waits, launches=None, events=None), folder
        )
    if not hits:
        row.wrong, row.seen = [], ["nothing was left out: the package does it elsewhere now"]
    return row


@contextmanager
def left_out(
    owner: Any,
    name: str,
    *within: str,
    when: Callable[..., bool] = lambda *_: True,
    instead: Callable[..., Any] = lambda *_: None,
) -> Iterator[Hits]:
    """Inside, ``owner.name`` does nothing where a function ``within`` calls it.

    Args:
        owner: a class or a module.
        name: of its method or function.
        within: names of functions that call it.
        when: of the arguments, whether it is meant.
        instead: gives the result.
    """
    plain, hits = getattr(owner, name), Hits()

    def mutated(*arguments: Any, **options: Any) -> Any:
        if sys._getframe(1).f_code.co_name in within and when(*arguments):
            hits.append(None)
            return instead(*arguments)
        return plain(*arguments, **options)

    with replaced(owner, name, mutated):
        yield hits


def is_default(stream: Stream, *_: Any) -> bool:
    """Whether a thread begins with it."""
    return stream.actor.number == 0


def is_own(stream: Stream, *_: Any) -> bool:
    """Whether it was made."""
    return stream.actor.number != 0


def is_capturing(*_: Any) -> bool:
    """Whether a graph is captured."""
    return bool(torch.cuda.is_current_stream_capturing())


def is_labels(tensor: Tensor, *_: Any) -> bool:
    """Whether it is a batch's targets."""
    return tensor.dtype is torch.int64


@contextmanager
def loss_looked_at() -> Iterator[Hits]:
    """The host reads the loss in every step."""
    plain, hits = loop.forward_backward, Hits()

    def looked_at(*arguments: Any) -> Tensor:
        loss = plain(*arguments)
        float(loss)
        hits.append(None)
        return loss

    with replaced(loop, "forward_backward", looked_at):
        yield hits


MUTATIONS = [
    # Averaging through the host
    Mutation("copy_out_before_gradient", "sync", lambda: left_out(Stream, "wait_event", "_reduce_staged")),
    Mutation("sum_before_copy_out", "sync", lambda: left_out(Event, "synchronize", "_reduce_staged")),
    Mutation("step_before_sum", "sync", lambda: left_out(background, "finish_on_stream", "wait")),
    Mutation("model_before_average", "local", lambda: left_out(reduce, "finish_on_stream", "_reduce_guarded")),
    Mutation("center_before_late_sum", "late", lambda: left_out(background, "finish_on_stream", "wait")),
    Mutation("mark_of_nothing", "late",
             lambda: left_out(background, "mark", "start", instead=lambda _: torch.cuda.Event())),
    # Streams
    Mutation("branch_before_batch", "m3_streams", lambda: left_out(Stream, "wait_stream", "_branches", when=is_own)),
    Mutation("losses_before_branch", "m3_streams",
             lambda: left_out(Stream, "wait_stream", "_branches", "_come_back", when=is_default)),
    # Graphs
    Mutation("warm_up_before_batch", "m3_graph", lambda: left_out(Stream, "wait_stream", "_capture", when=is_own)),
    Mutation("undone_before_warm_up", "m3_graph", lambda: left_out(Stream, "wait_stream", "_capture", when=is_default)),
    Mutation("warm_up_not_undone", "m3_graph",
             lambda: left_out(torch.Tensor, "copy_", "put_back", instead=lambda to, _: to)),
    Mutation("branch_not_joined", "m3_graph",
             lambda: left_out(Stream, "wait_stream", "_branches", "_come_back",
                              when=lambda here, _: is_capturing() and here == torch.cuda.current_stream())),
    # Batches that are sent ahead
    Mutation("batch_before_copy", "pack", lambda: left_out(Stream, "wait_event", "take")),
    Mutation("copied_over_in_use", "pack", lambda: left_out(DeviceTensor, "record_stream", "take")),
    # NCCL
    Mutation("step_before_nccl", "nccl", lambda: left_out(Work, "wait", "wait")),
    # The log
    Mutation("stamp_read_at_once", "one", lambda: left_out(Event, "synchronize", "seconds")),
    Mutation("loss_looked_at", "one", loss_looked_at, waits=0),
    # Devices
    Mutation("labels_on_the_host", "pack",
             lambda: left_out(torch.Tensor, "to", "send", when=is_labels, instead=lambda labels, *_, **__: labels)),
    Mutation("device_not_bound", "second_plain", lambda: left_out(torch.cuda, "set_device", "bind_device")),
]  # fmt: skip
