"""Whether a run that is repeated, or resumed, is the same to the last bit."""

from __future__ import annotations

from dataclasses import replace

from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.config import CheckpointConfig, ModelConfig
from tests.gpu.check import Check
from tests.pretend_gpu.cases import IMAGES, Case
from tests.pretend_gpu.compare import difference, trained

STOP_AFTER = 5


def repeat(check: Check) -> None:
    """Are two runs equal with ``deterministic``, and without; and one that was stopped and resumed?"""
    side = 8 if check.tiny else 32
    keys = {
        "data": replace(IMAGES, synthetic_shape=(3, side, side)),
        "model": ModelConfig(name="resnet8" if check.tiny else "resnet20"),
        "checkpoint": CheckpointConfig(every_steps=4),
    }
    fixed = {**keys, "deterministic": True}
    ways = {
        "repeated, deterministic": (fixed, None, True),
        "resumed, deterministic": (fixed, STOP_AFTER, True),
        "repeated, as torch likes": (keys, None, False),
    }
    for name, (own, stop_after, is_promised) in ways.items():
        runs = [
            trained(Case(name, stop_after=stop), check.device.type, own, lambda _: SingleCommunicator())
            for stop in (None, stop_after)
        ]
        error = next((run.error for run in runs if run.error), "")
        if error:
            check.row(name, "failed", error)
            continue
        found = difference(*runs)
        check.row(name, "ok" if not found else "wrong" if is_promised else "", difference=found)
