"""``torch.compile`` of a network, in place: its parameters, the names of its state and the network itself stay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from hpcsgd.errors import UsageError


def compile_(module: nn.Module, backend: str) -> None:
    """Let ``module`` be compiled by ``backend``, for each shape of its inputs at its first call.

    Raises:
        UsageError: torch has no such backend.
    """
    import torch._dynamo

    known = torch._dynamo.list_backends(exclude_tags=())
    if backend not in known:
        raise UsageError(f"compile_backend is {backend!r}: choose one of {', '.join(known)}")

    def call(*inputs: Any, **named: Any) -> Any:
        return module._call_impl(*inputs, **named)

    # Not by module.compile(), which compiles nothing of a class of torch's own, as nn.Sequential. A second shape would
    # else be a reason to compile anew, for any shape, what was for one.
    module._compiled_call_impl = torch.compile(call, backend=backend, dynamic=False)


def undo_compile(module: nn.Module) -> None:
    """Let ``module`` be called as it is written."""
    module._compiled_call_impl = None


@contextmanager
def as_written(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Inside, ``modules`` are called as they are written: with settings for which they are not compiled."""
    compiled = [(module, module._compiled_call_impl) for module in modules]
    for module, _ in compiled:
        undo_compile(module)
    try:
        yield
    finally:
        for module, call in compiled:
            module._compiled_call_impl = call
