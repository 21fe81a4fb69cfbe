"""A CUDA stream a learner, one by one or captured in one graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from torch import Tensor

from hpcsgd.data.batches import Batch
from hpcsgd.data.trees import leaves, map_tree
from hpcsgd.learners.engines.base import Lap, NotPossibleError, check_draws, check_loss, no_lap, start_training
from hpcsgd.learners.engines.loop import LoopEngine
from hpcsgd.learners.stack import PassState, ReplicaStack
from hpcsgd.tasks.task import Task


class StreamsEngine(LoopEngine):
    """A stream a learner; see :class:`~hpcsgd.learners.engines.base.Engine`."""

    name = "streams"

    def __init__(self, stack: ReplicaStack, task: Task) -> None:
        """Make the streams.

        Raises:
            NotPossibleError: the learners are not on a GPU, or draw from torch's global generators.
        """
        super().__init__(stack, task)
        device = stack.device
        if device.type != "cuda":
            raise NotPossibleError(f"the engine {self.name} needs a GPU, and the learners are on the {device.type}")
        check_draws(stack, self.name)
        self._streams = [torch.cuda.Stream(device) for _ in stack.replicas]

    def passes(
        self, batch: Batch, normalisers: Sequence[float], size: int, lap: Lap = no_lap, *, fresh: bool = False
    ) -> Tensor:
        """See :class:`~hpcsgd.learners.engines.base.Engine`."""
        start_training(self.stack, fresh)
        losses = self._branches(batch, [torch.tensor(over) for over in normalisers], size)
        lap("backward")
        return losses

    def _branches(self, batch: Batch, normalisers: Sequence[Tensor], size: int) -> Tensor:
        """Part from the present stream, pass by pass, and come back to it."""
        here = torch.cuda.current_stream(self.stack.device)
        losses = self.no_losses(len(self.stack))
        branches = self._streams[: len(self.stack)]
        parted = []
        try:
            for j, (branch, own) in enumerate(zip(branches, batch.learners(), strict=True)):
                branch.wait_stream(here)
                parted.append(branch)
                with torch.cuda.stream(branch):
                    losses[j].copy_(self.one(j, own, normalisers[j], size))
        except BaseException:
            # A capture cannot end while a branch of it is apart; where it is broken already, none can come back.
            with suppress(RuntimeError):
                _come_back(here, parted)
            raise
        _come_back(here, parted)
        return losses


def _come_back(here: torch.cuda.Stream, branches: Sequence[torch.cuda.Stream]) -> None:
    """Let ``here`` go on when the branches are done."""
    for branch in branches:
        here.wait_stream(branch)


class GraphEngine(StreamsEngine):
    """The passes of all streams captured once for each shape, and replayed; a short last batch is another shape."""

    name = "graph"
    calls_hooks = False

    def __init__(self, stack: ReplicaStack, task: Task) -> None:
        """Make the streams; capturing comes with the first batch.

        Raises:
            NotPossibleError: the learners are not on a GPU, or the model has dropout, whose masks a graph would repeat,
                or the loss gives sum and weight, which may be a number of the host.
        """
        super().__init__(stack, task)
        check_loss(task, self.name)
        if stack.generators:
            raise NotPossibleError("the engine graph has no form of dropout: choose streams or fused")
        self._captured: dict[tuple[object, ...], _Captured] = {}

    def passes(
        self, batch: Batch, normalisers: Sequence[float], size: int, lap: Lap = no_lap, *, fresh: bool = False
    ) -> Tensor:
        """See :class:`~hpcsgd.learners.engines.base.Engine`."""
        tensors = list(leaves((batch.inputs, batch.targets)))
        key = (size, *batch.sizes, *(tensor.shape for tensor in tensors))
        if key not in self._captured:
            self._captured[key] = self._capture(batch, size)
        captured = self._captured[key]
        for own, tensor in zip(leaves((captured.batch.inputs, captured.batch.targets)), tensors, strict=True):
            own.copy_(tensor)
        captured.set_normalisers(normalisers)
        if fresh:
            self.stack.zero_gradients()
        captured.graph.replay()
        lap("backward")
        return captured.losses.clone()

    def _capture(self, batch: Batch, size: int) -> _Captured:
        """Warm up on a stream apart, put back what that changed, and capture.

        Hooks of the parameters are called here, and never by a replay.
        """
        stack = self.stack
        start_training(stack)
        captured = _Captured(batch, torch.ones(len(stack), dtype=stack.dtype, device=stack.device))
        saved = PassState(stack)
        apart = torch.cuda.Stream(stack.device)
        here = torch.cuda.current_stream(stack.device)
        apart.wait_stream(here)
        with torch.cuda.stream(apart):
            for _ in range(3):
                self._branches(captured.batch, captured.normalisers.unbind(), size)
        here.wait_stream(apart)
        saved.put_back()
        with capture(captured.graph, here):
            captured.losses = self._branches(captured.batch, captured.normalisers.unbind(), size)
        return captured


@contextmanager
def capture(graph: torch.cuda.CUDAGraph, here: torch.cuda.Stream) -> Iterator[None]:
    """Inside, what is queued goes into ``graph``; afterwards, whatever comes, ``here`` is the present stream again.

    Other threads may call CUDA meanwhile: the reader of the data pins memory, and sums go on in the background.

    Raises:
        Exception: what the body raised, also where the broken capture then fails to end for that reason.
    """
    failure: BaseException | None = None
    try:
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            try:
                yield
            except BaseException as error:
                failure = error
                raise
    except BaseException:
        # torch leaves the thread on its own stream where a capture does not end as it should.
        torch.cuda.set_stream(here)
        if failure is not None:
            raise failure from None
        raise


class _Captured:
    """A graph with the tensors that it reads and writes."""

    def __init__(self, batch: Batch, normalisers: Tensor) -> None:
        inputs, targets = (map_tree(lambda tensor: tensor.clone(), tree) for tree in (batch.inputs, batch.targets))
        self.batch = Batch(inputs, targets, batch.sizes)
        self.normalisers = normalisers
        self.graph = torch.cuda.CUDAGraph()
        self.losses = normalisers
        self._numbers = [1.0] * len(normalisers)

    def set_normalisers(self, numbers: Sequence[float]) -> None:
        """Let the next replay divide by ``numbers``, [m]; the host waits for nothing, as it would to copy them."""
        for j, number in enumerate(numbers):
            if number != self._numbers[j]:
                self.normalisers[j].fill_(number)
                self._numbers[j] = number
