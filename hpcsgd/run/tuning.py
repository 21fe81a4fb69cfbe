"""``learners_per_rank: auto``: steps of the run itself, timed before the first, say how many learners a rank trains.

Nothing of it is left in the training: the run goes on as one with that many learners from its seed, to the same bits.
All ranks take the same decision, as all see the times of all. Where memory runs out on one of them, or an engine does
not take so many, that number of learners is impossible on all.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.comm.device import begin_peak_memory, peak_memory
from hpcsgd.config import PeriodScheduleConfig
from hpcsgd.errors import UsageError, is_out_of_memory
from hpcsgd.learners.engines.choose import wait_for
from hpcsgd.learners.tuner import Measured, Search, Trial, chosen
from hpcsgd.record.reader import load_run
from hpcsgd.record.timer import StepTimer
from hpcsgd.run.parts import Cleanup, Parts, fix_learners, for_timing, join, share, with_learners
from hpcsgd.run.passes import choose, forward_backward

RATE = 1e-6
"""Learning rate of the steps that are timed: the work is the same, and nothing can diverge."""

SPARE = 3
"""Buffers of all learners that an algorithm may want beside the replicas: tried before ranks wait for each other."""


def tune(parts: Parts) -> Parts:
    """With as many learners of each rank as turn out best, and the trials for the log. Collective.

    Raises:
        UsageError: not even one is possible, or there is nothing to replay.
    """
    config, comm = parts.config, parts.comm
    begin = time.perf_counter()
    random = torch.get_rng_state()
    if config.tuner.replay is not None:
        path = Path(config.tuner.replay)
        trials = comm.broadcast_object(agree(comm, lambda: read_trials(path) if comm.rank == 0 else []))
    else:
        windows = Windows(parts)
        trials = Search(windows, config.tuner, lambda trial: _tell(parts, trial)).run()
        windows.drop(keep=0)
    torch.set_rng_state(random)
    parts = replace(fix_learners(parts, chosen(trials).learners, chosen(trials).engine), trials=trials)
    comm.barrier()
    # The run's clock begins now.
    parts.timer.origin += comm.broadcast_object(time.perf_counter() - begin)
    return parts


def read_trials(path: Path) -> list[Trial]:
    """The trials of another run.

    Raises:
        UsageError: there is no such log, or it has none.
    """
    rows = load_run(path).tuner.drop(columns="trial", errors="ignore").to_dict("records")
    if not rows:
        raise UsageError(f"tuner.replay is {path}, whose run tuned nothing: give one with learners_per_rank: auto")
    return [Trial(**row) for row in rows]


def _tell(parts: Parts, trial: Trial) -> None:
    if parts.comm.rank == 0 and parts.config.progress != "none":
        print(f"tuner: {trial}", file=sys.stderr, flush=True)


class Candidate:
    """The run with another number of learners."""

    def __init__(self, parts: Parts, own: int) -> None:
        """Take what belongs to this rank alone; the passes of one step show that there is memory for them.

        Raises:
            UsageError: so many learners cannot be.
        """
        apart = replace(parts, timer=StepTimer(parts.learners.device, 0.0), cleanup=Cleanup())
        # Windows go on beyond the end of the run, at the one period that they are made of.
        method = replace(parts.config.algorithm, period_schedule=PeriodScheduleConfig())
        apart = replace(apart, config=replace(parts.config, algorithm=method))
        self.parts = with_learners(apart, own, parts.config.engine)
        self.own = own
        self.step = 0
        self.failed = False
        self.parts.timer.begin(0)
        forward_backward(self.parts, 0, self.parts.loader.batch(0))
        self.parts.learners.zero_gradients()
        spare = [torch.empty_like(self.parts.learners.parameters) for _ in range(SPARE)]
        del spare

    def join(self) -> None:
        """Join all ranks, and choose the engine where the recipe leaves it open. Collective.

        Raises:
            UsageError: no engine is possible, on all ranks alike.
        """
        self.parts = join(self.parts, for_timing(self.parts.config))
        self.parts.algorithm.start()
        self.parts = choose(self.parts)

    def window(self, num_steps: int) -> float:
        """Seconds of so many steps on this rank; infinity where memory has run out. Collective."""
        parts = self.parts
        full = max(parts.plan.steps_per_epoch - 1, 1)
        share(parts)
        parts.loader.batch(self.step % full)
        wait_for(parts.learners.device)
        parts.comm.barrier()
        begin = time.perf_counter()
        for _ in range(num_steps):
            parts.timer.begin(self.step)
            batch = parts.loader.batch(self.step % full)
            try:
                forward_backward(parts, self.step % full, batch)
            except RuntimeError as error:
                if not is_out_of_memory(error, tried=True):
                    raise
                # The others are on their way to the averaging: this rank goes there too.
                self.failed = True
            parts.algorithm.step(self.step, RATE, len(batch))
            self.step += 1
        wait_for(parts.learners.device)
        seconds = time.perf_counter() - begin
        parts.timer.clear()
        return math.inf if self.failed else seconds


class Windows:
    """Times numbers of learners against each other, in windows taken in turn."""

    def __init__(self, parts: Parts) -> None:
        """Nothing is timed yet."""
        self.parts = parts
        self.candidates: dict[int, Candidate] = {}

    def __call__(self, own: int, against: int, threshold: float) -> Measured | str:
        """See :data:`~hpcsgd.learners.tuner.Measure`. Collective."""
        self.drop(keep=against)
        comm, config = self.parts.comm, self.parts.config.tuner
        device = self.parts.learners.device
        before = begin_peak_memory(device)
        # Its first passes may be compiled, on one rank for longer than on another.
        with comm.watchdog.patient() if self.parts.task.compile_backend is not None else nullcontext():
            candidate, reason = possible(comm, lambda: Candidate(self.parts, own))
        if candidate is None:
            return reason
        try:
            candidate.join()
        except UsageError as error:
            return str(error)
        self.candidates[own] = candidate
        peak = max(comm.allgather_object(peak_memory(device) - before))
        pair = [candidate, *(self.candidates[n] for n in (against,) if n)]
        num_steps = [self.steps_of(each) for each in pair]
        rates: list[list[float]] = []
        for _ in range(3):
            rates += self.rates(pair, num_steps, config.windows)
            timed, *others = zip(*rates, strict=True)
            measured = Measured(candidate.parts.engine.name, timed, others[0] if others else ())
            if min(map(min, rates)) == 0:
                return "out of memory"
            if not against or not measured.leaves_open(threshold):
                break
        return replace(measured, peak_memory_bytes=peak)

    def drop(self, keep: int) -> None:
        """End all candidates but that of ``keep`` learners. Collective."""
        for own in [own for own in self.candidates if own != keep]:
            self.candidates.pop(own).parts.algorithm.close()
        if self.parts.learners.device.type == "cuda":
            torch.cuda.empty_cache()

    def steps_of(self, candidate: Candidate) -> int:
        """Steps that fill a window: whole periods of the algorithm. Collective."""
        section = self.parts.config.algorithm
        period = section.sync_period * section.block_sync_period
        candidate.window(max(period, 3))
        seconds = self._slowest([candidate.window(period)])[0]
        return period * max(1, math.ceil(self.parts.config.tuner.window_seconds / seconds))

    def rates(self, candidates: list[Candidate], num_steps: list[int], windows: int) -> list[list[float]]:
        """Samples a second of all ranks, at the pace of the slowest, [windows, candidates]. Collective."""
        turns = list(zip(candidates, num_steps, strict=True))
        seconds = [candidate.window(count) for _ in range(windows) for candidate, count in turns]
        samples = [count * candidate.parts.plan.global_batch_size for candidate, count in turns]
        rates = [samples[i % len(turns)] / slowest for i, slowest in enumerate(self._slowest(seconds))]
        return [rates[i : i + len(turns)] for i in range(0, len(rates), len(turns))]

    def _slowest(self, seconds: list[float]) -> list[float]:
        """The longest times of all ranks. Collective."""
        return [max(times) for times in zip(*self.parts.comm.allgather_object(seconds), strict=True)]


def possible(comm: Communicator, make: Callable[[], Candidate]) -> tuple[Candidate | None, str]:
    """Call ``make`` on every rank; None on all, and why, where it is not possible on some. Collective."""
    made, reason = None, ""
    try:
        made = make()
    except UsageError as error:
        reason = str(error)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error, tried=True):
            raise
        reason = "out of memory"
    for rank, why in enumerate(comm.allgather_object(reason)):
        if why:
            return None, why + (f" (rank {rank})" if rank else "")
    return made, ""
