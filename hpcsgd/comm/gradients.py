"""Gradient allreduce: buckets of the flat gradient, reduced while the backward pass still runs.

The flat gradient is cut from its end (the last layer, whose gradients come first) in buckets. A hook on each
parameter counts its bucket down; a full bucket is launched, in the same order on every rank. What is left at
:meth:`GradientAllreduce.finish` is launched and waited for there: that wait is the exposed part. The subclasses are
thin: how one bucket is summed over the ranks.
"""

from __future__ import annotations

import re
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from hpcsgd.comm.flat import Slot
from hpcsgd.comm.guard import FiniteGuard
from hpcsgd.errors import JointError, LoneError, StartError

PLACE = re.compile(r"^\[[^\]]*\]\s*")


@contextmanager
def told_as_start(library: str, variables: str) -> Iterator[None]:
    """Inside, a library starts: what it raises, of whatever type, is something to set right in its environment.

    Raises:
        StartError: the body raised such an error; in its first line.
    """
    try:
        yield
    except (JointError, LoneError):
        raise
    except Exception as error:
        # Some of torch's begin with the place in its source, and go on with their own stack.
        lines = [line.strip() for line in PLACE.sub("", str(error)).splitlines() if line.strip()]
        said = lines[0] if lines else type(error).__name__
        raise StartError(
            f"{library} does not start on {socket.gethostname()}: {said}; see the variables {variables}, or set "
            "comm.allreduce: mpi"
        ) from error


class Buckets:
    """A flat gradient cut in buckets at the borders of its tensors, the last tensors first.

    Attributes:
        flat: the flat gradient, 1-d.
        parameters: the parameters, in the order of their gradients in ``flat``.
        parts: the buckets, views of ``flat``, in the order of their launch.
        bucket_of: bucket of each parameter.
    """

    def __init__(self, flat: Tensor, parameters: Sequence[Tensor], slots: Sequence[Slot], bucket_bytes: int) -> None:
        """Cut ``flat``, which holds the gradients at ``slots``, in buckets of at least ``bucket_bytes``."""
        self.flat = flat
        self.parameters = list(parameters)
        starts = cut_buckets([slot.start for slot in slots], flat.numel(), max(1, bucket_bytes // flat.element_size()))
        ends = [flat.numel(), *starts[:-1]]
        self.parts = [flat[start:end] for start, end in zip(starts, ends, strict=True)]
        self.bucket_of = [next(b for b, start in enumerate(starts) if slot.start >= start) for slot in slots]


def cut_buckets(starts: Sequence[int], total: int, bucket_numel: int) -> list[int]:
    """Where to cut a flat buffer of ``total`` elements, from its end: the buckets' starts, falling, the last one 0.

    Cuts fall on tensor ``starts`` only; every bucket but the last has at least ``bucket_numel`` elements.
    """
    cuts = []
    end = total
    for start in sorted(starts, reverse=True):
        if start and end - start >= bucket_numel:
            cuts.append(start)
            end = start
    return [*cuts, 0]


class GradientAllreduce(ABC):
    """Sum of the gradient over ranks: the losses are divided by the samples of all of them before the backward pass.

    Attributes:
        name: of the library.
        pace: called before a bucket is launched in the backward pass, with the part of the gradient that is there then;
            None: nothing is.
    """

    name: str
    pace: Callable[[float], None] | None = None

    def __init__(self, buckets: Buckets, *, overlap: bool) -> None:
        """
        Args:
            buckets: the gradient; reduced in place.
            overlap: launch buckets during the backward pass.
        """
        self.buckets = buckets
        self.overlap = overlap
        self._heads = self.heads()
        # Without overlap, what the backward pass has left in cache goes first.
        self._order = range(len(buckets.parts)) if overlap else range(len(buckets.parts))[::-1]
        self._waiting = [0] * len(buckets.parts)
        self._launched = 0
        self._armed = False
        self.guard: FiniteGuard | None = None
        self.takes_norms = False
        """Whether each bucket is measured before it is summed."""
        self._norms: list[Tensor] = []
        self._closed = False
        self._hooks = []
        if overlap:
            for parameter, bucket in zip(buckets.parameters, buckets.bucket_of, strict=True):
                self._hooks.append(parameter.register_post_accumulate_grad_hook(self._make_hook(bucket)))

    def arm(self, passes: int) -> None:
        """Expect ``passes`` backward passes and then :meth:`finish`; launch during the last of them."""
        self._waiting = [self.buckets.bucket_of.count(b) * passes for b in range(len(self.buckets.parts))]
        self._launched = 0
        self._norms.clear()
        self._armed = True

    def hold(self) -> None:
        """Launch nothing before :meth:`finish`: the coming backward passes say not when a gradient is there."""
        self._armed = False

    def finish(self) -> int:
        """Reduce what is not yet reduced and wait for all.

        Returns:
            the bytes reduced.
        """
        while self._launched < len(self.buckets.parts):
            self._launch_next()
        self._armed = False
        self.wait()
        flat = self.buckets.flat
        if self.guard is not None and flat.device.type == "cpu":
            # A GPU is not waited for at every step: there the losses tell, when they are read.
            for head in self._heads:
                self.guard.after(head, "the gradient is")
        return flat.numel() * flat.element_size()

    def own_norm(self) -> Tensor:
        """The norm of this rank's own gradient, 0-d, before it was summed over all; nothing waits for a GPU."""
        norm: Tensor = torch.linalg.vector_norm(torch.stack(self._norms))
        return norm

    def heads(self) -> list[Tensor]:
        """The elements that tell, after the reduction, of something not finite before it."""
        return [part[0] for part in self.buckets.parts]

    def look(self, part: Tensor, *, more: bool) -> None:
        """Look at a bucket for what is not finite, before it is launched; ``more`` are to come."""
        if self.guard is not None:
            self.guard.before(part, more=more)

    def close(self) -> None:
        """End it: no more hooks, threads or process groups. Collective; closing twice does nothing."""
        if not self._closed:
            self._closed = True
            for hook in self._hooks:
                hook.remove()
            self.shut_down()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: nothing, where a sum forgets what it has summed."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Take up the state that :meth:`state_dict` gave."""

    @abstractmethod
    def launch(self, index: int, bucket: Tensor) -> None:
        """Begin to sum ``bucket``, the ``index``-th, over the ranks, in place."""

    @abstractmethod
    def wait(self) -> None:
        """Wait for all buckets launched."""

    @abstractmethod
    def shut_down(self) -> None:
        """End what :meth:`close` has to end beside the hooks."""

    def _make_hook(self, bucket: int) -> Callable[[Tensor], None]:
        """The hook of a parameter of ``bucket``."""

        def hook(_parameter: Tensor) -> None:
            if not self._armed:
                return
            self._waiting[bucket] -= 1
            # In order: MPI and Gloo match collectives by their order, which must be the same on all ranks.
            while self._launched < len(self._waiting) and self._waiting[self._launched] == 0:
                if self.pace is not None:
                    there = sum(part.numel() for part in self.buckets.parts[: self._launched + 1])
                    self.pace(there / self.buckets.flat.numel())
                self._launch_next()

        return hook

    def _launch_next(self) -> None:
        index = self._order[self._launched]
        part = self.buckets.parts[index]
        if self.takes_norms:
            self._norms.append(torch.linalg.vector_norm(part))
        self.look(part, more=self._launched + 1 < len(self.buckets.parts))
        self.launch(index, part)
        self._launched += 1


class NoAllreduce(GradientAllreduce):
    """One rank: the gradient is its own sum."""

    name = "none"

    def __init__(self, buckets: Buckets) -> None:
        """``buckets`` are left as they are."""
        super().__init__(buckets, overlap=False)

    def finish(self) -> int:
        """Nothing is moved."""
        return 0

    def launch(self, index: int, bucket: Tensor) -> None:
        """The bucket is its own sum."""

    def wait(self) -> None:
        """Nothing to wait for."""

    def shut_down(self) -> None:
        """Nothing to end."""
