"""``hpcsgd data bench``: how many images of a pack a rank can have in a second, by stage."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.comm.device import bind_device
from hpcsgd.comm.topology import discover
from hpcsgd.config import DataConfig
from hpcsgd.data.dataset import Dataset, load_dataset
from hpcsgd.data.decoding import DecodingReader
from hpcsgd.data.make import make_loader
from hpcsgd.data.remarks import printable
from hpcsgd.data.stream import StreamLoader
from hpcsgd.errors import UsageError
from hpcsgd.record.encoded import EncodedImages

MOST_BATCHES = 24
LEAST_BATCHES = 3
PASS_SECONDS = 5.0
"""After so long, and at least so many batches, a pass over them ends: a CPU takes seconds for a batch."""

CACHED_BYTES = 1 << 30
"""Of the batches that are measured: a node's page cache keeps them."""

READ, COPY = "read", "copy to the GPU"
"""Stages that move bytes, and do no more."""

Timed = Callable[..., Any]
"""From a stage, a function and its arguments to its result."""

Pass = Callable[[StreamLoader, int, Timed], object]
"""Stages of the batch of a step."""


def bench(
    path: Path,
    batch_size: int,
    image_size: int | None,
    device: str,
    *,
    antialias: bool = False,
    workers: int | None = None,
) -> str:
    """Read, decode, send and augment batches of a pack as a rank that trains on it does; a table of the rates.

    The batches are read once before: it is the way from the page cache that is measured, not the disk. Progress goes
    to stderr.

    Args:
        path: the pack.
        batch_size: samples of a batch.
        image_size: height and width that images are cut to; None: as packed.
        device: ``auto``, ``cpu`` or ``cuda``.
        antialias: as ``data.antialias``.
        workers: as ``data.workers``.

    Raises:
        UsageError: it is no pack, its training images are fewer than a batch or smaller than they are to be cut to, or
            there is no GPU.
    """
    comm = SingleCommunicator()
    place, _ = bind_device(device, comm, discover(comm)[0], share_gpu=False)
    try:
        config = DataConfig(
            name="pack",
            dir=str(path),
            image_size=image_size,
            random_resized_crop=True,
            antialias=antialias,
            flip=True,
            workers=workers,
        )
    except ValueError as error:
        raise UsageError(str(error).replace("data.", "--")) from error
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
    stored, sent = data.train.inputs.nbytes / data.num_train, math.prod(data.train.inputs.shape[1:])
    num_batches = min(MOST_BATCHES, max(LEAST_BATCHES, CACHED_BYTES // (batch_size * sent)))
    with ExitStack() as stack:
        stack.callback(loader.close)
        seconds = _measure(loader, _passes(loader, place, stack), num_batches, place)
    head = _heading(path, data, f"{num_batches} batches of {batch_size}", place)
    return "\n".join([head, *_rows(seconds, batch_size, {READ: batch_size * stored, COPY: batch_size * sent})])


def _passes(loader: StreamLoader, device: torch.device, stack: ExitStack) -> list[Pass]:
    """What is measured, pass after pass; ``stack`` ends it."""
    images = loader.images
    if not isinstance(images, DecodingReader):
        return [_read, _send_and_make, _all]
    passes: list[Pass] = []
    for threads in sorted({1, max(1, images.num_threads)}):
        reader = DecodingReader(images.images, device, threads)
        stack.callback(reader.close)
        passes.append(partial(_decode, reader, READ if threads == 1 else None))
    return [*passes, _send_and_make, _all]


def _measure(loader: StreamLoader, passes: list[Pass], num_batches: int, device: torch.device) -> dict[str, float]:
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

    with tqdm(total=(1 + len(passes)) * num_batches, unit="batch", file=sys.stderr) as bar:
        for step in range(num_batches):
            _bring_to_page_cache(loader, step)
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


def _bring_to_page_cache(loader: StreamLoader, step: int) -> None:
    """Read what is stored of a batch, and no more."""
    if isinstance(loader.images, DecodingReader):
        loader.images.fetch(loader.samples(step))
    else:
        loader.read(step)


def _read(loader: StreamLoader, step: int, timed: Timed) -> None:
    """A batch into memory."""
    timed(READ, loader.read, step)


def _decode(reader: DecodingReader, read: str | None, loader: StreamLoader, step: int, timed: Timed) -> None:
    """The files of a batch into memory, which is timed as ``read`` once, and decoded."""
    samples = loader.samples(step)
    contents = timed(read, reader.fetch, samples) if read else reader.fetch(samples)
    threads = reader.num_threads
    timed(f"decode, {threads} thread{'s' * (threads > 1)}", reader.decode, samples, contents)


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
    images = data.train.inputs
    channels, height, width = images.shape[1:]
    threads = torch.get_num_threads()
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    is_encoded = isinstance(images, EncodedImages)
    stored = f" (stored in {images.nbytes / len(images) / 1e3:.1f} kB each)" if is_encoded else ""
    return (
        f"{printable(path)}: {batches} from the page cache, images of {height} x {width} x {channels}{stored} cut to "
        f"{data.shape[1]}, on {on}, {threads} thread{'s' * (threads > 1)}"
    )


def _rows(seconds: Mapping[str, float], batch_size: int, moved: Mapping[str, float]) -> list[str]:
    """The lines of the table; ``seconds`` of a batch by stage, bytes that are ``moved`` by those that move them."""
    lines = [f"{'stage':<24}{'images/s':>10}{'ms a batch':>12}{'GB/s':>8}"]
    for stage, each in seconds.items():
        rate = f"{moved[stage] / each / 1e9:8.1f}" if stage in moved else ""
        lines.append(f"{stage:<24}{batch_size / each:>10,.0f}{1e3 * each:>12.2f}{rate}")
    return lines
