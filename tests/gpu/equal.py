"""Whether a GPU computes what a CPU does: every algorithm, engine, reducer, kind of data and precision.

The configurations are those of the pretend GPU. Here they are in float64, where nothing but a defect is seen.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpcsgd.comm.communicator import Communicator, SingleCommunicator
from tests.gpu.check import Check
from tests.pretend_gpu import ranks, trouble
from tests.pretend_gpu.cases import CASES, LOOP, Case, learners
from tests.pretend_gpu.compare import Outcome, difference, reason_of, trained
from tests.pretend_gpu.files import with_files

TOLERANCE = 1e-8
"""Of float64: sums are in another order."""

WORLDS = ("one", "twin")
LEFT_TO_OTHERS = ("memory",)
"""Those of which another stage asks the GPU itself."""

READERS = 3
"""Runs in which a reader's thread may meet the capture of a graph."""

TINY = ("sync", "m3_graph", "pack")
PRECISIONS = {"float32": 1e-4, "tf32": 2e-2, "bfloat16": 0.1, "float16": 5e-2}
"""Largest difference of a loss from that of float32 on a CPU, of losses of about 2.3 in 8 steps."""


class Twin(ranks.Twin):
    """One of two ranks that do the same, where an MPI that takes GPU buffers sums on a stream of its own at once."""

    def sum_(self, array: Any) -> None:
        """Twice the array; ones, by which MPI is tried, meet twos."""
        if not isinstance(array, Tensor):
            super().sum_(array)
            return
        stream = torch.cuda.Stream(array.device)
        with torch.cuda.stream(stream):
            array.mul_(3 if bool((array == 1).all()) else 2)
        stream.synchronize()


def compare(check: Check) -> None:
    """Is everything that is trained on the GPU what a CPU trains?"""
    with tempfile.TemporaryDirectory() as folder:
        for case in _cases(check):
            if not check.has_time(5, case.name):
                return
            _compare(check, case, Path(folder))
        for precision, tolerance in PRECISIONS.items():
            if not check.tiny or precision == "bfloat16":
                _compare_precision(check, precision, tolerance)


def _cases(check: Check) -> Iterator[Case]:
    """The configurations that one process can train on one GPU."""
    for case in CASES.values():
        if case.world not in WORLDS or case.name in LEFT_TO_OTHERS or check.tiny and case.name not in TINY:
            continue
        if case.name == "reader":
            plain = replace(case, within=nullcontext)
            yield from (replace(plain, name=f"reader {number}") for number in range(READERS if check.is_real else 1))
        else:
            yield case
    if not check.tiny:
        yield Case("m8_graph", learners(8, "graph"), world="one", like=LOOP)


def _ranks(check: Check, case: Case) -> Communicator:
    """The communicator of a case."""
    return SingleCommunicator() if case.world == "one" else twin(check)


def twin(check: Check) -> Communicator:
    """The first of two ranks that do the same."""
    return Twin() if check.is_real else ranks.Twin()


def _outcome(check: Check, case: Case, device: str, keys: dict[str, Any]) -> Outcome:
    """Of a run on ``device``; what is done to the case is done to both."""
    with case.within():
        return trained(case, device, keys, lambda case: _ranks(check, case))


def _compare(check: Check, case: Case, folder: Path) -> None:
    """The row of a case."""
    keys = with_files({**case.keys, "dtype": "float64"}, folder)
    on_cpu = {**keys, **case.like}
    ours = _outcome(check, case, check.device.type, keys if check.on_gpu else on_cpu)
    theirs = _outcome(check, case, "cpu", on_cpu)
    if check.on_gpu:
        check.clear()
    if ours.error or theirs.error:
        is_due = case.within is trouble.nan_at_step_3 and reason_of(ours.error) == reason_of(theirs.error)
        check.row(case.name, "ok" if is_due else "failed", f"{ours.error or 'no error'}; CPU: {theirs.error or 'none'}")
        return
    found = difference(ours, theirs)
    check.row(case.name, "ok" if found <= TOLERANCE else "wrong", difference=found)


def _compare_precision(check: Check, precision: str, tolerance: float) -> None:
    """The row of a precision: losses against those of float32 on a CPU."""
    case = Case(precision)
    ours = _outcome(check, case, check.device.type, {"precision": precision})
    theirs = _outcome(check, case, "cpu", {"precision": "float32"})
    if ours.error:
        check.row(f"precision {precision}", "failed", ours.error)
        return
    found = difference(replace(ours, tensors=[]), replace(theirs, tensors=[]))
    verdict = "ok" if found <= tolerance else "wrong"
    check.row(f"precision {precision}", verdict, difference_of_losses=found, tolerance=tolerance)
