"""A CUDA stream a learner, one by one or captured in one graph."""

from __future__ import annotations

import torch
from torch import Tensor

from hpcsgd.learners.engines.base import Normaliser, NotPossibleError
from hpcsgd.learners.engines.loop import LoopEngine
from hpcsgd.learners.stack import ReplicaStack


class StreamsEngine(LoopEngine):
    """A stream a learner; see :class:`~hpcsgd.learners.engines.base.Engine`."""

    name = "streams"

    def __init__(self, stack: ReplicaStack, label_smoothing: float = 0.0) -> None:
        """Make the streams.

        Raises:
            NotPossibleError: the learners are not on a GPU.
        """
        super().__init__(stack, label_smoothing)
        device = stack.state.device
        if device.type != "cuda":
            raise NotPossibleError(f"the engine {self.name} needs a GPU, and the learners are on the {device.type}")
        self._streams = [torch.cuda.Stream(device) for _ in stack.replicas]

    def forward_backward(self, images: Tensor, labels: Tensor, normaliser: Normaliser) -> Tensor:
        """See :class:`~hpcsgd.learners.engines.base.Engine`."""
        self.stack.train()
        return self._branches(images, labels, normaliser)

    def _branches(self, images: Tensor, labels: Tensor, normaliser: Normaliser) -> Tensor:
        """Part from the present stream, pass by pass, and come back to it."""
        here = torch.cuda.current_stream(self.stack.state.device)
        losses = labels.new_zeros(len(self.stack), dtype=self.stack.state.dtype)
        branches = self._streams[: len(self.stack)]
        for j, branch in enumerate(branches):
            branch.wait_stream(here)
            with torch.cuda.stream(branch):
                losses[j].copy_(self.one(j, images[j], labels[j], normaliser))
        for branch in branches:
            here.wait_stream(branch)
        return losses


class GraphEngine(StreamsEngine):
    """The passes of all streams captured once for each shape, and replayed; a short last batch is another shape."""

    name = "graph"

    def __init__(self, stack: ReplicaStack, label_smoothing: float = 0.0) -> None:
        """Make the streams; capturing comes with the first batch.

        Raises:
            NotPossibleError: the learners are not on a GPU, or the model has dropout, whose masks a graph would repeat.
        """
        super().__init__(stack, label_smoothing)
        if stack.generators:
            raise NotPossibleError("the engine graph has no form of dropout: choose streams or fused")
        self._captured: dict[tuple[int, ...], _Captured] = {}

    def forward_backward(self, images: Tensor, labels: Tensor, normaliser: Normaliser) -> Tensor:
        """See :class:`~hpcsgd.learners.engines.base.Engine`."""
        key = tuple(images.shape)
        if key not in self._captured:
            self._captured[key] = self._capture(images, labels)
        captured = self._captured[key]
        captured.images.copy_(images)
        captured.labels.copy_(labels)
        captured.normalisers.copy_(torch.as_tensor(normaliser, dtype=captured.normalisers.dtype))
        captured.graph.replay()
        return captured.losses.clone()

    def _capture(self, images: Tensor, labels: Tensor) -> _Captured:
        """Warm up on a stream apart, put back what that changed, and capture."""
        stack = self.stack
        stack.train()
        normalisers = torch.ones(len(stack), dtype=stack.state.dtype, device=stack.state.device)
        captured = _Captured(images.clone(), labels.clone(), normalisers)
        buffers = (stack.gradients, stack.statistics, stack.counts)
        saved = [buffer.clone() for buffer in buffers]
        apart = torch.cuda.Stream(stack.state.device)
        here = torch.cuda.current_stream(stack.state.device)
        apart.wait_stream(here)
        with torch.cuda.stream(apart):
            for _ in range(3):
                self._branches(captured.images, captured.labels, normalisers)
        here.wait_stream(apart)
        for buffer, old in zip(buffers, saved, strict=True):
            buffer.copy_(old)
        with torch.cuda.graph(captured.graph):
            captured.losses = self._branches(captured.images, captured.labels, normalisers)
        return captured


class _Captured:
    """A graph with the tensors that it reads and writes."""

    def __init__(self, images: Tensor, labels: Tensor, normalisers: Tensor) -> None:
        self.images, self.labels, self.normalisers = images, labels, normalisers
        self.graph = torch.cuda.CUDAGraph()
        self.losses = normalisers
