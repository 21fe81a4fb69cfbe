"""Streams and events, in the place of torch.cuda's."""

from __future__ import annotations

import itertools
import time
from typing import Any

import torch

from tests.pretend_gpu.copies import full_device
from tests.pretend_gpu.findings import PretendError
from tests.pretend_gpu.machine import NOT_IN_CAPTURE, the_machine
from tests.pretend_gpu.order import Actor, stream_actor


class Stream:
    """``torch.cuda.Stream``.

    Attributes:
        actor: whose clock it has.
    """

    def __init__(self, device: Any = None, priority: int = 0) -> None:
        """A new stream on ``device``; unset, the current one."""
        self.actor = the_machine().new_stream(full_device(device).index)

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return torch.device("cuda", self.actor.device)

    @property
    def cuda_stream(self) -> int:
        """Its handle."""
        return self.actor.number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.actor == other.actor

    def __hash__(self) -> int:
        return hash(self.actor)

    def wait_event(self, event: Event) -> None:
        """What is queued from now on comes after ``event``."""
        event.wait(self)

    def wait_stream(self, stream: Stream) -> None:
        """What is queued from now on comes after all that is in ``stream``."""
        self.wait_event(stream.record_event())

    def record_event(self, event: Event | None = None) -> Event:
        """An event behind all that is queued."""
        event = event or Event()
        event.record(self)
        return event

    def synchronize(self) -> None:
        """The host waits for it."""
        machine = the_machine()
        with machine.order.lock:
            machine.wait(machine.order.clock(self.actor), "Stream.synchronize")

    def query(self) -> bool:
        """Everything runs at once: it has always done all."""
        the_machine().forbid("Stream.query")
        return True


def stream_of(actor: Actor) -> Stream:
    """The stream that is ``actor``."""
    stream = Stream.__new__(Stream)
    stream.actor = actor
    return stream


_numbers = itertools.count(1)


class Event:
    """``torch.cuda.Event``."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        # torch's own have positive numbers.
        self._number = -next(_numbers)
        self._timing = enable_timing
        self._seconds = 0.0

    def record(self, stream: Stream | None = None) -> None:
        """Be behind all that is queued in ``stream``; unset, the current one."""
        machine = the_machine()
        with machine.order.lock:
            actor = machine.current() if stream is None else stream.actor
            if self._timing and machine.captured(actor) is not None:
                raise PretendError(f"{NOT_IN_CAPTURE}: an event that takes the time")
            machine.findings.events += 1
            machine.record(self._number, actor)
            self._seconds = time.perf_counter()

    def wait(self, stream: Stream | None = None) -> None:
        """Let ``stream`` go on after it; before it was recorded, that is at once."""
        machine = the_machine()
        machine.let_wait(self._number, machine.current() if stream is None else stream.actor)

    def synchronize(self) -> None:
        """The host goes on after it."""
        machine = the_machine()
        with machine.order.lock:
            clock = machine.recorded(self._number)
            if clock is not None:
                machine.wait(clock, "Event.synchronize")

    def query(self) -> bool:
        """Everything runs at once: it has happened."""
        the_machine().forbid("Event.query")
        return True

    def elapsed_time(self, other: Event) -> float:
        """Milliseconds to ``other``.

        Raises:
            PretendError: one takes no time, was not recorded, or is not known to have happened.
        """
        machine = the_machine()
        if not (self._timing and other._timing):
            raise PretendError("Both events must be created with argument 'enable_timing=True'.")
        with machine.order.lock:
            known = machine.order.clock(machine.order.host())
            for event in (self, other):
                clock = machine.recorded(event._number)
                if clock is None:
                    raise PretendError("Both events must be recorded before calculating elapsed time.")
                if any(not actor.is_host and not known.knows(actor, tick) for actor, tick in clock.items()):
                    raise PretendError("CUDA error: device not ready: the host has not waited for the event")
        return 1e3 * (other._seconds - self._seconds)


class StreamContext:
    """``torch.cuda.stream``: with None, nothing."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream

    def __enter__(self) -> None:
        if self.stream is not None:
            machine = the_machine()
            self._before, self._there = machine.current(), machine.current(self.stream.actor.device)
            set_stream(self.stream)

    def __exit__(self, *_error: object) -> None:
        if self.stream is not None:
            set_stream(stream_of(self._there))
            set_stream(stream_of(self._before))


def set_stream(stream: Stream) -> None:
    """Make it the current one, and its device too, as torch does."""
    machine, actor = the_machine(), stream.actor
    if machine.guard.device != actor.device:
        machine.set_device(actor.device)
    machine.guard.set_stream(actor.device, actor.number)


def current_stream(device: Any = None) -> Stream:
    """The present thread's."""
    return stream_of(the_machine().current(full_device(device).index))


def default_stream(device: Any = None) -> Stream:
    """The one that every thread begins with."""
    return stream_of(stream_actor(full_device(device).index, 0))


def synchronize(device: Any = None) -> None:
    """The host waits for all streams."""
    machine = the_machine()
    with machine.order.lock:
        machine.wait(machine.order.everything(), "torch.cuda.synchronize")
