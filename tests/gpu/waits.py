"""Where the host waits for the GPU in a step that does nothing but train, as torch itself notices it."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import torch

from hpcsgd.config import AlgorithmConfig, ModelConfig, RunConfig
from hpcsgd.learners.engines.choose import possible_engines
from tests.gpu.check import Check
from tests.gpu.equal import twin
from tests.gpu.loops import ours, recipe

WARM, STEPS = 5, 10
SHAPE = (3, 32, 32)
WORDS = "synchroniz"
"""In what torch says of an operation that waits."""


def find(check: Check) -> None:
    """Which lines make the host wait, and how often in ten steps?"""
    if not check.is_real:
        check.left_out("waits", "torch notices them on a GPU only")
        return
    model = ModelConfig(name="resnet20")
    _row(check, "one learner", recipe(check, 64, SHAPE, model))
    _row(check, "two ranks through the host, which must wait", recipe(check, 64, SHAPE, model), of_two=True)
    method = AlgorithmConfig(name="sma")
    for engine in possible_engines(check.device):
        if engine != "dense":
            keys = {"learners_per_rank": 4, "engine": engine, "algorithm": method}
            _row(check, f"four learners, {engine}", recipe(check, 16, SHAPE, model, **keys))


def _row(check: Check, what: str, config: RunConfig, *, of_two: bool = False) -> None:
    """Count the waits of a loop."""
    with ours(what, config, twin(check) if of_two else None) as lane:
        lane.advance(WARM)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                lane.advance(STEPS)
            finally:
                torch.cuda.set_sync_debug_mode("default")
    places = Counter(f"{Path(one.filename).name}:{one.lineno}" for one in told if WORDS in str(one.message))
    where = ", ".join(f"{count} x {place}" for place, count in places.most_common(4))
    check.row(
        what, "" if of_two else check.held(not places), waits_of_ten_steps=places.total(), where=where or "nowhere"
    )
