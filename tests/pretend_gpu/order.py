"""What comes before what: a vector clock for each stream of a device and for each thread of the host.

Everything runs at once, in the order in which the host asks for it. Whether a GPU would have kept that order is a
matter of the clocks: an access comes before another one if a stream, an event, or the host's waiting says so
(Lamport 1978; Mattern 1989).
"""

from __future__ import annotations

import threading
from typing import NamedTuple


class Actor(NamedTuple):
    """Who does things one after another: stream ``number`` of ``device``, or the thread ``name`` of the host."""

    device: int
    number: int
    name: str = ""

    @property
    def is_host(self) -> bool:
        """Whether it is a thread."""
        return self.device < 0

    def __str__(self) -> str:
        return f"thread {self.name}" if self.is_host else f"stream {self.number} of device {self.device}"


def stream_actor(device: int, number: int) -> Actor:
    """The stream ``number`` of ``device``; 0 is the default one."""
    return Actor(device, number)


class Clock(dict[Actor, int]):
    """Of each actor, the last of its ticks that comes before."""

    def join(self, other: Clock) -> None:
        """All that comes before ``other`` comes before this too."""
        for actor, tick in other.items():
            if self.get(actor, 0) < tick:
                self[actor] = tick

    def knows(self, actor: Actor, tick: int) -> bool:
        """Whether that tick of ``actor`` comes before."""
        return self.get(actor, 0) >= tick


class Order:
    """The clocks of all actors. To be used under :attr:`lock`.

    Attributes:
        era: what was done in an earlier one comes before all of this one.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.era = 0
        self._clocks: dict[Actor, Clock] = {}
        self._calls_backward: list[Actor] = []

    def begin_era(self) -> None:
        """Everything so far is over."""
        self.era += 1
        self._clocks.clear()

    def host(self) -> Actor:
        """The present thread; autograd's own threads work for the one that called backward."""
        thread = threading.current_thread()
        if isinstance(thread, threading._DummyThread) and self._calls_backward:
            return self._calls_backward[-1]
        return Actor(-1, 0, thread.name)

    def begin_backward(self) -> None:
        """The present thread hands over to autograd's."""
        self._calls_backward.append(self.host())

    def end_backward(self) -> None:
        """It goes on by itself."""
        self._calls_backward.pop()

    def clock(self, actor: Actor) -> Clock:
        """What comes before the next thing that ``actor`` does."""
        return self._clocks.setdefault(actor, Clock())

    def tick(self, actor: Actor) -> Clock:
        """``actor`` does something."""
        clock = self.clock(actor)
        clock[actor] = clock.get(actor, 0) + 1
        return clock

    def enqueue(self, stream: Actor) -> Clock:
        """The present thread puts something into the queue of ``stream``: it comes after all that the thread knows."""
        self.clock(stream).join(self.clock(self.host()))
        return self.tick(stream)

    def host_waits(self, clock: Clock) -> None:
        """The present thread goes on after ``clock``."""
        self.clock(self.host()).join(clock)

    def hand_over(self) -> Clock:
        """What another thread knows by what it gets from this one: all that was done so far, and nothing later."""
        return Clock(self.tick(self.host()))

    def everything(self) -> Clock:
        """All that was put into any stream."""
        result = Clock()
        for actor, clock in self._clocks.items():
            if not actor.is_host:
                result.join(clock)
        return result
