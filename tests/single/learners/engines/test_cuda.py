"""What the engines of a GPU ask of CUDA, with a CUDA that only takes notes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from hpcsgd.data.batches import Batch
from hpcsgd.learners.engines.cuda import GraphEngine
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.tasks.task import Task
from tests.single.learners.engines.engine_nets import batch, classify, make, of_package

SHAPE = (1, 8, 8)


class Notes:
    """Streams by number, of which 0 is that of the thread; a graph ends only if all its branches have come back."""

    def __init__(self) -> None:
        self.current = 0
        self.apart: set[int] = set()
        self.captures: list[str] = []
        self.replays = 0
        self.made = 0

    def stream(self, _device: object = None) -> SimpleNamespace:
        self.made += 1
        number = self.made
        return SimpleNamespace(number=number, wait_stream=lambda other: self.wait(number, other.number))

    def here(self, _device: object = None) -> SimpleNamespace:
        number = self.current
        return SimpleNamespace(number=number, wait_stream=lambda other: self.wait(number, other.number))

    def wait(self, number: int, other: int) -> None:
        """A branch parts from the present stream, or comes back to it."""
        if other == self.current:
            self.apart.add(number)
        else:
            self.apart.discard(other)

    @contextmanager
    def on(self, stream: SimpleNamespace) -> Iterator[None]:
        before, self.current = self.current, stream.number
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, _graph: object, capture_error_mode: str = "global") -> Iterator[None]:
        self.captures.append(capture_error_mode)
        before, self.current = self.current, 99
        try:
            yield
        finally:
            # As torch does it: what an unjoined capture raises takes the place of the error, and leaves the stream.
            if self.apart:
                raise RuntimeError("unjoined work")
        self.current = before

    def set_stream(self, stream: SimpleNamespace) -> None:
        self.current = stream.number

    def replay(self) -> None:
        self.replays += 1


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Notes:
    notes = Notes()
    for name, fake in (
        ("Stream", notes.stream),
        ("current_stream", notes.here),
        ("stream", notes.on),
        ("graph", notes.graph),
        ("set_stream", notes.set_stream),
        ("CUDAGraph", lambda: SimpleNamespace(replay=notes.replay)),
    ):
        monkeypatch.setattr(torch.cuda, name, fake)
    return notes


class OnCpu(GraphEngine):
    """The engine of a stack that is on the CPU after all."""

    def __init__(self, stack: ReplicaStack, task: Task) -> None:
        self.stack, self.task = stack, task
        self._streams = [torch.cuda.Stream() for _ in stack.replicas]
        self._captured = {}


class Failing(OnCpu):
    """Has no memory for the second learner, in the capture that follows three passes to warm up."""

    passes_done = 0

    def one(self, learner: int, batch: Batch, *others: object) -> Tensor:  # type: ignore[override]
        self.passes_done += 1
        if self.passes_done == 3 * 2 + 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return torch.zeros(())


def test_memory_that_runs_out_within_a_capture_is_told_as_that_and_leaves_the_thread_on_its_stream(
    cuda: Notes,
) -> None:
    engine = Failing(make(of_package("resnet8", SHAPE), 2), classify())
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
        engine.passes(batch(0, 2, 4, SHAPE), [4.0, 4.0], 4)
    assert (cuda.current, cuda.apart) == (0, set())


def test_other_threads_may_call_cuda_beside_a_capture(cuda: Notes) -> None:
    engine = OnCpu(make(of_package("resnet8", SHAPE), 2), classify())
    engine.passes(batch(0, 2, 4, SHAPE), [4.0, 4.0], 4)
    assert cuda.captures == ["thread_local"]
    assert cuda.replays == 1


def test_normalisers_are_filled_in_where_they_change_and_never_copied_from_the_host(
    cuda: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = OnCpu(make(of_package("resnet8", SHAPE), 2), classify())
    filled: list[float] = []
    fill = torch.Tensor.fill_
    monkeypatch.setattr(torch.Tensor, "fill_", lambda self, value: (filled.append(value), fill(self, value))[1])
    seen = []
    for normalisers in ([4.0, 4.0], [4.0, 4.0], [4.0, 3.0], [1.0, 3.0]):
        filled.clear()
        engine.passes(batch(0, 2, 4, SHAPE), normalisers, 4)
        (captured,) = engine._captured.values()
        assert captured.normalisers.tolist() == normalisers
        seen.append(len(filled))
    assert seen[1:] == [0, 1, 1]
