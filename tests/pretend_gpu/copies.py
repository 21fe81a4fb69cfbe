"""Copies within the device, and between it and the host; and tensors that are made on the device."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tests.pretend_gpu.findings import PretendError, where
from tests.pretend_gpu.machine import NOT_IN_CAPTURE, the_machine
from tests.pretend_gpu.memory import numbers_of, spans_of
from tests.pretend_gpu.tensor import DeviceTensor, poisoned, wrapped

CPU = torch.device("cpu")


def copy_(to: Tensor, source: Tensor, *, non_blocking: bool) -> Tensor:
    """``to.copy_(source)``, where at least one is on the device.

    The host waits for a copy that may not go on behind its back, and for any into memory that is not pinned.

    Raises:
        PretendError: between two GPUs, which no rank has, or one that waits within a capture.
    """
    machine = the_machine()
    device = (to if isinstance(to, DeviceTensor) else source).device
    if isinstance(to, DeviceTensor) and isinstance(source, DeviceTensor) and to.device != source.device:
        raise PretendError(f"a copy from {source.device} to {device}, {where()}")
    stream = machine.current(device.index)
    across = not (isinstance(to, DeviceTensor) and isinstance(source, DeviceTensor))
    to_host = not isinstance(to, DeviceTensor)
    host = to if to_host else source
    pinned = across and host.is_pinned()
    waits = across and (not non_blocking or (to_host and not pinned))
    machine.check_stream(stream, "copy")
    capture = machine.captured(stream)
    if capture is not None and across and (waits or not pinned):
        capture.broken = "a copy that waits"
        raise PretendError(f"{NOT_IN_CAPTURE}: a copy that waits, {where()}")
    if capture is not None:
        capture.save(numbers_of(to))
    clock, what = machine.order.enqueue(stream), f"copy, {where()}"
    machine.findings.launches += 1
    uses = [(tensor, write) for tensor, write in ((source, False), (to, True)) if machine.memory_of(tensor) is not None]
    for tensor, write in uses:
        memory = machine.memory_of(tensor)
        assert memory is not None
        machine.touch(memory, spans_of(numbers_of(tensor)), stream, clock, what, write=write)
    compute = functools.partial(PLAIN_COPY, numbers_of(to), numbers_of(source))
    compute()
    if capture is not None:
        capture.keep(compute, None, uses, [])
    if waits:
        machine.wait(clock, "copy to the host" if to_host else "copy to the device")
    return to


PLAIN_COPY: Callable[[Tensor, Tensor], Tensor] = torch.Tensor.copy_
"""Before it is watched: see ``host.py``."""


def to_copy(source: Tensor, options: dict[str, Any]) -> Tensor:
    """``source.to(...)``, where it or the result is on the device."""
    wanted = torch.device(options["device"]) if options.get("device") is not None else source.device
    non_blocking = bool(options.get("non_blocking"))
    form = {name: options[name] for name in ("memory_format",) if options.get(name) is not None}
    blank = torch.empty_like(numbers_of(source), dtype=options.get("dtype"), **form)
    if wanted.type == "cuda":
        blank = wrapped(the_machine(), poisoned(blank), full_device(wanted), where())
    elif non_blocking:
        blank = blank.pin_memory()
    return copy_(blank, source, non_blocking=non_blocking)


def full_device(device: Any = None) -> torch.device:
    """A device of torch's with its number: the current one where none is said."""
    if isinstance(device, int):
        return torch.device("cuda", device)
    found = torch.device("cuda" if device is None else device)
    return torch.device("cuda", the_machine().guard.device if found.index is None else found.index)


def let_tensors_be_made() -> torch.library.Library:
    """Let torch make tensors on the device; what comes back keeps it so."""
    library = torch.library.Library("aten", "IMPL")

    def empty(
        size: Sequence[int], *, dtype: Any = None, device: Any = None, memory_format: Any = None, **_: Any
    ) -> Any:
        form = {} if memory_format is None else {"memory_format": memory_format}
        return wrapped(
            the_machine(), poisoned(torch.empty(size, dtype=dtype, device=CPU, **form)), full_device(device), where()
        )

    def strided(size: Sequence[int], stride: Sequence[int], *, dtype: Any = None, device: Any = None, **_: Any) -> Any:
        blank = torch.empty_strided(size, stride, dtype=dtype, device=CPU)
        return wrapped(the_machine(), poisoned(blank), full_device(device), where())

    def arange(*bounds: Any, dtype: Any = None, device: Any = None, **_: Any) -> Any:
        machine = the_machine()
        numbers = torch.arange(*bounds, dtype=dtype, device=CPU)
        with machine.order.lock:
            result = wrapped(machine, numbers, full_device(device), where())
            stream = machine.current(result.device.index)
            clock = machine.order.enqueue(stream)
            machine.findings.launches += 1
            machine.touch(result.memory, spans_of(numbers), stream, clock, f"arange, {where()}", write=True)
        return result

    library.impl("empty.memory_format", empty, "CUDA")
    library.impl("empty_strided", strided, "CUDA")
    for overload in ("arange", "arange.start", "arange.start_step"):
        library.impl(overload, arange, "CUDA")
    return library
