"""The batch-size studies that figures are drawn from, brought together by workload.

A *workload* is a data set, a model and a training algorithm, with its studies at several batch sizes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcsgd.errors import UsageError
from hpcsgd.study.archive import Study, read_archive

METRIC = "val/classification_error"
TRAIN_SAMPLES = {"mnist": 55_000, "fashion_mnist": 55_000, "cifar10": 45_000, "cifar100": 45_000, "imagenet": 1_281_167}
"""Training images of the data sets, as Shallue 2019 splits them; of CIFAR, 5,000 validate."""

FRACTION = re.compile(r"(?P<name>.+)_(?P<fraction>0?\.\d+)$")
"""Data sets of which only a fraction is trained on are called so in an archive."""


@dataclass(frozen=True)
class Workload:
    """The studies of one data set, model and optimizer, by batch size.

    Attributes:
        dataset, model, optimizer: as the archive names them.
        studies: one a batch size, rising.
        source: the archive's file or directory.
    """

    dataset: str
    model: str
    optimizer: str
    studies: tuple[Study, ...]
    source: str = ""

    @property
    def name(self) -> str:
        """What tables and figures call it."""
        return f"{self.dataset}, {self.model}, {self.optimizer}"

    @property
    def batch_sizes(self) -> list[int]:
        """Batch sizes, rising."""
        return [study.batch_size for study in self.studies]

    @property
    def train_samples(self) -> int | None:
        """Training samples, where they are known."""
        split = FRACTION.fullmatch(self.dataset)
        whole = TRAIN_SAMPLES.get(split["name"] if split else self.dataset)
        return round(whole * float(split["fraction"])) if whole and split else whole


def load(paths: Sequence[str]) -> tuple[list[Workload], list[str]]:
    """The workloads in all archives, and one line for each path that holds none that can be read."""
    found: dict[tuple[str, str, str, str], list[Study]] = {}
    problems = []
    for text in dict.fromkeys(paths):
        try:
            studies = read_archive(Path(text))
        except UsageError as error:
            problems.append(str(error))
            continue
        if not studies:
            problems.append(f"{text}: no study in it (DATASET/MODEL/OPTIMIZER/BATCH_SIZE/study.json)")
        for study in studies:
            found.setdefault((study.dataset, study.model, study.optimizer, text), []).append(study)
    workloads = [
        Workload(*key[:3], tuple(sorted(studies, key=lambda study: study.batch_size)), key[3])
        for key, studies in found.items()
    ]
    return workloads, problems
