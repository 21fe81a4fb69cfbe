"""Train a case on the pretend GPU and on the CPU, and compare."""

from __future__ import annotations

import functools
import itertools
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from hpcsgd import train
from hpcsgd.comm.communicator import Communicator, SingleCommunicator
from hpcsgd.comm.mpi import connect
from hpcsgd.config import CommConfig, LogConfig
from hpcsgd.errors import JointError
from hpcsgd.record.collector import Collector
from hpcsgd.record.reader import load_run
from hpcsgd.record.timer import StepTimer
from tests.pretend_gpu.cases import Case, Keys, recipe
from tests.pretend_gpu.cuda import PEAK_BYTES
from tests.pretend_gpu.files import with_files
from tests.pretend_gpu.machine import the_machine
from tests.pretend_gpu.ranks import Twin, nccl
from tests.pretend_gpu.trouble import replaced

FIRST_STEADY = 2
"""Before, graphs are captured and buffers are made."""

SHOWN = 3
"""Races, waits and devices of a row that are shown."""


@dataclass
class Outcome:
    """What a run left: its tensors and the losses in its log, or the message that ended it."""

    tensors: list[torch.Tensor] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    error: str = ""


@dataclass
class Row:
    """A row of the table.

    Attributes:
        difference: largest one of any parameter, state of the optimizer, statistic, loss.
        launches, events, waits: of a steady step.
        races, foreign: in all.
        error: what ended the run on the device.
        wrong: what is not as asked.
        seen: examples.
    """

    name: str
    difference: float = math.nan
    launches: int = 0
    events: int = 0
    waits: int = 0
    races: int = 0
    foreign: int = 0
    error: str = ""
    wrong: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


def run_case(case: Case, folder: Path) -> Row:
    """The row of a case; ``folder`` has the data that cases share. Collective under mpirun."""
    findings, row = the_machine().findings, Row(case.name)
    the_machine().begin_run()
    with case.within(), steps_counted() as steps:
        ours = train_once(case, "cuda", case.keys, folder)
    row.races, row.foreign, row.error = findings.races.total(), findings.foreign.total(), ours.error
    row.launches, row.events, row.waits = steps.steady()
    row.seen = seen(findings.races, "race") + seen(findings.foreign, "device") + seen(findings.waits, "wait")
    theirs = on_cpu(case, folder)
    row.difference = difference(ours, theirs)
    row.wrong = wrong(case, row, theirs)
    return row


_on_cpu: dict[str, Outcome] = {}


def on_cpu(case: Case, folder: Path) -> Outcome:
    """The outcome on the CPU, which cases and planted defects share."""
    keys = {**case.keys, **case.like}
    key = repr((case.world, case.within, case.stop_after, sorted(keys.items())))
    if key not in _on_cpu:
        with case.within():
            _on_cpu[key] = train_once(case, "cpu", keys, folder)
    return _on_cpu[key]


def train_once(case: Case, device: str, keys: Keys, folder: Path) -> Outcome:
    """Train a case; what ends it is part of the outcome."""
    machine = the_machine()
    before = machine.home, machine.guard.device
    machine.home = 1 if case.world == "second" else before[0]
    try:
        with nccl(_mpi_world() if case.world == "mpi_nccl" else None) if "nccl" in case.world else nullcontext():
            return trained(case, device, with_files(keys, folder), _ranks)
    finally:
        machine.home, machine.guard.device = before
        for index in range(machine.guard.num_devices):
            machine.guard.set_stream(index, 0)


@functools.cache
def _mpi_world() -> Any:
    """All ranks, with a message space of NCCL's own."""
    from mpi4py import MPI

    return MPI.COMM_WORLD.Dup()


def trained(case: Case, device: str, keys: Keys, ranks: Callable[[Case], Communicator]) -> Outcome:
    """The outcome of a run of ``case`` with ``keys`` on ``device``; ``ranks`` gives its communicator."""
    kept: list[Any] = []
    loop = train.train

    def remember(parts: Any, *others: Any) -> Any:
        kept.append(parts)
        return loop(parts, *others)

    comm = ranks(case)
    with tempfile.TemporaryDirectory() as name, replaced(train, "train", remember):
        directory = comm.broadcast_object(f"{name}/run")
        config = recipe(device, {**keys, "run_dir": directory})
        if case.world == "second":
            config = replace(config, log=LogConfig(enabled=False, save_model=False))
        try:
            if case.stop_after is not None:
                train.run(replace(config, max_steps=case.stop_after), comm)
                comm, config = ranks(case), replace(config, resume="auto")
            train.run(config, comm)
        except (Exception, SystemExit) as error:  # what breaks is a row of the table too
            if case.is_of_mpi and not isinstance(error, JointError):
                raise
            return Outcome(error=f"{type(error).__name__}: {' '.join(str(error).split())[:160]}")
        if isinstance(comm, Twin) and comm.aborted:
            return Outcome(error="the job was aborted")
        comm.barrier()
        stack = kept[-1].learners
        tensors = [stack.rows.buffer, stack.statistics, stack.counts]
        losses = []
        if config.log.enabled:
            log = load_run(directory)
            losses = log.iterations["loss"].tolist()
            peaks = [*log.ranks["peak_memory_bytes"], log.segments["peak_memory_bytes"].iloc[-1]]
            assert [peak == PEAK_BYTES for peak in peaks] == [device == "cuda"] * len(peaks), peaks
        comm.barrier()
    return Outcome([tensor.cpu().double() for tensor in tensors], losses)


def _ranks(case: Case) -> Communicator:
    """The communicator of a case."""
    if case.is_of_mpi:
        return connect(CommConfig())
    return SingleCommunicator() if case.world == "one" else Twin(rank=int(case.world == "second"))


@dataclass
class Steps:
    """What was counted where each step began, and the steps in which more than training was done."""

    marks: list[tuple[int, int, int]] = field(default_factory=list)
    disturbed: set[int] = field(default_factory=set)

    def steady(self) -> tuple[int, int, int]:
        """Launches, events and waits of the steps in which nothing but training is done: of each, the most."""
        costs = [
            tuple(after - before for before, after in zip(*pair, strict=True))
            for step, pair in enumerate(itertools.pairwise(self.marks))
            if step >= FIRST_STEADY and step not in self.disturbed
        ]
        launches, events, waits = (max(column) for column in zip(*costs, strict=True)) if costs else (0, 0, 0)
        return launches, events, waits


@contextmanager
def steps_counted() -> Iterator[Steps]:
    """Inside, steps are counted; an evaluation or a gather for the log disturbs one."""
    steps = Steps()

    def disturbing(plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            steps.disturbed.add(len(steps.marks) - 1)
            return plain(*arguments, **options)

        return call

    def anew(*arguments: Any) -> Any:
        # What the tuner tried are no steps of the run.
        steps.marks.clear()
        steps.disturbed.clear()
        return plain_train(*arguments)

    def begin(self: StepTimer, step: int, *rest: str) -> None:
        steps.marks.append(the_machine().findings.marks())
        plain_begin(self, step, *rest)

    with (
        replaced(train, "train", anew) as plain_train,
        replaced(StepTimer, "begin", begin) as plain_begin,
        replaced(Collector, "gather", disturbing(Collector.gather)),
        replaced(train, "evaluate_consensus", disturbing(train.evaluate_consensus)),
    ):
        yield steps


def difference(ours: Outcome, theirs: Outcome) -> float:
    """The largest one; infinite where one of them has other numbers, or NaN alone."""
    if len(ours.tensors) != len(theirs.tensors) or len(ours.losses) != len(theirs.losses):
        return math.inf
    pairs = [*zip(ours.tensors, theirs.tensors, strict=True), (torch.tensor(ours.losses), torch.tensor(theirs.losses))]
    if any(a.shape != b.shape for a, b in pairs):
        return math.inf
    worst = [float((a - b).abs().nan_to_num(nan=math.inf).max()) for a, b in pairs if a.numel()]
    return max(worst, default=0.0)


def reason_of(error: str) -> list[str]:
    """The kind of an error and its first words, which have the step where there is one."""
    return error.split(": ")[:2]


def seen(counter: Counter[str], word: str) -> list[str]:
    """The most frequent ones, as lines."""
    return [f"{word}: {number} x {text}" for text, number in counter.most_common(SHOWN)]


def wrong(case: Case, row: Row, theirs: Outcome) -> list[str]:
    """What is not as the case asks."""
    found = []
    if row.error or theirs.error:
        # Both may have to end, for the same reason at the same step.
        if reason_of(row.error) != reason_of(theirs.error):
            found.append(f"{row.error or 'no error'}, and on the CPU {theirs.error or 'none'}")
    elif not row.difference <= case.tolerance:
        found.append(f"it differs from the CPU by {row.difference:.1e}")
    if row.races:
        found.append(f"{row.races} races")
    if row.foreign:
        found.append(f"{row.foreign} uses of another device")
    if case.waits is not None and row.waits > case.waits:
        found.append(f"{row.waits} waits a step")
    if case.launches is not None and row.launches > case.launches:
        found.append(f"{row.launches} launches a step")
    if case.events is not None and row.events > case.events:
        found.append(f"{row.events} events a step")
    return found
