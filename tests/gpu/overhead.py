"""What the log and the checks cost a step, and what is left to a bare loop."""

from __future__ import annotations

from typing import Any

from hpcsgd.config import CommConfig, FaultConfig, LogConfig, ModelConfig, RunConfig
from tests.gpu.check import Check
from tests.gpu.equal import twin
from tests.gpu.loops import NO_LOG, bare, entered, median, ours, ratio, recipe, timed

ASKED = 0.01
"""Largest share of a step of ResNet-50 that log and checks may take together."""

LOG = LogConfig(save_model=False)
NO_CHECKS = FaultConfig(check_finite=False, hash_every=0, stop_check_steps=10**9)
SECONDS = 2.0
Shape = tuple[int, int, int]
NETS: dict[str, tuple[int, Shape, dict[str, Any]]] = {
    "fully_connected": (64, (1, 28, 28), {}),
    "resnet20": (128, (3, 32, 32), {}),
    "resnet50": (128, (3, 224, 224), {"precision": "bfloat16", "classes": 1000, "samples": 384}),
}
"""Samples of a step, shape of each, and what else the recipe has."""


def weigh(check: Check) -> None:
    """How much of a step is the log's, the checks', and everything else that a bare loop has not?"""
    for name, (batch, shape, keys) in NETS.items():
        if check.tiny and name != "fully_connected":
            continue
        if check.has_time(12, name):
            _weigh(check, name, batch, shape, dict(keys))
            check.clear()


def _weigh(check: Check, name: str, batch: int, shape: Shape, keys: dict[str, Any]) -> None:
    """The rows of a net: two ranks that do the same, with and without; then one rank and a bare loop."""

    def config(log: LogConfig, faults: FaultConfig) -> RunConfig:
        model = ModelConfig(name=name)
        return recipe(check, batch, shape, model, log=log, faults=faults, comm=CommConfig(allreduce="mpi"), **keys)

    full, checks = config(LOG, FaultConfig()), config(NO_LOG, FaultConfig())
    variants = {"all": full, "no log": checks, "no checks": config(LOG, NO_CHECKS), "none": config(NO_LOG, NO_CHECKS)}
    with entered(*(ours(which, own, twin(check)) for which, own in variants.items())) as lanes:
        found = timed(check, lanes, SECONDS)
    shares = {which.replace(" ", "_"): ratio(found, "all", which) - 1 for which in ("no log", "no checks", "none")}
    share = shares["none"]
    verdict = check.held(share <= ASKED) if name == "resnet50" else ""
    told = {"log": shares["no_log"], "checks": shares["no_checks"], "both": share}
    check.row(f"{name}, batch {batch}: share of a step", verdict, milliseconds=1e3 * median(found, "all"), **told)
    if name != "resnet50":
        with entered(ours("ours", full), bare("bare", check, full)) as lanes:
            found = timed(check, lanes, SECONDS)
        took = {f"{which}_milliseconds": 1e3 * median(found, which) for which in ("ours", "bare")}
        check.row(f"{name}, batch {batch}: one rank", **took, times=ratio(found, "ours", "bare"))
