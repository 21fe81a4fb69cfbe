"""The public archive's layout: DATASET/MODEL/OPTIMIZER/BATCH_SIZE/study.json, with a directory a trial beside it.

A trial, TRIAL_ID/, holds metadata.json and measurements.csv. Read from a directory or from a packed one, without
unpacking it; ours and the authors' alike.
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcsgd.errors import UsageError

STUDY, METADATA, MEASUREMENTS = "study.json", "metadata.json", "measurements.csv"


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        trial_id: its number.
        status: COMPLETE, INCOMPLETE (stopped short) or INFEASIBLE (diverged).
        steps: that it trained.
        parameters: metaparameters by name.
        measurements: columns of its evaluations, [evaluations] each; ``step`` is one of them.
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
        dataset, model, optimizer: names of the directories above it.
        batch_size: samples of a step.
        settings: its ``study.json``.
        trials: by id.
    """

    dataset: str
    model: str
    optimizer: str
    batch_size: int
    settings: Mapping[str, Any]
    trials: tuple[Trial, ...]

    def count(self, status: str) -> int:
        """Trials of a status."""
        return sum(trial.status == status for trial in self.trials)


def read_archive(path: Path) -> list[Study]:
    """All studies in a directory, at any depth, or in a .tar.xz, .tar.gz or .zip file, by workload and batch size.

    What is not yet whole (a trial without its files) is no part of an archive.

    Raises:
        UsageError: it is not there, or a file in it cannot be read.
    """
    files = _files(path)
    studies = []
    for name in files:
        if name.name == STUDY:
            try:
                studies.append(_read_study(name.parent, files))
            except (ValueError, KeyError, IndexError, OSError) as error:
                raise UsageError(f"{path}: {name.parent} is no study of the public layout: {error!r}") from error
    return sorted(studies, key=lambda study: (study.dataset, study.model, study.optimizer, study.batch_size))


def _files(path: Path) -> dict[PurePosixPath, bytes]:
    """The archive's files with their content."""
    try:
        if path.is_dir():
            wanted = (file for name in (STUDY, METADATA, MEASUREMENTS) for file in path.rglob(name))
            return {PurePosixPath(file.resolve().as_posix()): file.read_bytes() for file in wanted}
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                return _kept((name, packed.read(name)) for name in packed.namelist())
        with tarfile.open(path) as packed_tar:
            return _kept((m.name, _content(packed_tar, m)) for m in packed_tar if m.isfile())
    except (OSError, tarfile.TarError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"cannot read the archive {path}: {getattr(error, 'strerror', None) or error}") from error


def _content(packed: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = packed.extractfile(member)
    assert file is not None, "a regular file"
    return file.read()


def _kept(files: Iterable[tuple[str, bytes]]) -> dict[PurePosixPath, bytes]:
    """Those files that an archive consists of."""
    paths = ((PurePosixPath(name), content) for name, content in files)
    return {path: content for path, content in paths if path.name in (STUDY, METADATA, MEASUREMENTS)}


def _read_study(folder: PurePosixPath, files: Mapping[PurePosixPath, bytes]) -> Study:
    """The study in ``folder``."""
    settings = json.loads(files[folder / STUDY])
    inside = [path.parent for path in files if path.name == METADATA and path.parent.parent == folder]
    trials = [_read_trial(trial, files) for trial in inside if trial.name.isdecimal()]
    dataset, model, optimizer = folder.parts[-4:-1]
    return Study(
        dataset,
        model,
        optimizer,
        int(settings["batch_size"]),
        settings,
        tuple(sorted(trials, key=lambda t: t.trial_id)),
    )


def _read_trial(folder: PurePosixPath, files: Mapping[PurePosixPath, bytes]) -> Trial:
    """One trial."""
    metadata = json.loads(files[folder / METADATA])
    return Trial(
        int(metadata["trial_id"]),
        metadata["status"],
        int(metadata["steps"]),
        metadata["parameters"],
        read_measurements(files[folder / MEASUREMENTS]),
    )


def read_measurements(content: bytes) -> dict[str, NDArray[np.float64]]:
    """The columns of ``measurements.csv``; empty fields are NaN.

    Raises:
        ValueError: a field is no number, or a row has another number of them.
    """
    header, _, body = content.decode().partition("\n")
    names = header.strip().split(",")
    if not body.strip():
        return {name: np.zeros(0) for name in names}
    if ",," in body or ",\n" in body:
        values = np.genfromtxt(io.StringIO(body), delimiter=",", ndmin=2)
    else:
        values = np.loadtxt(io.StringIO(body), delimiter=",", ndmin=2)
    if values.shape[1] != len(names):
        raise ValueError(f"{values.shape[1]} fields in a row under {len(names)} names")
    return dict(zip(names, values.T, strict=True))
