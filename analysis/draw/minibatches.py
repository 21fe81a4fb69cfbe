"""Goyal's figures 7 and 8: times against the minibatch and images/s against GPUs, the published ones beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from draw import sizes as size_figures
from draw.sizes import EPOCH, ITERATION, Panel
from tables.sizes import BATCH, STRONG, WEAK

THROUGHPUT = Panel("samples_per_second", "Throughput (images/s)", "ideal_samples_per_second")
TIMING_MEANING = (
    "Time of record (maximum over ranks); per iteration the median and 5th to 95th percentile over synchronisation "
    "periods. Dashed: the smallest size's time for one sample on one rank, kept at every size. Open markers: estimated "
    "from iterations. Published: ResNet-50 on ImageNet, 32 images on each of 8 to 352 P100 GPUs (Goyal 2017, section "
    "5.5); its ideal is the same time per iteration, as ranks grow with the minibatch. "
)
THROUGHPUT_MEANING = (
    "Images of all ranks over the median time of record per iteration. Dashed: the smallest size's images/s of one "
    "rank, times the ranks. Published: ResNet-50 on ImageNet by others (Goyal 2017 on P100 GPUs; the vendors' "
    "measurements in mixed precision). "
)


def against_minibatch(sizes: pd.DataFrame, timing: pd.DataFrame, directory: Path, caption: str) -> list[Path]:
    """Figure 7: time per iteration and per epoch against the minibatch, the published times among ours.

    Args:
        sizes: rows of :func:`size_tables.size_table`.
        timing: rows of :func:`goyal_published.times`; may be empty.
        directory: where to.
        caption: below the panels.

    Returns:
        the files; none where no two runs differ in their minibatch.
    """
    part = sizes[sizes["scaling"].isin((WEAK, BATCH))] if not sizes.empty else sizes
    if part.empty:
        return []
    return size_figures.draw(
        _together(part, [timing]),
        "global_batch_size",
        "Minibatch kn (samples)",
        (ITERATION, EPOCH),
        directory,
        "goyal_timing",
        TIMING_MEANING + caption,
        columns=2,
    )


def against_gpus(
    sizes: pd.DataFrame, published: Sequence[pd.DataFrame], on_gpus: bool, directory: Path, caption: str
) -> list[Path]:
    """Figure 8: images/s against GPUs with the ideal line, the published ones among ours.

    Arguments as of :func:`against_minibatch`; ``published`` are rows of
    :func:`goyal_published.times` and :func:`goyal_published.throughput`.

    Returns:
        the files; none where no two runs differ in their ranks.
    """
    part = sizes[sizes["scaling"].isin((WEAK, STRONG))] if not sizes.empty else sizes
    if part.empty:
        return []
    return size_figures.draw(
        _together(part, published),
        "num_ranks",
        "GPUs (one rank each)" if on_gpus else "Ranks on CPUs (ours), GPUs (published)",
        (THROUGHPUT,),
        directory,
        "goyal_throughput",
        THROUGHPUT_MEANING + caption,
        panel=(5.6, 3.2),
    )


def _together(sizes: pd.DataFrame, published: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Ours and the published rows, as one table."""
    return pd.concat([sizes, *(table for table in published if not table.empty)], ignore_index=True)
