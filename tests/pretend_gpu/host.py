"""What the threads of the host do: look at memory that streams write to, and hand things to each other."""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import torch
from torch import Tensor

from tests.pretend_gpu.machine import the_machine
from tests.pretend_gpu.order import Actor, Clock
from tests.pretend_gpu.tensor import DeviceTensor

READS = ("item", "tolist", "__float__", "__int__", "__bool__")
WRITES = ("numpy", "copy_", "fill_", "zero_", "__setitem__")
"""Methods by which the host touches a tensor itself; whoever asks for an array may write to it."""


def watch_host() -> None:
    """Put all of it in place."""
    for name in (*READS, *WRITES):
        _watch(name, write=name in WRITES)
    _watch_out_of("index_select")
    for name in ("backward", "grad"):
        setattr(torch.autograd, name, _by_caller(getattr(torch.autograd, name)))
    queue.Queue = queue.SimpleQueue = HandingQueue  # type: ignore[misc, assignment]
    _watch_futures()
    _watch_threads()


def _watch(name: str, *, write: bool) -> None:
    """Let the method ``name`` of a tensor of the host tell."""
    plain = getattr(torch.Tensor, name)

    @functools.wraps(plain)
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(self, DeviceTensor):
            if not (name == "copy_" and args and isinstance(args[0], DeviceTensor)):
                the_machine().host_touches(self, name, write=write)
        elif name == "tolist":
            return self.cpu().tolist()
        elif name == "numpy":
            raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() first")
        return plain(self, *args, **kwargs)

    setattr(torch.Tensor, name, method)


def _watch_out_of(name: str) -> None:
    """Let the function ``name`` of torch tell of the tensor of the host that it writes to."""
    plain = getattr(torch, name)

    @functools.wraps(plain)
    def function(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("out") is not None:
            the_machine().host_touches(kwargs["out"], name, write=True)
        return plain(*args, **kwargs)

    setattr(torch, name, function)


def _by_caller(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Autograd's thread works for the one that called it."""

    @functools.wraps(plain)
    def call(*args: Any, **kwargs: Any) -> Any:
        order = the_machine().order
        order.begin_backward()
        try:
            return plain(*args, **kwargs)
        finally:
            order.end_backward()

    return call


class HandingQueue(queue.Queue):  # type: ignore[type-arg]
    """A queue: who takes something knows what who put it there had done."""

    def _put(self, item: Any) -> None:
        order = the_machine().order
        with order.lock:
            clock = order.hand_over()
        super()._put((clock, item))

    def _get(self) -> Any:
        clock, item = super()._get()
        order = the_machine().order
        with order.lock:
            order.host_waits(clock)
        return item


def _watch_futures() -> None:
    """Who takes a result knows what who gave it had done."""
    set_result, result = Future.set_result, Future.result

    def set_and_hand_over(self: Future[Any], value: Any) -> None:
        order = the_machine().order
        with order.lock:
            self.clock = order.hand_over()  # type: ignore[attr-defined]
        set_result(self, value)

    def take(self: Future[Any], timeout: float | None = None) -> Any:
        value = result(self, timeout)
        order = the_machine().order
        with order.lock:
            order.host_waits(getattr(self, "clock", Clock()))
        return value

    Future.set_result, Future.result = set_and_hand_over, take  # type: ignore[method-assign]


def _watch_threads() -> None:
    """A thread knows what was done before it was started, and who joins it what it did."""
    start, join = threading.Thread.start, threading.Thread.join

    def start_after(self: threading.Thread) -> None:
        order = the_machine().order
        with order.lock:
            order.clock(Actor(-1, 0, self.name)).join(order.hand_over())
        start(self)

    def join_after(self: threading.Thread, timeout: float | None = None) -> None:
        join(self, timeout)
        order = the_machine().order
        if not self.is_alive():
            with order.lock:
                order.host_waits(order.clock(Actor(-1, 0, self.name)))

    threading.Thread.start, threading.Thread.join = start_after, join_after  # type: ignore[method-assign]
