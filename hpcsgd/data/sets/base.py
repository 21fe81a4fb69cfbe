"""What the package asks of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hpcsgd.config import DataConfig
from hpcsgd.data.arrays import ArraySplit


@dataclass(frozen=True)
class Loaded:
    """A data set as it is read, before anything is held out.

    Attributes:
        train: the whole training split.
        test: the test split.
        num_classes: classes; every label is below.
        moments: mean and standard deviation of the training pixels by channel; empty where nothing is to be normalised;
            None where they are still to be taken.
        crop: height and width that images are cut to when they are read from the disk; None: they are in memory, as
            they are.
        remarks: what a user should know of it, a line each.
        classes: names of the classes; empty: they have none.
        digest: checksum of what the splits were read from; None: their arrays are summed when it is asked for.
    """

    train: ArraySplit
    test: ArraySplit
    num_classes: int
    moments: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    crop: int | None = None
    remarks: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    digest: int | str | None = None


class DataSet(Protocol):
    """One data set: its facts and its reader."""

    @property
    def name(self) -> str:
        """Its ``data.name``."""

    @property
    def origin(self) -> str:
        """How a user comes by it, for messages: ``NAME ...``."""

    @property
    def is_published(self) -> bool:
        """Whether it is one fixed set of files, which can be fetched, and copied to the nodes of a job."""

    def load(self, config: DataConfig, seed: int) -> Loaded:
        """Read or make it.

        Raises:
            UsageError: files are missing, truncated, of a wrong format, or contradict each other.
        """

    def num_train_samples(self, config: DataConfig) -> int | None:
        """Samples of the whole training split, without reading more than is needed; None where they are not known here.

        Raises:
            UsageError: what is here cannot be read.
        """
