"""All stages of the check, in the order of what they are worth."""

from __future__ import annotations

from tests.gpu import (
    averaging,
    engines,
    environment,
    equal,
    memory,
    overhead,
    packs,
    processes,
    repeats,
    resnet50,
    waits,
)
from tests.gpu.check import Stage

STAGES = (
    Stage("environment", 10, environment.look),
    Stage("numbers", 80, equal.compare),
    Stage("resnet50", 60, resnet50.race),
    Stage("engines", 80, engines.time_them),
    Stage("overhead", 40, overhead.weigh),
    Stage("waits", 15, waits.find),
    Stage("averaging", 10, averaging.time_it),
    Stage("packs", 20, packs.time_them),
    Stage("repeats", 15, repeats.repeat, apart=True),
    Stage("memory", 20, memory.run_out),
    Stage("tests", 30, processes.run_tests),
    Stage("ranks", 60, processes.run_ranks),
    Stage("compiled", 80, resnet50.race_compiled),
)
