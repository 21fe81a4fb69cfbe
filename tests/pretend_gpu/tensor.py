"""A tensor that says it is on a GPU, while its numbers are on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.pretend_gpu.findings import PretendError
from tests.pretend_gpu.machine import Machine
from tests.pretend_gpu.memory import Memory


class DeviceTensor(torch.Tensor):
    """See the module.

    Attributes:
        real_tensor: the numbers.
        memory: the allocation that they are in, which views share.
    """

    real_tensor: Tensor
    memory: Memory

    @staticmethod
    def __new__(cls, real: Tensor, device: torch.device, memory: Memory) -> DeviceTensor:
        self: DeviceTensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            real.size(),
            strides=real.stride(),
            storage_offset=real.storage_offset(),
            dtype=real.dtype,
            device=device,
        )
        self.real_tensor, self.memory = real, memory
        return self

    def __init__(self, *_arguments: object) -> None:
        """All is done."""

    def __repr__(self, **_options: object) -> str:  # type: ignore[override]
        return f"DeviceTensor({tuple(self.shape)}, {self.dtype}, {self.device})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from tests.pretend_gpu.operations import run

        return run(func, args, kwargs or {})

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return self.detach().clone().requires_grad_(self.requires_grad)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise PretendError("a tensor on the GPU is pickled: that copies it to the host, and waits")

    def record_stream(self, stream: Any) -> None:
        """Its memory is not given back before ``stream`` has done what is in its queue now."""
        self.memory.safe_for.add(stream.actor)


def wrapped(machine: Machine, real: Tensor, device: torch.device, made: str) -> DeviceTensor:
    """``real`` as a tensor with memory of its own on ``device``, of its current stream."""
    memory = Memory(made)
    if machine.capture is None:
        memory.free_late(machine.order, machine.current(device.index), machine.findings.races)
    return DeviceTensor(real, device, memory)


def poisoned(real: Tensor) -> Tensor:
    """``real`` with numbers that tell when they are used: memory that nobody has written to yet."""
    if real.is_floating_point():
        return real.fill_(float("nan"))
    return real.fill_(-(2**40)) if real.dtype is torch.int64 else real


def let_data_be_set() -> None:
    """``tensor.data``, which is not dispatched, takes the numbers along."""
    plain = torch.Tensor.data

    def get(self: Tensor) -> Tensor:
        if not isinstance(self, DeviceTensor):
            return plain.__get__(self)  # type: ignore[attr-defined, no-any-return]
        with torch.no_grad():
            return self.detach()

    def put(self: Tensor, other: Tensor) -> None:
        plain.__set__(self, other)  # type: ignore[attr-defined]
        if isinstance(other, DeviceTensor):
            assert isinstance(self, DeviceTensor)
            self.real_tensor, self.memory = other.real_tensor, other.memory

    torch.Tensor.data = property(get, put)  # type: ignore[assignment, method-assign]
    # A module's parameters become other objects: they cannot change their class.
    torch.__future__.set_overwrite_module_params_on_conversion(True)
