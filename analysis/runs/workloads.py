"""The batch-size studies that figures are drawn from, brought together by workload.

A *workload* is a data set, a model and a training algorithm, with its studies at several batch sizes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcsgd.errors import UsageError
from hpcsgd.study.archive import Study, read_sound_studies

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
        is_one_of_several: another archive has the same workload, so that its source tells them apart.
    """

    dataset: str
    model: str
    optimizer: str
    studies: tuple[Study, ...]
    source: str = ""
    is_one_of_several: bool = False

    @property
    def name(self) -> str:
        """What tables and figures call it."""
        source = f" ({self.source})" if self.is_one_of_several else ""
        return f"{self.dataset}, {self.model}, {self.optimizer}{source}"

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
    """The workloads in all archives, and one line for each path or study that cannot be read, or is there twice.

    An archive that is given packed and unpacked, or copied, is one: equal studies count once. Another archive of the
    same workload stands beside it, with its source in its name.
    """
    found: dict[tuple[str, str, str, str], list[Study]] = {}
    problems: list[str] = []
    for text in dict.fromkeys(paths):
        try:
            studies, problem = read_sound_studies(Path(text))
        except UsageError as error:
            problems.append(str(error))
            continue
        if problem:
            problems.append(problem)
        elif not studies:
            problems.append(f"{text}: no study in it (DATASET/MODEL/OPTIMIZER/BATCH_SIZE/study.json)")
        for study in studies:
            known = next((key for key, others in found.items() if any(_same(study, other) for other in others)), None)
            if known is None:
                found.setdefault((*study.workload, text), []).append(study)
            else:
                which = f"{'/'.join(study.workload)}/{study.batch_size}"
                problems.append(f"{text}: {which} is the same study as in {known[3]}: it counts once")
    names = [key[:3] for key in found]
    workloads = [
        Workload(*key[:3], tuple(sorted(studies, key=lambda s: s.batch_size)), key[3], names.count(key[:3]) > 1)
        for key, studies in found.items()
    ]
    return workloads, problems


def _same(one: Study, other: Study) -> bool:
    """Whether two studies are copies of one: the same settings, and the same trials with the same measurements."""
    # A copy beside another one is told from it by the directories above.
    names = [
        (study.dataset.rpartition("/")[2], study.model, study.optimizer, study.batch_size) for study in (one, other)
    ]
    if names[0] != names[1] or one.settings != other.settings or len(one.trials) != len(other.trials):
        return False
    return all(
        (a.trial_id, a.status, a.steps, a.parameters) == (b.trial_id, b.status, b.steps, b.parameters)
        and a.measurements.keys() == b.measurements.keys()
        and all(np.array_equal(a.measurements[name], b.measurements[name], equal_nan=True) for name in a.measurements)
        for a, b in zip(one.trials, other.trials, strict=True)
    )
