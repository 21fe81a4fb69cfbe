"""The public archive's layout: DATASET/MODEL/OPTIMIZER/BATCH_SIZE/study.json, with a directory a trial beside it.

A trial, TRIAL_ID/, holds metadata.json and measurements.csv. Which columns are measured, and at which steps, is for
measurements.csv to say. Read from a directory or from a packed one, without unpacking it; ours and the authors' alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcsgd.errors import UsageError
from hpcsgd.study.sources import Parts, read_files

STATUSES = ("COMPLETE", "INCOMPLETE", "INFEASIBLE")
"""Trained to the end; stopped short; diverged."""

STUDY, METADATA, MEASUREMENTS = "study.json", "metadata.json", "measurements.csv"
_SHOWN = 10
"""Damaged files that a message names; of the others it gives the number."""


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        trial_id: its number.
        status: one of ``STATUSES``.
        steps: that it trained.
        parameters: metaparameters by name.
        measurements: columns of its evaluations by name, [evaluations] each, rising by ``step``, which is one of them;
            NaN where a value is missing.
    """

    trial_id: int
    status: str
    steps: int
    parameters: Mapping[str, float]
    measurements: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Study:
    """All trials of one workload at one batch size.

    Attributes:
        dataset: name of its directory; where an archive has two workloads of the same three names, with those
            directories above it that tell them apart: ``solution_quality/mnist``.
        model, optimizer: names of their directories.
        batch_size: samples of a step.
        settings: its ``study.json``: ``train_steps`` (0: trained by time), ``early_stopping``, ...
        trials: by id.
    """

    dataset: str
    model: str
    optimizer: str
    batch_size: int
    settings: Mapping[str, Any]
    trials: tuple[Trial, ...]

    @property
    def workload(self) -> tuple[str, str, str]:
        """Data set, model and optimizer."""
        return self.dataset, self.model, self.optimizer

    def count(self, status: str) -> int:
        """Trials of a status."""
        return sum(trial.status == status for trial in self.trials)


def read_archive(path: Path) -> list[Study]:
    """All studies in a directory or in a packed one (.tar.xz, .tar.gz, .zip, ...), by workload and batch size.

    The directory may be an archive, one that holds archives, that of ``hpcsgd study run``, or a part of an archive down
    to one batch size. What is not named as in the layout is passed over, and so is what begins with a dot: work that
    was not finished. A packed archive is read into memory as a whole.

    Raises:
        UsageError: it is not there, or files are damaged or missing: all of them in one message.
    """
    studies, problem = read_sound_studies(path)
    if problem:
        raise UsageError(problem)
    return studies


def read_sound_studies(path: Path) -> tuple[list[Study], str]:
    """The studies of an archive, as :func:`read_archive`, of which no file is damaged or missing; and what is wrong.

    A study that lacks a trial is left out as a whole: the best of the others would be another result.

    Raises:
        UsageError: the archive is not there, or cannot be opened.
    """
    files = read_files(path, {STUDY, METADATA, MEASUREMENTS})
    above = path.resolve().parts if path.is_dir() else ()
    reader = _Reader(files, above)
    studies = sorted(reader.studies(), key=lambda study: (study.workload, study.batch_size))
    return studies, _complaint(path, reader.problems) if reader.problems else ""


class _Reader:
    """The files of an archive, and what is wrong with them."""

    def __init__(self, files: Mapping[Parts, bytes], above: Parts) -> None:
        """
        Args:
            files: content by path.
            above: directories that all of them lie in, as far as they are known.
        """
        self.files = files
        self.above = above
        self.problems: dict[Parts, str] = {}

    def studies(self) -> list[Study]:
        """All studies that are not damaged."""
        folders = [file[:-1] for file in self.files if file[-1] == STUDY and _are_numbers(self._names(file)[-2:-1])]
        trials: dict[Parts, list[Trial]] = {folder: [] for folder in folders}
        for folder in sorted({file[:-1] for file in self.files if file[-1] != STUDY and len(file) > 1}):
            if not _are_numbers(self._names(folder)[-2:]):
                continue
            trial = self._trial(folder)
            if folder[:-1] not in trials:
                self.problems.setdefault((*folder[:-1], STUDY), "is missing")
            elif trial is not None:
                trials[folder[:-1]].append(trial)
        prefixes = self._prefixes(folders)
        found = {folder: self._study(folder, trials[folder], prefixes[folder]) for folder in folders}
        damaged = {path[: len(folder)] for folder in folders for path in self.problems if path[: len(folder)] == folder}
        return [study for folder, study in found.items() if study is not None and folder not in damaged]

    def _names(self, path: Parts) -> Parts:
        """``path`` with the directories that it lies in."""
        return (*self.above, *path)

    def _study(self, folder: Parts, trials: list[Trial], prefix: Parts) -> Study | None:
        """The study in ``folder``; None where its ``study.json`` is damaged."""
        path = (*folder, STUDY)
        try:
            settings = json.loads(self.files[path])
            batch_size, _ = int(settings["batch_size"]), int(settings.get("train_steps") or 0)
            if batch_size < 1 or not isinstance(settings.get("parameter_configs", {}), dict):
                raise ValueError("no positive batch_size, or parameter_configs without names")
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            self.problems[path] = _said(error)
            return None
        trials.sort(key=lambda trial: trial.trial_id)
        for one, other in zip(trials, trials[1:], strict=False):
            if one.trial_id == other.trial_id:
                self.problems[path] = f"two of its trials have trial_id {one.trial_id}"
        # A packed part of an archive does not say what it lay in; study.json does.
        unnamed = [str(settings.get(name, "")) for name in ("dataset", "model", "optimizer")]
        directories = self._names(folder)[-4:-1]
        dataset, model, optimizer = (*unnamed[: 3 - len(directories)], *directories)
        return Study("/".join((*prefix, dataset)), model, optimizer, batch_size, settings, tuple(trials))

    def _trial(self, folder: Parts) -> Trial | None:
        """The trial in ``folder``; None where one of its files is damaged or missing."""
        missing = [(*folder, name) for name in (METADATA, MEASUREMENTS) if (*folder, name) not in self.files]
        if missing:
            self.problems |= dict.fromkeys(missing, "is missing")
            return None
        path = (*folder, METADATA)
        try:
            content = json.loads(self.files[path])
            trial_id, steps = int(content["trial_id"]), int(content["steps"])
            status, parameters = content["status"], _numbers(content["parameters"])
            if status not in STATUSES:
                raise ValueError(f"status {status!r} is none of {', '.join(STATUSES)}")
            path = (*folder, MEASUREMENTS)
            return Trial(trial_id, status, steps, parameters, read_measurements(self.files[path]))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            self.problems[path] = _said(error)
            return None

    @staticmethod
    def _prefixes(folders: Sequence[Parts]) -> dict[Parts, Parts]:
        """For each study, the directories above DATASET that tell its workload from others of the same names."""
        places: dict[Parts, set[Parts]] = {}
        for folder in folders:
            places.setdefault(folder[-4:-1], set()).add(folder[:-4])
        prefixes = {}
        for folder in folders:
            alike = places[folder[-4:-1]]
            shared = 0
            while len({place[: shared + 1] for place in alike}) == 1 and len(alike) > 1:
                shared += 1
            prefixes[folder] = folder[shared:-4] if len(alike) > 1 else ()
        return prefixes


def _numbers(content: Mapping[str, Any]) -> dict[str, float]:
    """The metaparameters.

    Raises:
        ValueError: one is no number.
    """
    wrong = [name for name, value in dict(content).items() if type(value) not in (int, float)]
    if wrong:
        raise ValueError(f"parameter {wrong[0]} is {content[wrong[0]]!r}, no number")
    return dict(content)


def read_measurements(content: bytes) -> dict[str, NDArray[np.float64]]:
    """The columns of ``measurements.csv``, rising by step; empty fields are NaN.

    Raises:
        ValueError: it is no table of numbers with a column ``step`` of whole numbers.
    """
    header, *lines = content.replace(b"\r", b"").rstrip(b"\n").split(b"\n")
    names = header.decode().split(",")
    if "step" not in names or len(set(names)) < len(names):
        raise ValueError("the header has no step, or a name twice")
    for number, line in enumerate(lines, start=2):
        if line.count(b",") != len(names) - 1:
            raise ValueError(f"line {number} has {line.count(b',') + 1} values, not {len(names)}")
    # By float, not by numpy's readers: right to the last bit, and for thousands of small files faster.
    cells = b",".join(lines).split(b",") if lines else []
    values = np.array([float(cell or b"nan") for cell in cells]).reshape(len(lines), len(names))
    steps = values[:, names.index("step")]
    if not (np.isfinite(steps).all() and (steps >= 0).all() and (steps == np.floor(steps)).all()):
        raise ValueError("a step is no whole number from 0 on")
    columns = np.ascontiguousarray(values[np.argsort(steps, kind="stable")].T)
    return dict(zip(names, columns, strict=True))


def _are_numbers(names: Parts) -> bool:
    """Whether directories are called as those of studies and trials are."""
    return len(names) > 0 and all(name.isascii() and name.isdigit() for name in names)


def _said(error: Exception) -> str:
    """An error in a few words."""
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)


def _complaint(source: Path, problems: Mapping[Parts, str]) -> str:
    """One message for all damaged files."""
    said = [f"{'/'.join(path)} ({why})" for path, why in sorted(problems.items())]
    more = f", and {len(said) - _SHOWN} more" if len(said) > _SHOWN else ""
    return (
        f"{source}: {len(said)} file{'s are' if len(said) > 1 else ' is'} damaged or missing: "
        f"{', '.join(said[:_SHOWN])}{more}: restore them, or remove their trials"
    )
