"""Spans as named ranges of a profiler, while one runs: of torch's, and of those that read NVTX (Nsight Systems).

The log's stamps are not touched by it. Where no profiler runs, a range costs the look at a flag.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

import torch
from torch.autograd import profiler

NVTX_SIGNS = ("HPCSGD_NVTX", "NSYS_PROFILING_SESSION_ID")
"""Environment variables, one of which asks for NVTX ranges: one's own, and what ``nsys`` sets for what it starts."""

has_nvtx = torch.version.cuda is not None and any(os.environ.get(name) for name in NVTX_SIGNS)


class Range:
    """What is inside has this name in the profiler that runs, if one does."""

    __slots__ = ("_opened", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._opened: ExitStack | None = None

    def __enter__(self) -> None:
        # torch looks at this flag for its own ranges (optimizers, loaders); it has no public name.
        if profiler._is_profiler_enabled or has_nvtx:
            self._opened = opened(self.name)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def opened(name: str) -> ExitStack:
    """A range in each profiler that runs, which is begun; to be closed."""
    stack = ExitStack()
    if profiler._is_profiler_enabled:
        stack.enter_context(profiler.record_function(name))
    if has_nvtx:
        torch.cuda.nvtx.range_push(name)
        stack.callback(torch.cuda.nvtx.range_pop)
    return stack
