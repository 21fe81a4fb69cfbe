"""``hpcsgd.session``: a user's own training loop, timed, and joined with those of the other ranks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import DistributedSampler

from hpcsgd.algorithms.base import NOTHING, Synchronisation
from hpcsgd.algorithms.schedule import Action
from hpcsgd.api.left import Left, ask_left, check_first
from hpcsgd.api.loop_parts import SessionParts, find_ranks, make_parts
from hpcsgd.api.sums import StepSums
from hpcsgd.comm.abort import abort_on_failure
from hpcsgd.comm.communicator import Communicator
from hpcsgd.config import AlgorithmConfig, CommConfig
from hpcsgd.data.trees import count_samples
from hpcsgd.errors import UsageError, nearest
from hpcsgd.record.clocks import Evaluation
from hpcsgd.record.collector import Collector
from hpcsgd.record.ranges import Range
from hpcsgd.record.schema import SPANS
from hpcsgd.record.timer import OTHER
from hpcsgd.run.progress import Progress

T = TypeVar("T")
SPAN_NAMES = tuple(column.name.removesuffix("_seconds") for column in SPANS)
_END = object()


@contextmanager
def session(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    algorithm: AlgorithmConfig | None,
    run_dir: str | None = None,
    comm: Communicator | None = None,
    comm_config: CommConfig | None = None,
    **settings: Any,
) -> Iterator[Session]:
    """Inside, the loop is one of hpcsgd's. Collective.

    Args:
        model: the same on all ranks, on its device. Its parameters begin as rank 0's; inside, they are views of one
            buffer. Afterwards they are those of the consensus, and the model is an ordinary one again.
        optimizer: of its parameters; its learning rate and state are the user's, and stay on each rank.
        algorithm: such as ``hpcsgd.LocalSGD(period=16)``; None: the loop is timed and nothing else, whatever it does.
        run_dir: where the log is kept; unset, ``runs/NAME-TIME``.
        comm: the ranks; unset, MPI's where a launcher started the process, else this process alone. A loop that is
            only timed may be torchrun's: then the program has called ``init_process_group``.
        comm_config: the section ``comm`` of a recipe.
        **settings: other keys of a recipe that count here: ``overwrite``, ``log``, ``faults``, ``share_gpu``, and
            ``progress``, which is ``none`` unless it is asked for: the loop may show its own.

    Raises:
        UsageError: something cannot be, on all ranks alike.
    """
    begun = comm if comm is not None else find_ranks(comm_config or CommConfig(), is_joined=algorithm is not None)
    with abort_on_failure(begun):
        parts = make_parts(model, optimizer, algorithm, begun, {"run_dir": run_dir, "comm": comm_config} | settings)
        with contextlib.ExitStack() as stack:
            stack.callback(parts.give_back)
            stack.enter_context(begun.watchdog.on_guard(parts.config.faults.collective_timeout_seconds))
            run = Session(parts, stack)
            yield run
            run._leave()


class Session:
    """A loop in progress; :func:`session` makes it.

    Attributes:
        rank, world_size: of this process.
        num_steps: steps done.
    """

    def __init__(self, parts: SessionParts, stack: contextlib.ExitStack) -> None:
        """Begin with ``parts``; what has to be ended is put on ``stack``."""
        self._parts = parts
        self._stack = stack
        self.rank, self.world_size = parts.comm.rank, parts.comm.size
        self.num_steps = 0
        self._sums = StepSums()
        self._num_samples = 0
        self._num_global = 0
        self._is_over = False
        self._collector: Collector | None = None
        self._progress: Progress | None = None
        self._timer, self._is_joined = parts.timer, parts.is_joined
        self._optimizer = parts.own_optimizer.optimizer
        self._steps_per_epoch = parts.plan.steps_per_epoch

    def batches(self, loader: Iterable[T]) -> Iterator[T]:
        """The batches of this rank's ``loader``, whose time is that of the data: one for each step.

        All ranks end with the first of them that has no more; one that has left the session ends it for all.

        Raises:
            UsageError: on all ranks, at the first batch: two of them have the same.
        """
        self._parts = self._parts.with_length(loader)
        self._steps_per_epoch = self._parts.plan.steps_per_epoch
        batches, timer = iter(loader), self._timer
        while not self._is_over:
            if self._is_joined:
                self._complete()
            timer.begin(self.num_steps)
            batch = next(batches, _END)
            timer.lap("data")
            if not (self._all_have(batch) if self._is_joined else self._has(batch)):
                timer.take_back()
                break
            if self._collector is not None and self._collector.is_due():
                self._flush()
            yield batch  # type: ignore[misc]
        self._complete()

    def sampler(self, data: Sized, *, shuffle: bool = False, seed: int = 0) -> DistributedSampler[Any]:
        """Gives a loader of torch this rank's part of ``data``; call its ``set_epoch`` where it is to shuffle."""
        return DistributedSampler(data, self.world_size, self.rank, shuffle=shuffle, seed=seed)  # type: ignore[arg-type]

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """The time inside is that of ``name``: ``forward``, or another span of the log.

        Raises:
            UsageError: the log has no such span.
        """
        if name not in SPAN_NAMES:
            hint = nearest(name, SPAN_NAMES, f"the spans are {', '.join(SPAN_NAMES)}")
            raise UsageError(f"run.span({name!r}): the log has no such span; {hint}")
        timer = self._timer
        if timer.current_step is not None:
            timer.lap(OTHER)
        with Range(name):
            yield
        if timer.current_step is not None:
            timer.lap(name)

    def forward(self) -> AbstractContextManager[None]:
        """The time inside is that of the forward pass."""
        return self.span("forward")

    def backward(self, loss: Tensor, num_samples: int | None = None, weight: Tensor | float | None = None) -> None:
        """The backward pass of ``loss``, the mean over this rank's samples; more than one a step add up.

        Args:
            loss: 0-d.
            num_samples: samples that it is the mean of: ranks weigh as much in a mean of gradients; unset, those of
                the batch.
            weight: ``loss`` is no mean but a sum, of which this is the weight, as the number of its tokens. A step's
                gradient is that of the sums of all passes over their weights, of all ranks where it is averaged.

        Raises:
            UsageError: a weight in a loop that is only timed.
        """
        if weight is not None and not self._is_joined:
            raise UsageError("run.backward has a weight, but algorithm is None: divide the loss by it yourself")
        if self._timer.current_step != self.num_steps:
            self._begin()
        count = num_samples if num_samples is not None else max(self._num_samples, 1)
        with self.span("backward"):
            loss.backward()
        self._sums.add(loss, count, weight)
        self._num_samples = count

    def step(self) -> None:
        """The optimizer's step, with what the algorithm does around it. Collective.

        Raises:
            UsageError: ranks are joined, and :meth:`backward` was not called: nobody knows how many samples weigh how
                much.
        """
        if self._timer.current_step != self.num_steps:
            self._begin()
        if self._sums.loss is None:
            if self._is_joined:
                raise UsageError("run.step() without run.backward(loss): call it in the place of loss.backward()")
            self._timed_step()
        else:
            self._step(has_samples=True)

    def _timed_step(self) -> None:
        """A step of which nothing is known but its time."""
        timer, step, count, optimizer = self._timer, self.num_steps, self._num_samples, self._optimizer
        timer.lap(OTHER)
        collector = self._collector or self._open_log(count)
        # In the user's own way: whatever is done here beside it is a cost of the clock.
        optimizer.step()
        timer.lap("update")
        self.num_steps = step + 1
        rate, ends_epoch = float(optimizer.param_groups[0]["lr"]), (step + 1) % self._steps_per_epoch == 0
        collector.add_timed(step, rate, count, self._num_global or count * self.world_size, ends_epoch)

    def _step(self, *, has_samples: bool) -> None:
        """A step of this rank; without samples, it takes part in what all ranks do, and nothing else."""
        parts = self._parts
        parts.timer.lap(OTHER)
        count = self._num_samples if has_samples else 0
        rate, nobody = parts.own_optimizer.rate, False
        if parts.borrowed is not None:
            parts.borrowed.collect_gradients()
            ranks = parts.comm if parts.plan.schedule(self.num_steps) is Action.GRADIENT else None
            nobody = self._sums.weigh_(parts.learners.gradients, count, ranks) == 0
        # Where no rank has a sample, there is no gradient to step by.
        done = NOTHING if nobody else parts.algorithm.step(self.num_steps, rate, int(has_samples))
        self._log(rate, done, count)
        self.num_steps += 1
        if self._sums.loss is not None:
            self._sums = StepSums()

    @contextmanager
    def consensus(self) -> Iterator[nn.Module]:
        """Inside, the model is the consensus of all ranks, to evaluate or save; its time is that of evaluations."""
        self._complete()
        with self.span("evaluation"), self._parts.algorithm.consensus() as module:
            yield module

    def evaluated(self, split: str, num_samples: int, **metrics: float) -> None:
        """Keep what an evaluation of the consensus gave, the same on all ranks, in the log."""
        fraction = self.num_steps / self._parts.plan.steps_per_epoch
        if self._collector is not None and self.rank == 0:
            self._collector.clocks.pending += [
                Evaluation(self.num_steps, fraction, split, name, float(value), num_samples)
                for name, value in metrics.items()
            ]

    def _begin(self) -> None:
        """A loop that does not take its batches from :meth:`batches` begins its step here."""
        self._timer.begin(self.num_steps)
        if self._collector is not None and self._collector.is_due():
            self._flush()

    def _flush(self) -> None:
        """Write what is due, before the work of a step. Collective."""
        assert self._collector is not None and self._progress is not None
        if self._collector.gather_if_due():
            self._progress.show(self.num_steps, self._collector.last)
        self._timer.lap("logging")

    def _complete(self) -> None:
        """Do the step that this rank has skipped: the others wait for it. It has no samples."""
        if self._timer.current_step == self.num_steps and self._is_joined:
            self._sums = StepSums()
            self._step(has_samples=False)

    def _has(self, batch: Any) -> bool:
        """Whether this rank has a batch."""
        count = 0 if batch is _END else count_samples(batch)
        self._num_samples = 1 if count is None else count
        self._num_global = self._num_samples * self.world_size
        return batch is not _END

    def _all_have(self, batch: Any) -> bool:
        """Whether all ranks have a batch, this one ``batch``. Collective."""
        has_one = self._has(batch)
        left, self._num_global = ask_left(self._parts.comm, Left.BATCH if has_one else Left.NOTHING, self._num_samples)
        self._is_over = left is Left.GONE
        if left is Left.BATCH and self.num_steps == 0 and self.world_size > 1:
            check_first(self._parts.comm, batch)
        return left is Left.BATCH

    def _log(self, rate: float, done: Synchronisation, count: int) -> None:
        """Keep the figures of a step."""
        collector = self._collector or self._open_log(count)
        samples = (count, self._num_global or count * self.world_size)
        ends = (self.num_steps + 1) % self._steps_per_epoch == 0
        collector.add(self.num_steps, rate, done, samples, self._sums.logged(), ends_epoch=ends)
        self._timer.lap("logging")

    def _open_log(self, num_samples: int) -> Collector:
        """Begin the log, of a loop whose first step has so many samples on this rank. Collective."""
        self._collector = self._stack.enter_context(self._parts.open_log(max(num_samples, 1)))
        self._stack.enter_context(self._collector.telling_first())
        self._progress = self._parts.make_progress()
        self._timer.lap("logging")
        return self._collector

    def _leave(self) -> None:
        """End the loop with all ranks: the model becomes the consensus."""
        self._complete()
        if self._is_joined and not self._is_over:
            ask_left(self._parts.comm, Left.GONE, 0)
        timer = self._timer
        timer.stop()
        if self._collector is not None:
            # Ranks that nothing joins may have done more than others: what all have is kept.
            self._collector.gather(min(self._parts.comm.allgather_object(len(timer.finished))))
            self._collector.end()
            assert self._progress is not None
            self._progress.close(self.num_steps, self._collector.last)
        self._parts.algorithm.finish()
        self._parts.algorithm.close()
