"""What torch does with tensors of the device: the same on the CPU, with the rules and the order of a GPU."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_map_only

from tests.pretend_gpu import copies
from tests.pretend_gpu.findings import PretendError, where
from tests.pretend_gpu.machine import the_machine
from tests.pretend_gpu.memory import spans_of
from tests.pretend_gpu.tensor import DeviceTensor, wrapped

HOST_LOOKS = {"aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero", "aten::masked_select", "aten::nonzero"}
"""The host needs their results, or the sizes of them."""

INDEXED = {"aten::index", "aten::index_put_", "aten::_index_put_impl_"}
"""Operations whose indices may be on the host."""

WRITES_UNSAID = {"aten::native_batch_norm": ("running_mean", "running_var")}
"""Arguments that an operation changes without a word in its schema."""

TENSORS_OF_A_LAUNCH = 64
"""Of a ``_foreach`` operation on the fast path; on the slow one it is a launch a tensor."""


@dataclass(frozen=True)
class Kind:
    """What the schema of an operation says."""

    name: str
    arguments: tuple[str, ...]
    written: frozenset[str]
    is_view: bool


@functools.cache
def kind_of(func: Any) -> Kind:
    """Of an operation."""
    schema = func._schema
    arguments = [(a.name, a.alias_info is not None and a.alias_info.is_write) for a in schema.arguments]
    written = {name for name, writes in arguments if writes} | set(WRITES_UNSAID.get(schema.name, ()))
    aliased = any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)
    return Kind(schema.name, tuple(name for name, _ in arguments), frozenset(written), aliased and not written)


def tensors_in(value: object) -> Iterator[Tensor]:
    """The tensors in an argument."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from tensors_in(part)


def real(value: Any) -> Any:
    """An argument as the CPU takes it."""
    if isinstance(value, DeviceTensor):
        return value.real_tensor
    return type(value)(map(real, value)) if isinstance(value, (list, tuple)) else value


def real_options(options: dict[str, Any]) -> dict[str, Any]:
    """Options as the CPU takes them."""
    return {name: real(value) for name, value in options.items()}


@dataclass
class Call:
    """A call of an operation with at least one tensor of the device."""

    func: Any
    kind: Kind
    args: Any
    kwargs: dict[str, Any]
    device: torch.device
    read: list[DeviceTensor] = field(default_factory=list)
    written: list[DeviceTensor] = field(default_factory=list)

    def sort_tensors(self) -> None:
        """Find what is read and written.

        Raises:
            PretendError: they are on several devices.
        """
        machine = the_machine()
        for key, value in (*zip(self.kind.arguments, self.args, strict=False), *self.kwargs.items()):
            for tensor in tensors_in(value):
                if isinstance(tensor, DeviceTensor) and tensor.device == self.device:
                    (self.written if key in self.kind.written else self.read).append(tensor)
                elif isinstance(tensor, DeviceTensor) or key in self.kind.written:
                    raise self._on_two_devices(tensor, key)
                elif tensor.dim() and self.kind.name in INDEXED and key == "indices":
                    machine.wait(machine.order.enqueue(machine.current(self.device.index)), "copy of indices")
                elif tensor.dim():
                    raise self._on_two_devices(tensor, key)

    def _on_two_devices(self, tensor: Tensor, key: str) -> PretendError:
        return PretendError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{self.device} and {tensor.device} ({self.kind.name}, {key}, {where()})"
        )

    def on_cpu(self) -> Callable[[], Any]:
        """Does it, on the CPU, whenever it is called."""
        kwargs = real_options(self.kwargs)
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("cpu")
        kwargs.pop("pin_memory", None)
        return functools.partial(self.func, *real(self.args), **kwargs)

    def num_launches(self) -> int:
        """Kernels of it."""
        if not self.kind.name.startswith("aten::_foreach"):
            return 1
        lists = self.written or self.read
        partners = self.read if self.written and self.read else lists
        fast = all(a.stride() == b.stride() for a, b in zip(lists, partners, strict=False))
        return -(-len(lists) // TENSORS_OF_A_LAUNCH) if fast else len(lists)


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What a call of an operation gives."""
    with the_machine().order.lock:
        kind = kind_of(func)
        if kind.name in APART:
            return APART[kind.name](func, args, kwargs)
        device = next(t.device for t in tensors_in([*args, *kwargs.values()]) if isinstance(t, DeviceTensor))
        wanted = kwargs.get("device")
        if wanted is not None and torch.device(wanted).type == "cpu":
            return func(*real(args), **real_options(kwargs))
        call = Call(func, kind, args, kwargs, device)
        call.sort_tensors()
        if kind.is_view:
            return _view(call)
        return _look(call) if kind.name in HOST_LOOKS else _launch(call)


def _view(call: Call) -> Any:
    """A view is another look at the same memory: nothing is done."""
    (memory,) = {tensor.memory for tensor in (*call.read, *call.written)}
    out = tree_map_only(Tensor, lambda part: DeviceTensor(part, call.device, memory), call.on_cpu()())
    return return_and_correct_aliasing(call.func, call.args, call.kwargs, out)


def _look(call: Call) -> Any:
    """The host waits for a result."""
    machine = the_machine()
    stream = machine.current(call.device.index)
    clock, what = machine.order.enqueue(stream), f"{call.kind.name}, {where()}"
    for tensor in call.read:
        machine.touch(tensor.memory, spans_of(tensor.real_tensor), stream, clock, what, write=False)
    machine.findings.launches += 1
    machine.wait(clock, call.kind.name)
    return tree_map_only(Tensor, lambda part: wrapped(machine, part, call.device, where()), call.on_cpu()())


def _launch(call: Call) -> Any:
    """Put a kernel into the queue of the current stream."""
    machine = the_machine()
    stream = machine.current(call.device.index)
    machine.check_stream(stream, call.kind.name)
    capture = machine.captured(stream)
    if capture is not None:
        for tensor in call.written:
            capture.save(tensor.real_tensor)
    compute = call.on_cpu()
    out = compute()
    made: list[DeviceTensor] = []
    what = f"{call.kind.name}, {where()}"
    result = tree_map_only(Tensor, _wrapper(call, made, what), out)
    machine.findings.launches += call.num_launches()
    uses = [(tensor, False) for tensor in call.read] + [(tensor, True) for tensor in (*call.written, *made)]
    clock = machine.order.enqueue(stream)
    for tensor, write in uses:
        machine.touch(tensor.memory, spans_of(tensor.real_tensor), stream, clock, what, write=write)
    if capture is not None:
        capture.keep(compute, out, uses, [tensor.real_tensor for tensor in made])
    return result


def _wrapper(call: Call, made: list[DeviceTensor], what: str) -> Callable[[Tensor], DeviceTensor]:
    """Gives the tensor of the device for a result: an argument, another look at one, or a new one."""
    machine = the_machine()
    given = (*call.written, *call.read)

    def wrap(part: Tensor) -> DeviceTensor:
        for tensor in given:
            if tensor.real_tensor is part:
                return tensor
        address = part.untyped_storage().data_ptr()
        for tensor in given:
            if part.numel() and tensor.real_tensor.untyped_storage().data_ptr() == address:
                return DeviceTensor(part, call.device, tensor.memory)
        made.append(wrapped(machine, part, call.device, what))
        return made[-1]

    return wrap


def _refuse_to_pin(_func: Any, _args: Any, _kwargs: dict[str, Any]) -> Any:
    raise PretendError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")


def _copy(_func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    non_blocking = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
    return copies.copy_(args[0], args[1], non_blocking=bool(non_blocking))


APART: dict[str, Callable[[Any, Any, dict[str, Any]], Any]] = {
    "prim::device": lambda _func, args, _kwargs: args[0].device,
    "aten::is_pinned": lambda _func, _args, _kwargs: False,
    "aten::_pin_memory": _refuse_to_pin,
    "aten::copy_": _copy,
    "aten::_to_copy": lambda _func, args, kwargs: copies.to_copy(args[0], kwargs),
}
"""Operations that are no kernels."""
