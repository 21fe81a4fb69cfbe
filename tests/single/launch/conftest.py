"""A place to work in, with a recipe and nothing of Slurm's or MPI's but what a test adds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.single.launch.fakes import RECIPE, Fakes


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    """The only programs on ``PATH``; the current directory is empty but for ``tiny.yaml``."""
    for name in [name for name in os.environ if name.startswith(("SLURM", "SRUN_", "OMPI_", "PMI", "SBATCH_"))]:
        monkeypatch.delenv(name)
    programs = Fakes(tmp_path / "programs")
    monkeypatch.setenv("PATH", str(programs.directory))
    work = tmp_path / "work"
    work.mkdir()
    (work / "tiny.yaml").write_text(RECIPE)
    monkeypatch.chdir(work)
    return programs
