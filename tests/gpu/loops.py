"""Training loops that are timed in turn: the product's own as it is, and bare ones."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from hpcsgd.comm.communicator import Communicator, SingleCommunicator
from hpcsgd.comm.stop import StopSignals
from hpcsgd.config import (
    DataConfig,
    EvaluateConfig,
    LearningRateConfig,
    LogConfig,
    ModelConfig,
    RunConfig,
)
from hpcsgd.learners.engines.choose import wait_for
from hpcsgd.models import build_model
from hpcsgd.run.build import assemble
from hpcsgd.run.claims import Claim
from hpcsgd.run.compiling import compile_passes
from hpcsgd.run.keeper import Keeper
from hpcsgd.run.log import open_log
from hpcsgd.run.parts import Cleanup
from hpcsgd.run.resume import Start
from hpcsgd.tasks.precision import make_autocast
from hpcsgd.train import train
from tests.bench.interleave import Gate, GatedLoader, Lane, order_of
from tests.gpu.check import Check

MIB = 2**20
RATE = 1e-6
"""So small that nothing is learned: the work is the same."""

NO_LOG = LogConfig(enabled=False, save_model=False, utilisation_seconds=0)
Seconds = dict[str, list[float]]
"""Of a step, by loop, in each round."""


def recipe(check: Check, batch: int, shape: tuple[int, int, int], model: ModelConfig, **keys: Any) -> RunConfig:
    """A run without a log on synthetic images, of more steps than anybody takes; ``keys`` are others of the recipe."""
    samples, own = keys.pop("samples", 1024 if check.counts else 64), keys.get("learners_per_rank", 1)
    data = DataConfig(
        name="synthetic",
        synthetic_shape=shape,
        synthetic_classes=keys.pop("classes", 10),
        synthetic_train_samples=max(samples, 2 * batch * (1 if own == "auto" else own)),
        synthetic_test_samples=2,
    )
    values: dict[str, Any] = {
        "epochs": 10**6,
        "local_batch_size": batch,
        "device": check.device.type,
        "share_gpu": True,
        "progress": "none",
        "model": model,
        "data": data,
        "learning_rate": LearningRateConfig(base=RATE, scaling_rule="none"),
        "evaluate": EvaluateConfig(every_epochs=0),
        "log": NO_LOG,
    }
    return RunConfig(**values | keys)


@contextmanager
def ours(name: str, config: RunConfig, comm: Communicator | None = None) -> Iterator[Lane]:
    """The product's loop of ``config``, with its log where that has one, held before its first step."""
    comm = comm if comm is not None else SingleCommunicator()
    with tempfile.TemporaryDirectory() as folder, Cleanup() as cleanup:
        parts = compile_passes(assemble(config, comm, cleanup=cleanup), 0)
        parts = replace(parts, path=Path(folder) if config.log.enabled else None)

        def loop(gate: Gate) -> None:
            gated = replace(parts, loader=GatedLoader(parts.loader, gate))  # type: ignore[arg-type]
            on_guard = comm.watchdog.on_guard(config.faults.collective_timeout_seconds)
            with on_guard, open_log(gated, [], Start(), Claim(None)) as collector:
                train(gated, collector, Keeper(gated, collector, StopSignals()), 0)

        with _lane(name, loop) as lane:
            yield lane


@contextmanager
def bare(name: str, check: Check, config: RunConfig) -> Iterator[Lane]:
    """A loop of a few lines over the model of ``config``, in its precision, on one batch that lies ready."""
    step = _script(check, config)

    def loop(gate: Gate) -> None:
        while True:
            gate()
            step()

    with _lane(name, loop) as lane:
        yield lane


def _script(check: Check, config: RunConfig) -> Callable[[], None]:
    """A step of such a loop."""
    batch, shape, classes = config.local_batch_size, config.data.synthetic_shape, config.data.synthetic_classes
    assert batch is not None
    order = torch.channels_last if config.model.channels_last is True else torch.contiguous_format
    model: Any = build_model(config.model, shape, classes, seed=0).to(check.device, memory_format=order)
    kernel = {"fused": True} if check.is_real else {}
    optimizer = torch.optim.SGD(model.parameters(), RATE, config.optimizer.momentum, **kernel)
    images = torch.randn(batch, *shape).to(check.device, memory_format=order)
    labels = torch.randint(classes, (batch,)).to(check.device)
    autocast = make_autocast(config.precision, check.device) or nullcontext
    scaler = torch.amp.GradScaler(check.device.type, enabled=config.precision == "float16")
    if config.compile:
        model = torch.compile(model, backend=config.compile_backend)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            loss = F.cross_entropy(model(images), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


@contextmanager
def _lane(name: str, loop: Callable[[Gate], None]) -> Iterator[Lane]:
    """A lane that ends after the body."""
    lane = Lane(name, loop, block=1)
    try:
        yield lane
    finally:
        lane.close()


def timed(check: Check, lanes: list[Lane], seconds: float, rounds: int = 5) -> Seconds:
    """Seconds of a step of each lane, in rounds of turns that take ``seconds`` a lane in all."""
    warm, counts = (5, {}) if check.counts else (1, {})
    seconds, rounds = (seconds, rounds) if check.counts else (0.0, 2)
    for lane in lanes:
        _advance(check, lane, warm)
        counts[lane.name] = max(1, int(seconds / rounds / _advance(check, lane, warm)))
    found: Seconds = {lane.name: [] for lane in lanes}
    for round_ in range(rounds):
        for index in order_of(round_, len(lanes)):
            lane = lanes[index]
            found[lane.name].append(_advance(check, lane, counts[lane.name]))
    return found


def _advance(check: Check, lane: Lane, steps: int) -> float:
    """Seconds of a step of so many, with all that they queue on a GPU."""
    wait_for(check.device)
    begin = time.perf_counter()
    lane.advance(steps)
    wait_for(check.device)
    return (time.perf_counter() - begin) / steps


def median(found: Seconds, name: str) -> float:
    """The median of a loop's rounds, in seconds."""
    return statistics.median(found[name])


def ratio(found: Seconds, name: str, other: str) -> float:
    """How many times as long as ``other`` a loop's step takes: the median over rounds."""
    return statistics.median(a / b for a, b in zip(found[name], found[other], strict=True))


def figures(found: Seconds, name: str, samples: int) -> dict[str, float]:
    """Milliseconds of a step of so many samples, and samples a second."""
    seconds = median(found, name)
    return {"milliseconds": 1e3 * seconds, "samples_per_second": samples / seconds}


@contextmanager
def peak_memory(check: Check) -> Iterator[Mapping[str, float]]:
    """Inside, what the device holds is watched; the mapping is filled behind it, where there is a GPU."""
    peak: dict[str, float] = {}
    if not check.is_real:
        yield peak
        return
    check.clear()
    before = torch.cuda.memory_allocated(check.device)
    torch.cuda.reset_peak_memory_stats(check.device)
    yield peak
    peak["peak_mib"] = (torch.cuda.max_memory_allocated(check.device) - before) / MIB


@contextmanager
def entered(*contexts: Any) -> Iterator[list[Any]]:
    """What all of ``contexts`` give, inside of all of them."""
    with ExitStack() as stack:
        yield [stack.enter_context(context) for context in contexts]
