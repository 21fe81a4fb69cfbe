"""What becomes of a study that is already in the directory."""

from __future__ import annotations

import shutil
from pathlib import Path

from hpcsgd.config.study import StudyConfig
from hpcsgd.errors import UsageError
from hpcsgd.files import write_whole
from hpcsgd.recipe import to_yaml
from hpcsgd.run_dir import Claim, check_same, claim_directory
from hpcsgd.trials.directory import FILES, RECIPE

FREE_TO_CHANGE = ("resume", "overwrite", "study_dir", "progress", "threads", "device", "share_gpu", "comm", "faults")
"""Keys that a resumed study may have other values of."""


def claim_study(path: Path, config: StudyConfig) -> Claim:
    """Make the study's directory, with its ``study.yaml``, and keep other jobs from it.

    Raises:
        UsageError: it holds a study of another recipe, or one that is not to be gone on with; or another job is using
            it; or it cannot be written. Nothing is left behind, and nothing there is changed.
    """
    return claim_directory(path, "study", lambda: _prepare(path, config))


def _prepare(path: Path, config: StudyConfig) -> None:
    """Go on with a study that is there, replace it or leave it alone, and write the recipe."""
    present = [name for name in FILES if (path / name).exists()]
    if present and not config.overwrite:
        if config.resume == "none":
            raise UsageError(
                f"{path} holds a study already ({', '.join(present)}): choose another study_dir, set resume: auto to "
                "go on with it, or overwrite: true to replace it"
            )
        if RECIPE in present:
            check_same(path, path / RECIPE, config, "study", FREE_TO_CHANGE)
    if config.overwrite:
        for name in present:
            if (path / name).is_dir():
                shutil.rmtree(path / name)
            else:
                (path / name).unlink()
    write_whole(path / RECIPE, to_yaml(config).encode())
