"""Images a second that a pack gives, with nothing else to do, and beside a training."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.config import DataConfig, ModelConfig, RunConfig
from hpcsgd.learners.engines.choose import wait_for
from hpcsgd.record.pack_writer import PackWriter
from hpcsgd.run.build import build
from tests.gpu.check import Check
from tests.gpu.loops import figures, ours, recipe, timed

ASKED = 3000.0
"""Images a second of 224 x 224 that a fast card trains."""

MEMORY = Path("/dev/shm")
"""A file there is in memory, as one that was read is in the page cache."""

SECONDS = 2.0


def time_them(check: Check) -> None:
    """Does a pack feed the GPU?"""
    batch, side, size, samples = (8, 24, 16, 32) if check.tiny else (256, 256, 224, 1536)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        path = Path(folder) / "pictures.h5"
        _write(path, samples, side)
        data = DataConfig(
            name="pack", dir=str(path), image_size=size, random_resized_crop=True, flip=True, block_size=min(batch, 32)
        )
        for channels_last in (False, True):
            model = ModelConfig(name="resnet8", channels_last=channels_last)
            speed = _speed(check, recipe(check, batch, (3, size, size), model, data=data))
            order = "channels last" if channels_last else "channels first"
            what = f"{side} x {side} to {size} x {size}, {order}"
            check.row(what, check.held(speed >= ASKED), images_per_second=speed, asked=ASKED)
        if not check.tiny and check.has_time(10, "a training from a pack"):
            model = ModelConfig(name="resnet50", channels_last=True)
            config = recipe(check, batch, (3, size, size), model, data=data, precision="bfloat16", cudnn_benchmark=True)
            with ours("pack", config) as lane:
                found = timed(check, [lane], SECONDS)
            check.row("ResNet-50 in bfloat16 from the pack", **figures(found, "pack", batch))


def _speed(check: Check, config: RunConfig) -> float:
    """Images a second of the loader alone."""
    seconds, batch = SECONDS if check.counts else 0.0, config.local_batch_size or 0
    with build(config, SingleCommunicator()) as parts:
        parts.loader.batch(0)
        wait_for(check.device)
        begin, step = time.perf_counter(), 0
        while step < 2 or time.perf_counter() - begin < seconds:
            step += 1
            parts.loader.batch(step)
        wait_for(check.device)
        return batch * step / (time.perf_counter() - begin)


def _write(path: Path, samples: int, side: int) -> None:
    """A pack of noise: the same few images again and again, as one that is read says nothing of the next."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (16, side, side, 3), dtype=np.uint8)
    writer = PackWriter(path, {"train": samples, "test": 16}, (side, side, 3), ["a", "b"])
    for split, count in (("train", samples), ("test", 16)):
        writer.write(split, ((images[number % 16], number % 2) for number in range(count)))
    writer.finish()
