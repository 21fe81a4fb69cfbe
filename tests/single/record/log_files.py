"""Run logs that older versions of hpcsgd wrote."""

from __future__ import annotations

import lzma
from pathlib import Path

DATA = Path(__file__).parents[2] / "data" / "logs"


def old_log(version: int, directory: Path) -> Path:
    """The log of schema version ``version`` that is kept, as ``run.h5`` in ``directory``; returns the directory.

    It is of local SGD with H = 4 by two ranks: 3 epochs of 6 steps, each evaluated on both splits.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "run.h5").write_bytes(lzma.decompress((DATA / f"schema_{version}.h5.xz").read_bytes()))
    return directory
