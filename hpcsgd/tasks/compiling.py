"""``torch.compile`` of a network, in place: its parameters, the names of its state and the network itself stay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

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
    # A shape that is not known before would else be a reason to compile anew what was for one shape.
    module.compile(backend=backend, dynamic=False)


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
