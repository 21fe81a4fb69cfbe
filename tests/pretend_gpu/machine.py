"""The one pretend machine of a process: its guard, the order of what is done on it, and what was found."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tests.pretend_gpu.findings import Findings, PretendError, where
from tests.pretend_gpu.guard import Guard
from tests.pretend_gpu.memory import Memory, Span, numbers_of, spans_of
from tests.pretend_gpu.order import Actor, Clock, Order, stream_actor

if TYPE_CHECKING:
    from tests.pretend_gpu.graphs import Capture

NOT_IN_CAPTURE = "CUDA error: operation not permitted when stream is capturing"


class Machine:
    """What all parts of the pretend GPU share.

    Attributes:
        home: the device that this rank may use.
        capture: of a graph, the one under way.
        kept: what must live as long as it does.
    """

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.order = Order()
        self.findings = Findings()
        self.home = 0
        self.capture: Capture | None = None
        self.kept: list[object] = []
        self._pinned: dict[int, Memory] = {}
        self._recorded: dict[int, tuple[Clock, Actor, bool]] = {}
        self._next_stream = 1
        guard.listen(self._on_record, self._on_block, self._on_question, self._on_pinned)

    def begin_run(self) -> None:
        """Forget what was found, and what was done: all of it is over."""
        with self.order.lock:
            self.findings.clear()
            self.order.begin_era()
            self._recorded.clear()

    # Streams

    def new_stream(self, device: int) -> Actor:
        """A stream of its own."""
        self._next_stream += 1
        return stream_actor(device, self._next_stream - 1)

    def current(self, device: int | None = None) -> Actor:
        """The present thread's stream of ``device``; unset, of its current device."""
        index = self.guard.device if device is None else device
        return stream_actor(index, self.guard.stream(index))

    def set_device(self, index: int) -> None:
        """``cudaSetDevice``, which makes a context there."""
        if index != self.home:
            self.findings.foreign[f"thread {threading.current_thread().name} goes to device {index}, {where()}"] += 1
        self.guard.device = index

    def captured(self, stream: Actor) -> Capture | None:
        """The capture that ``stream`` takes part in."""
        return self.capture if self.capture is not None and stream in self.capture.streams else None

    def check_stream(self, stream: Actor, what: str) -> None:
        """Note that something is put into the queue of a device that is not the rank's.

        Raises:
            PretendError: the present thread captures, and ``stream`` takes no part in that.
        """
        if stream.device != self.home:
            self.findings.foreign[f"{what} on device {stream.device}, {where()}"] += 1
        capture = self.capture
        if capture is not None and stream not in capture.streams and capture.owner == self.order.host():
            raise PretendError(f"{NOT_IN_CAPTURE}: {what} on {stream}, which takes no part in it, {where()}")

    # The host

    def wait(self, clock: Clock, what: str) -> None:
        """The host waits until ``clock``."""
        self.forbid(what)
        self.order.host_waits(clock)
        self.findings.waits[f"{what}, {where()}"] += 1

    def forbid(self, what: str) -> None:
        """What the present thread may not do while a graph is captured, in the capture's mode.

        Raises:
            PretendError: one is; it comes to nothing.
        """
        if self.capture is not None and self.capture.forbids(self.order.host()):
            self.capture.broken = f"{what} in {self.order.host()}"
            raise PretendError(f"{NOT_IN_CAPTURE}: {what}, {where()}")

    def memory_of(self, tensor: Tensor) -> Memory | None:
        """The memory of a tensor of the device, or pinned; None: it is the host's alone."""
        own: Memory | None = getattr(tensor, "memory", None)
        if own is not None or not self._pinned or tensor.layout is not torch.strided or not tensor.is_pinned():
            return own
        return self._pinned.get(tensor.untyped_storage().data_ptr())

    def host_touches(self, tensor: Tensor, what: str, *, write: bool) -> None:
        """The host reads or writes a tensor itself, be it on the device (an MPI that can)."""
        with self.order.lock:
            memory = self.memory_of(tensor)
            if memory is not None:
                host = self.order.host()
                self.touch(
                    memory, spans_of(numbers_of(tensor)), host, self.order.tick(host), f"{what}, {where()}", write=write
                )

    def touch(
        self, memory: Memory, spans: Sequence[Span], actor: Actor, clock: Clock, what: str, *, write: bool
    ) -> None:
        """``actor`` reads or writes part of ``memory``; ``what`` says what it does, and where that is."""
        capture = self.captured(actor)
        if capture is not None:
            # Nothing runs yet: what is captured is compared with itself, and counts when it is replayed.
            memory = capture.shadow(memory)
        for race in memory.touch(spans, actor, clock, what, write=write, era=self.order.era):
            self.findings.races[race] += 1

    # What torch's own C++ tells

    def record(self, event: int, stream: Actor) -> None:
        """An event behind all that is in the queue of ``stream``."""
        with self.order.lock:
            if stream.device != self.home:
                self.findings.foreign[f"event on device {stream.device}, {where()}"] += 1
            capture = self.captured(stream)
            if capture is not None:
                capture.joined.setdefault(stream, False)
            self._recorded[event] = (Clock(self.order.enqueue(stream)), stream, capture is not None)

    def let_wait(self, event: int, stream: Actor) -> None:
        """``stream`` goes on after an event."""
        with self.order.lock:
            if event in self._recorded:
                clock, origin, in_capture = self._recorded[event]
                if self.capture is not None:
                    self.capture.moves(origin if in_capture else None, stream)
                self.order.enqueue(stream).join(clock)

    def recorded(self, event: int) -> Clock | None:
        """What comes before an event; None: it is not recorded."""
        return self._recorded[event][0] if event in self._recorded else None

    def _on_record(self, event: int, device: int, stream: int) -> None:
        self.record(event, stream_actor(device, stream))

    def _on_block(self, event: int, device: int, stream: int) -> None:
        try:
            self.let_wait(event, stream_actor(device, stream))
        except PretendError as error:  # nobody above could take it: the end of the capture tells
            assert self.capture is not None
            self.capture.broken = str(error)

    def _on_question(self, device: int, stream: int) -> int:
        return int(self.captured(stream_actor(device, stream)) is not None)

    def _on_pinned(self, address: int, _num_bytes: int) -> None:
        if self.capture is not None and self.capture.forbids(self.order.host()):
            self.capture.broken = f"cudaHostAlloc in {self.order.host()}"
        self._pinned[address] = Memory(f"pinned memory, {where()}")


_present: list[Machine] = []


def begin(guard: Guard) -> Machine:
    """Make the machine of this process."""
    assert not _present, "one machine a process"
    _present.append(Machine(guard))
    return the_machine()


def the_machine() -> Machine:
    """That of this process."""
    return _present[0]
