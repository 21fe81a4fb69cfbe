"""Several learners on one GPU: which engine, how many, at which batch; and what they cost in memory."""

from __future__ import annotations

from typing import Any

from hpcsgd.config import AlgorithmConfig, ModelConfig
from hpcsgd.errors import is_out_of_memory
from hpcsgd.learners.engines.base import NotPossibleError
from hpcsgd.learners.engines.choose import possible_engines
from tests.gpu.check import Check, in_a_line
from tests.gpu.loops import figures, ours, peak_memory, recipe, timed

SHAPE = (3, 32, 32)
SIZES = ((1, 16), (2, 16), (4, 16), (8, 16), (16, 16), (4, 8), (8, 8), (16, 8), (4, 32), (8, 32), (1, 128), (4, 128))
"""Learners, and samples of a step of each, in the order of what they are worth."""

TINY = ((2, 8),)
SECONDS = 0.5
"""Of timing a loop."""

ASKED = (16, 5.0)
"""At this batch, learners together train so many times the samples a second of a single one."""

Figures = dict[str, float]


def time_them(check: Check) -> None:
    """How fast is each engine against the loop, one learner, and one big batch of the same samples?"""
    engines = [name for name in possible_engines(check.device) if name != "dense"]
    singles: dict[int, float] = {}
    best: tuple[float, str] = (0.0, "none")
    for learners, batch in TINY if check.tiny else SIZES:
        if not check.has_time(15, f"{learners} learners at batch {batch}, and what follows"):
            break
        if batch not in singles:
            singles[batch] = _speed(check, 1, batch, "loop").get("samples_per_second", float("nan"))
        big = _speed(check, 1, learners * batch, "loop").get("samples_per_second", float("nan"))
        loop = float("nan")
        for name in engines:
            found = _speed(check, learners, batch, name)
            if not found:
                continue
            speed = found["samples_per_second"]
            loop = speed if name == "loop" else loop
            against = {"to_loop": speed / loop, "to_one_learner": speed / singles[batch], "to_one_batch": speed / big}
            check.row(f"{learners} learners, batch {batch}, {name}", **found, **against)
            if batch == ASKED[0] and against["to_one_learner"] > best[0]:
                best = against["to_one_learner"], f"{learners} learners, {name}"
    if best[0]:
        what = f"most of one learner at batch {ASKED[0]}"
        check.row(what, check.held(best[0] >= ASKED[1]), times=best[0], by=best[1], asked=ASKED[1])


def _speed(check: Check, learners: int, batch: int, engine: str) -> Figures:
    """Samples a second and memory of an engine; a row says why there are none."""
    model = ModelConfig(name="resnet8" if check.tiny else "resnet20")
    keys: dict[str, Any] = {"learners_per_rank": learners, "engine": engine}
    if learners > 1:
        keys["algorithm"] = AlgorithmConfig(name="sma")
    try:
        with peak_memory(check) as peak, ours(engine, recipe(check, batch, SHAPE, model, **keys)) as lane:
            found = timed(check, [lane], SECONDS, rounds=3)
    except (NotPossibleError, RuntimeError) as error:
        why = "out of memory" if is_out_of_memory(error, tried=True) else in_a_line(error)
        possible = isinstance(error, NotPossibleError) or is_out_of_memory(error, tried=True)
        check.row(f"{learners} learners, batch {batch}, {engine}", "left out" if possible else "failed", why)
        return {}
    return {**figures(found, engine, learners * batch), **peak}
