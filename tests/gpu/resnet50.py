"""ResNet-50 in each precision against a bare loop of the same, and against what others have published."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from hpcsgd.config import ModelConfig
from hpcsgd.errors import is_out_of_memory
from hpcsgd.run.kernels import choosing_kernels
from hpcsgd.tasks.precision import set_float32
from tests.gpu.check import Check
from tests.gpu.loops import bare, entered, figures, ours, peak_memory, ratio, recipe, timed

PUBLISHED = Path(__file__).resolve().parents[2] / "analysis/published/resnet50_images_per_second.csv"
ASKED_SHARE = 0.98
HOPPER, HELD_AGAINST = ("H100", "H200"), "H100 SXM5"
"""These cards must train, in bfloat16, as many images a second as were published of that one."""

BATCHES = (256, 128, 64)
"""Images of a step: the first for which there is memory."""

CLASSES = 1000
SECONDS = 3.0


@dataclass(frozen=True)
class Way:
    """How it is trained."""

    precision: str
    channels_last: bool
    compiled: bool = False

    @property
    def name(self) -> str:
        """For the table."""
        words = [self.precision, "channels last" if self.channels_last else "channels first"]
        return ", ".join([*words, "compiled"] if self.compiled else words)


WAYS = (Way("bfloat16", True), Way("tf32", True), Way("float32", False), Way("float16", True))
COMPILED = Way("bfloat16", True, compiled=True)


def race(check: Check) -> None:
    """What share of a bare loop's speed is the package's, by precision?"""
    for way in WAYS[:1] if check.tiny else WAYS:
        if check.has_time(15, way.name):
            _race(check, way)


def race_compiled(check: Check) -> None:
    """The same where torch compiles the model."""
    if check.pretend:
        check.left_out(COMPILED.name, "compiled code asks for a GPU itself")
    else:
        _race(check, COMPILED)


def _race(check: Check, way: Way) -> None:
    """The rows of a way: ours, the bare loop, and the published numbers."""
    for batch in (2,) if check.tiny else BATCHES:
        try:
            _race_at(check, way, batch)
            return
        except RuntimeError as error:
            if not is_out_of_memory(error):
                check.failed(way.name, error)
                return
            check.left_out(f"{way.name}, batch {batch}", "out of memory")
        check.clear()


def _race_at(check: Check, way: Way, batch: int) -> None:
    """See :func:`_race`; ``batch`` images a step."""
    name, side = ("resnet8", 8) if check.tiny else ("resnet50", 224)
    config = recipe(
        check,
        batch,
        (3, side, side),
        ModelConfig(name=name, channels_last=way.channels_last),
        classes=CLASSES,
        samples=3 * batch,
        precision=way.precision,
        compile=way.compiled,
        compile_backend="inductor" if check.counts else "aot_eager",
        cudnn_benchmark=check.is_real,
    )
    with choosing_kernels(config), peak_memory(check) as peak:
        set_float32(way.precision)
        with entered(ours("ours", config), bare("bare", check, config)) as lanes:
            found = timed(check, lanes, SECONDS)
    share = ratio(found, "bare", "ours")
    mine, theirs = figures(found, "ours", batch), figures(found, "bare", batch)
    check.row(f"{way.name}: bare loop, batch {batch}", **theirs)
    check.row(
        f"{way.name}: hpcsgd",
        check.held(share >= ASKED_SHARE),
        **mine,
        share_of_bare=share,
        **{f"both_{name}": value for name, value in peak.items()},
    )
    _beside_published(check, way, mine["samples_per_second"])


def _beside_published(check: Check, way: Way, speed: float) -> None:
    """One GPU's published images a second beside ours, of a precision of the same kind."""
    if not check.counts or way.precision == "float32":
        return
    words = ("TF32",) if way.precision == "tf32" else ("fp16", "AMP")
    card = torch.cuda.get_device_name(check.device)
    is_held = way.precision == "bfloat16" and any(name in card for name in HOPPER)
    for device, stack, published in published_of_one_gpu():
        if any(word in stack for word in words):
            verdict = check.held(speed >= published) if is_held and device == HELD_AGAINST else ""
            what = f"{way.name}: published, {device}, {stack}"
            check.row(what, verdict, images_per_second=published, times=speed / published)


def published_of_one_gpu() -> Iterator[tuple[str, str, float]]:
    """Device, software and images a second of the published trainings on one GPU."""
    with PUBLISHED.open() as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            if row["num_gpus"] == "1":
                yield row["device"], row["stack"], float(row["images_per_second"])
