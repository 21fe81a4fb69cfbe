"""Graphs, in the place of torch.cuda's: what is captured is undone, and done again at each replay.

CUDA runs nothing while it captures. Here what is captured has to run, for its results' shapes: at the end of the
capture the memory that it has written to is as before, and what it has made holds numbers that tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.pretend_gpu.findings import PretendError, where
from tests.pretend_gpu.machine import NOT_IN_CAPTURE, the_machine
from tests.pretend_gpu.memory import Memory, Span, numbers_of, spans_of
from tests.pretend_gpu.order import Actor
from tests.pretend_gpu.streams import Stream, StreamContext, synchronize
from tests.pretend_gpu.tensor import poisoned


@dataclass(frozen=True)
class Node:
    """An operation of a graph: how it is done, what it gave, and the memory that it reads and writes."""

    compute: Callable[[], Any]
    out: Any
    uses: list[tuple[Memory, list[Span], bool]]

    def run(self) -> None:
        """Do it again, into the same memory."""
        from tests.pretend_gpu.operations import tensors_in

        for old, new in zip(tensors_in(self.out), tensors_in(self.compute()), strict=False):
            if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                old.copy_(new)


class CUDAGraph:
    """``torch.cuda.CUDAGraph``."""

    def __init__(self, keep_graph: bool = False) -> None:
        self.nodes: list[Node] = []

    def replay(self) -> None:
        """Do all of it again: one launch."""
        machine = the_machine()
        with machine.order.lock:
            stream = machine.current()
            clock = machine.order.enqueue(stream)
            machine.findings.launches += 1
            what = f"replay of a graph, {where()}"
            for node in self.nodes:
                node.run()
                for memory, spans, write in node.uses:
                    machine.touch(memory, spans, stream, clock, what, write=write)

    def pool(self) -> tuple[int, int]:
        """Its memory pool."""
        return (0, 0)

    def reset(self) -> None:
        """Forget it."""
        self.nodes.clear()


class Capture:
    """A capture under way.

    Attributes:
        owner: the thread that began it.
        streams: those that take part.
        joined: of each of them that parted from the first, whether something waits for its end.
        broken: what ended it before its time.
    """

    def __init__(self, graph: CUDAGraph, origin: Actor, owner: Actor, mode: str) -> None:
        self.owner = owner
        self.streams = {origin}
        self.joined: dict[Actor, bool] = {}
        self.broken: str | None = None
        self._graph, self._origin, self._mode = graph, origin, mode
        self._saved: dict[int, tuple[Tensor, Tensor]] = {}
        self._made: dict[int, Tensor] = {}
        self._shadows: dict[Memory, Memory] = {}

    def forbids(self, host: Actor) -> bool:
        """Whether ``host`` may not make a call that could break a capture."""
        return self._mode == "global" or (self._mode == "thread_local" and host == self.owner)

    def shadow(self, memory: Memory) -> Memory:
        """In place of ``memory``, as long as nothing runs."""
        return self._shadows.setdefault(memory, Memory(memory.made))

    def moves(self, origin: Actor | None, stream: Actor) -> None:
        """``stream`` waits for an event of ``origin``, which takes part; None: it does not.

        Raises:
            PretendError: a stream that takes part would wait for what no graph has.
        """
        if origin is not None:
            self.streams.add(stream)
            if stream != self._origin:
                self.joined.setdefault(stream, False)
            if origin != stream:
                self.joined[origin] = True
        elif stream in self.streams:
            self.broken = "a wait for work outside of it"
            raise PretendError(f"{NOT_IN_CAPTURE}: a wait for work outside of the capture")

    def save(self, real: Tensor) -> None:
        """``real`` will be written to."""
        address = real.untyped_storage().data_ptr()
        if address not in self._saved and address not in self._made:
            whole = torch.empty(0, dtype=torch.uint8).set_(real.untyped_storage())
            self._saved[address] = whole, whole.clone()

    def keep(
        self, compute: Callable[[], Any], out: Any, uses: Sequence[tuple[Tensor, bool]], made: Sequence[Tensor]
    ) -> None:
        """An operation becomes a part of the graph; of what it uses, whether it writes it; ``made`` is new."""
        found = []
        for tensor, write in uses:
            memory = the_machine().memory_of(tensor)
            assert memory is not None
            found.append((memory, spans_of(numbers_of(tensor)), write))
        self._graph.nodes.append(Node(compute, out, found))
        self._made.update((tensor.untyped_storage().data_ptr(), tensor) for tensor in made)

    def undo(self) -> None:
        """Nothing has run."""
        for whole, before in self._saved.values():
            whole.copy_(before)
        for tensor in self._made.values():
            poisoned(tensor)

    def check(self) -> None:
        """See that it came to its end.

        Raises:
            PretendError: it did not.
        """
        if self.broken is not None:
            raise PretendError(f"CUDA error: operation failed due to a previous error during capture ({self.broken})")
        loose = [str(stream) for stream, joined in self.joined.items() if not joined and stream != self._origin]
        if loose:
            raise PretendError(f"CUDA error: capturing stream has unjoined work: {', '.join(loose)}")


class Graph:
    """``torch.cuda.graph``: inside, what the present thread queues is captured."""

    own_stream: Stream | None = None

    def __init__(
        self, cuda_graph: CUDAGraph, pool: Any = None, stream: Stream | None = None, capture_error_mode: str = "global"
    ) -> None:
        Graph.own_stream = Graph.own_stream or Stream()
        self._graph, self._mode = cuda_graph, capture_error_mode
        self._stream = stream or Graph.own_stream
        self._context = StreamContext(self._stream)

    def __enter__(self) -> None:
        machine = the_machine()
        synchronize()
        self._context.__enter__()
        machine.capture = Capture(self._graph, self._stream.actor, machine.order.host(), self._mode)

    def __exit__(self, *_error: object) -> None:
        machine = the_machine()
        capture, machine.capture = machine.capture, None
        assert capture is not None
        with machine.order.lock:
            capture.undo()
        # As torch does: where this raises, the thread stays on the stream of the capture.
        capture.check()
        self._context.__exit__()
