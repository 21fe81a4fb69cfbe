"""What costs a run time: its parts that take more than they should, each as a finding with its share.

A cause is named where it costs at least ``LEAST_SHARE`` of the run's time: parts are sums of what was measured, so
there is no chance in them. What could be chance has its test besides (:mod:`hpcsgd.scaling.causes_ranks`,
:mod:`hpcsgd.scaling.causes_course`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcsgd.record.summary import counted, quantity, seconds
from hpcsgd.scaling.causes_chance import fixed_part
from hpcsgd.scaling.explain_digest import PARTS, Digest

LEAST_SHARE = 0.05
"""Of a run's time, that a cause costs which is named: less is what equal runs differ by."""

LEAST_FIXED = 0.5
"""Of a step's compute, that does not grow with its batch where a batch is called small."""

LEAST_BUSY = 0.6
"""Of the time of its compute, that a GPU is busy where nothing is wrong."""

MANY_STEPS = 10
"""From so many on, the first step of a start is left out: it warms caches and connections up."""


@dataclass(frozen=True)
class Remedy:
    """What would help.

    Attributes:
        text: what to do, in a few words.
        gain: share of the run's time that it saves, at most.
    """

    text: str
    gain: float


@dataclass(frozen=True)
class Finding:
    """What is wrong with a run.

    Attributes:
        cause: one of ``CAUSES``.
        share: of the run's time, that it costs.
        text: a sentence with its numbers.
        remedies: what would help.
        ranks: whom it is about; none: all.
        node: whose ranks these are, where they are all of one.
    """

    cause: str
    share: float
    text: str
    remedies: tuple[Remedy, ...] = ()
    ranks: tuple[int, ...] = ()
    node: str = ""


CAUSES = (
    *("slow_rank", "slow_node", "jitter", "waiting", "input", "network", "small_batch", "evaluation", "checkpoint"),
    *("logging", "unmarked", "drift", "restart"),
)


@dataclass(frozen=True, eq=False)
class Case:
    """A run as findings are made of it.

    Attributes:
        digest: its times.
        steps: of each row, [n].
        segments: of each row, [n].
        sync_bytes: of each row, [n].
        labels: number of each rank that the log keeps, [R].
        nodes: the node of each of these.
        num_ranks: ranks of the run.
        config: its recipe.
        starts: of each segment: UTC of its start in seconds (NaN: not known), its ranks, and those that it lost.
    """

    digest: Digest
    steps: NDArray[np.int64]
    segments: NDArray[np.int64]
    sync_bytes: NDArray[np.int64]
    labels: Sequence[int]
    nodes: Sequence[str]
    num_ranks: int
    config: Mapping[str, Any] = field(default_factory=dict)
    starts: Sequence[tuple[float, int, str]] = ()
    on_gpu: bool = False

    @cached_property
    def kept(self) -> NDArray[np.bool_]:
        """Rows that count: all but the first of each segment, where there are many, [n]."""
        first = np.concatenate(([True], np.diff(self.segments) != 0)) if len(self.steps) else np.zeros(0, bool)
        return ~first if len(self.steps) >= MANY_STEPS * first.sum() else np.ones(len(self.steps), bool)

    @cached_property
    def seconds(self) -> float:
        """Of the rows that count."""
        return float(self.digest.seconds[self.kept].sum())

    @cached_property
    def rounds(self) -> NDArray[np.bool_]:
        """Synchronisations that count, [m]."""
        return self.kept[self.digest.rounds]

    @cached_property
    def shares(self) -> dict[str, float]:
        """Of ``PARTS`` in the time."""
        return {name: float(self.digest.parts[name][self.kept].sum()) / self.seconds for name in PARTS}

    @property
    def method(self) -> str:
        """Name of the algorithm."""
        return str(self.config.get("algorithm", {}).get("name", "?"))

    @property
    def period(self) -> int:
        """H of the recipe."""
        return 1 if self.method == "sync_sgd" else int(self.config.get("algorithm", {}).get("sync_period", 1))


def percent(share: float) -> str:
    """``12.3 %``."""
    return f"{100 * share:.1f} %"


def causes_of_parts(case: Case) -> Iterator[Finding]:
    """Parts of the time that are no training, or no compute."""
    for make in (_input, _network, _small_batch, _idle_gpu, _evaluation, _checkpoint, _logging, _unmarked):
        finding = make(case)
        if finding is not None and finding.share >= LEAST_SHARE:
            yield finding


def _input(case: Case) -> Finding:
    share = case.shares["input"]
    each = case.digest.usual["input"][case.kept].mean()
    workers = case.config.get("data", {}).get("workers")
    how = "more data.workers" if workers != 0 else "data.workers that read ahead, none now"
    return Finding(
        "input",
        share,
        f"Input: waiting for data takes {percent(share)} of the time, {seconds(each)} a step on the median rank.",
        (Remedy(how, share),),
    )


def _network(case: Case) -> Finding | None:
    share, digest = case.shares["network"], case.digest
    rows = digest.rounds[case.rounds]
    if not len(rows):
        return None
    each, sizes = float(digest.parts["network"][rows].mean()), case.sync_bytes[rows]
    rate = f", {quantity(sizes.mean() / each)}/s" if each > 0 else ""
    text = (
        f"Network: sending takes {percent(share)} of the time beyond what compute hides, {seconds(each)} for each "
        f"{case_noun(case)} of {quantity(float(sizes.mean()))}{rate}."
    )
    return Finding("network", share, text, tuple(network_remedies(case)))


def case_noun(case: Case) -> str:
    """What ranks do together."""
    return "allreduce" if case.method == "sync_sgd" else "averaging"


def network_remedies(case: Case) -> Iterator[Remedy]:
    """What makes the transfer shorter."""
    share = case.shares["network"]
    yield Remedy("twice the network", share / 2)
    comm = case.config.get("comm", {})
    key = "bucket_bytes" if case.method == "sync_sgd" else "chunk_bytes"
    piece, largest = comm.get(key), int(case.sync_bytes.max(initial=0))
    pieces = math.ceil(largest / piece) if piece else 1
    if pieces > 1:
        yield Remedy(f"1 piece in place of {pieces}, by comm.{key}", share * (1 - 1 / pieces))


def _small_batch(case: Case) -> Finding | None:
    digest, kept = case.digest, case.kept
    found = fixed_part(digest.num_samples[kept], digest.usual["compute"][kept])
    if found is None or found.least < LEAST_FIXED * found.whole:
        return None
    share = float(case.shares["compute"] * found.seconds / found.whole)
    usual, smaller = found.sizes
    text = (
        f"Small batch: {seconds(found.seconds)} of the {seconds(found.whole)} of compute a step, {percent(share)} of "
        f"the time, do not depend on the batch (by steps of {usual:g} and of {smaller:g} samples a rank)."
    )
    return Finding("small_batch", share, text, (Remedy("twice the local batch, per sample", share / 2),))


def _idle_gpu(case: Case) -> Finding | None:
    used, share = case.digest.utilisation, case.shares["compute"]
    if not case.on_gpu or not used < LEAST_BUSY * share:
        return None
    text = (
        f"Small batch: GPUs are busy {percent(used)} of the time, and compute is {percent(share)} of it: the host, or "
        "the launch of kernels, bounds them."
    )
    remedy = Remedy("larger local batch, compile, or fewer threads of the host", share - used)
    return Finding("small_batch", share - used, text, (remedy,))


def _each(case: Case, part: str) -> tuple[int, float, float]:
    """How often it was, how long each took, and in how many steps it was once."""
    values = case.digest.parts[part][case.kept]
    count = int((values > 0).sum())
    return count, float(values.sum()) / max(count, 1), len(values) / max(count, 1)


def _every(steps: float) -> str:
    return "after every step" if steps < 1.5 else f"one in {steps:.0f} steps"


def _evaluation(case: Case) -> Finding:
    share = case.shares["evaluation"]
    count, each, steps = _each(case, "evaluation")
    text = f"Evaluation takes {percent(share)} of the time: {counted(count, 'evaluation')} of {seconds(each)}"
    return Finding(
        "evaluation",
        share,
        f"{text}, {_every(steps)}.",
        (Remedy("evaluate.every_epochs doubled", share / 2),),
    )


def _checkpoint(case: Case) -> Finding:
    share = case.shares["checkpoint"]
    count, each, steps = _each(case, "checkpoint")
    text = f"Checkpoints take {percent(share)} of the time: {count} of {seconds(each)}, {_every(steps)}."
    remedies = [Remedy("a tenth of the checkpoints", 0.9 * share)]
    if case.config.get("checkpoint", {}).get("background") is False:
        remedies.append(Remedy("checkpoint.background: true", share))
    return Finding("checkpoint", share, text, tuple(remedies))


def _logging(case: Case) -> Finding:
    share = case.shares["logging"]
    each = float(case.digest.parts["logging"][case.kept].mean())
    flush = case.config.get("log", {}).get("flush_steps")
    known = f", with log.flush_steps {flush}" if flush else ""
    text = f"Logging takes {percent(share)} of the time: {seconds(each)} a step{known}."
    more = f"log.flush_steps {10 * flush}" if flush else "to log a tenth as often"
    return Finding("logging", share, text, (Remedy(more, 0.9 * share),))


def _unmarked(case: Case) -> Finding:
    share = case.shares["other"]
    each = float(case.digest.parts["other"][case.kept].mean())
    text = f"No span: {percent(share)} of the time, {seconds(each)} a step, is in no marked span."
    return Finding("unmarked", share, text, (Remedy("marking it with run.span tells what it is", 0.0),))
