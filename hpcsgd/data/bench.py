"""``hpcsgd data bench``: how many images of a pack a rank can have in a second, by stage."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from hpcsgd.config import DataConfig
from hpcsgd.data.dataset import Dataset, load_dataset
from hpcsgd.data.make import make_loader
from hpcsgd.data.remarks import printable
from hpcsgd.data.stream import StreamLoader
from hpcsgd.errors import UsageError

MOST_BATCHES = 24
LEAST_BATCHES = 3
PASS_SECONDS = 5.0
"""After so long, and at least so many batches, a pass over them ends: a CPU takes seconds for a batch."""

CACHED_BYTES = 1 << 30
"""Of the batches that are measured: a node's page cache keeps them."""

READ, COPY = "read", "copy to the GPU"
"""Stages that move the stored bytes, and do no more."""

Timed = Callable[..., Any]
"""From a stage, a function and its arguments to its result."""


def bench(path: Path, batch_size: int, image_size: int | None, device: str, *, antialias: bool = False) -> str:
    """Read, send and augment batches of a pack as a rank that trains on it does; a table of the rates.

    The batches are read once before: it is the way from the page cache that is measured, not the disk. Progress goes
    to stderr.

    Args:
        path: the pack.
        batch_size: samples of a batch.
        image_size: height and width that images are cut to; None: as packed.
        device: ``auto``, ``cpu`` or ``cuda``.
        antialias: as ``data.antialias``.

    Raises:
        UsageError: it is no pack, its training images are fewer than a batch or smaller than they are to be cut to, or
            there is no GPU.
    """
    place = _find_device(device)
    if image_size is not None and image_size < 1:
        raise UsageError(f"--image_size is {image_size}: it must be 1 or more")
    config = DataConfig(
        name="pack", dir=str(path), image_size=image_size, random_resized_crop=True, antialias=antialias, flip=True
    )
    data = load_dataset(config)
    if not 1 <= batch_size <= data.num_train:
        raise UsageError(
            f"--batch_size is {batch_size}: it must be 1 to {data.num_train}, the training images of {printable(path)}"
        )
    loader = make_loader(
        data,
        config,
        seed=0,
        learner=0,
        num_learners=1,
        local_batch_size=batch_size,
        device=place,
        dtype=torch.float32,
        channels_last=False,
    )
    assert isinstance(loader, StreamLoader)
    batch_bytes = batch_size * data.train.inputs[0].nbytes
    num_batches = min(MOST_BATCHES, max(LEAST_BATCHES, CACHED_BYTES // batch_bytes))
    try:
        seconds = _measure(loader, num_batches, place)
    finally:
        loader.close()
    head = _heading(path, data, f"{num_batches} batches of {batch_size}", place)
    return "\n".join([head, *_rows(seconds, batch_size, batch_bytes)])


def _find_device(kind: str) -> torch.device:
    """The device of that kind.

    Raises:
        UsageError: it is ``cuda``, and there is none.
    """
    there = torch.cuda.is_available()
    if kind == "cuda" and not there:
        raise UsageError("--device is cuda, but no GPU is seen: check CUDA_VISIBLE_DEVICES, or choose cpu")
    return torch.device("cuda", torch.cuda.current_device()) if there and kind != "cpu" else torch.device("cpu")


def _measure(loader: StreamLoader, num_batches: int, device: torch.device) -> dict[str, float]:
    """Median seconds of a batch in each stage alone, and in all of them as training takes them."""
    from tqdm import tqdm

    taken: dict[str, list[float]] = {}

    def timed(stage: str, work: Callable[..., Any], *arguments: Any) -> Any:
        begun = time.perf_counter()
        result = work(*arguments)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.setdefault(stage, []).append(time.perf_counter() - begun)
        return result

    passes: list[Callable[[StreamLoader, int, Timed], object]] = [_read, _send_and_make, _all]
    with tqdm(total=(1 + len(passes)) * num_batches, unit="batch", file=sys.stderr) as bar:
        for step in range(num_batches):
            loader.read(step)  # brings it to the page cache
            bar.update()
        for each in passes:
            end = time.perf_counter() + PASS_SECONDS
            for step in range(num_batches):
                if step < LEAST_BATCHES or time.perf_counter() < end:
                    each(loader, step, timed)
                bar.update()
    if device.type == "cpu":
        del taken[COPY]
    return {stage: statistics.median(seconds) for stage, seconds in taken.items()}


def _read(loader: StreamLoader, step: int, timed: Timed) -> None:
    """A batch into memory."""
    timed(READ, loader.read, step)


def _send_and_make(loader: StreamLoader, step: int, timed: Timed) -> None:
    """A batch from there on, one stage after another."""
    raw = loader.read(step)
    sent = timed(COPY, loader.send, raw)
    timed("cut, mirror, normalise", loader.make, sent, raw.sizes)


def _all(loader: StreamLoader, step: int, timed: Timed) -> None:
    """A batch as training takes it, while the next one is read."""
    timed("all, read ahead", loader.batch, step)


def _heading(path: Path, data: Dataset, batches: str, device: torch.device) -> str:
    """What was measured, and on what."""
    channels, height, width = data.train.inputs.shape[1:]
    threads = torch.get_num_threads()
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    return (
        f"{printable(path)}: {batches} from the page cache, images of {height} x {width} x {channels} cut to "
        f"{data.shape[1]}, on {on}, {threads} thread{'s' * (threads > 1)}"
    )


def _rows(seconds: Mapping[str, float], batch_size: int, batch_bytes: int) -> list[str]:
    """The lines of the table; ``seconds`` of a batch, by stage."""
    lines = [f"{'stage':<24}{'images/s':>10}{'ms a batch':>12}{'GB/s':>8}"]
    for stage, each in seconds.items():
        rate = f"{batch_bytes / each / 1e9:8.1f}" if stage in (READ, COPY) else ""
        lines.append(f"{stage:<24}{batch_size / each:>10,.0f}{1e3 * each:>12.2f}{rate}")
    return lines
