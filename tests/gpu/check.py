"""What the stages of the check are given, and how they are gone through."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from hpcsgd.learners.engines.choose import wait_for
from tests.gpu.report import Mark, Report, Row, Verdict

GRACE_SECONDS = 60.0
"""A stage that takes twice as long as expected, and so much more, hangs."""

PATIENCE = 1.3
"""So many times as long as expected may a stage begin parts of itself: the time after that is the others'."""


@dataclass(frozen=True)
class Clock:
    """The time that is left; ``end`` is a reading of ``time.monotonic``, which all processes of a machine share."""

    end: float

    def left(self) -> float:
        """In seconds."""
        return self.end - time.monotonic()


@dataclass
class Check:
    """One go through stages.

    Attributes:
        device: that is looked at.
        tiny: take sizes for a rehearsal: nothing is to be read from times then.
        pretend: the GPU is not there (see ``tests/pretend_gpu``).
        clock: how long there is.
        report: where rows go.
        stage: the present one.
        part: how long that one may begin parts of itself.
    """

    device: torch.device
    tiny: bool
    pretend: bool
    clock: Clock
    report: Report
    stage: str = ""
    part: Clock = Clock(float("inf"))

    @property
    def on_gpu(self) -> bool:
        """Whether there is a GPU, be it pretended."""
        return self.device.type == "cuda"

    @property
    def is_real(self) -> bool:
        """Whether there is a GPU of which memory, libraries and speed can be asked."""
        return self.on_gpu and not self.pretend

    @property
    def counts(self) -> bool:
        """Whether times say anything."""
        return self.is_real and not self.tiny

    def held(self, is_fast: bool) -> Verdict:
        """The verdict on a figure that something is asked of; none where times say nothing."""
        return ("ok" if is_fast else "slow") if self.counts else ""

    def row(self, what: str, verdict: Verdict = "", note: str = "", **figures: float | str) -> None:
        """A row of the present stage."""
        self.report.add(Row(self.stage, what, figures, verdict, note))

    def left_out(self, what: str, why: str) -> None:
        """A row for what is not looked at."""
        self.row(what, "left out", why)

    def failed(self, what: str, error: BaseException) -> None:
        """A row for what did not come to its end."""
        self.row(what, "failed", in_a_line(error))

    def has_time(self, seconds: float, what: str) -> bool:
        """Whether ``seconds`` are left; else a row says that ``what`` is left out."""
        left = min(self.clock.left(), self.part.left())
        if left < seconds:
            self.left_out(what, f"{seconds:.0f} s are needed, and {left:.0f} s are left")
        return left >= seconds

    def clear(self) -> None:
        """Give back what stages have left on the device.

        Raises:
            RuntimeError: the device is past use in this process.
        """
        gc.collect()
        if self.on_gpu:
            torch.cuda.set_stream(torch.cuda.default_stream())
            wait_for(self.device)
            torch.cuda.empty_cache()


@dataclass(frozen=True)
class Stage:
    """A part of the check.

    Attributes:
        name: by which it is asked for.
        seconds: that it takes on a fast card, about; it is left out where less is left.
        function: what it does; its docstring is what it answers.
        apart: whether it wants a process of its own, as it changes what torch reads once.
    """

    name: str
    seconds: float
    function: Callable[[Check], None]
    apart: bool = False


def run_stages(check: Check, stages: Sequence[Stage]) -> None:
    """Go through ``stages`` in order; what fails is a row of the table, and the next stage begins.

    Raises:
        RuntimeError: the device is past use in this process: another one may go on with the next stage.
    """
    for stage in stages:
        begin = time.monotonic()
        check.stage, check.part = stage.name, Clock(begin + PATIENCE * stage.seconds)
        check.report.add(Mark("begin", stage.name, 2 * stage.seconds + GRACE_SECONDS))
        if check.has_time(stage.seconds, "the stage"):
            try:
                stage.function(check)
            except (Exception, SystemExit) as error:
                check.failed("the stage", error)
        check.report.add(Mark("end", stage.name, time.monotonic() - begin))
        check.clear()


def of_one_process(stages: Sequence[Stage]) -> Sequence[Stage]:
    """The first of ``stages`` that one process may go through."""
    for index, stage in enumerate(stages):
        if stage.apart:
            return stages[: max(index, 1)]
    return stages


def in_a_line(error: BaseException) -> str:
    """Kind and first words of an error."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
