"""What becomes of a study that is already in the directory."""

from __future__ import annotations

from pathlib import Path

from hpcsgd.config.study import StudyConfig
from hpcsgd.run.claims import Changes, Claim
from hpcsgd.run.directory import check_same, decide
from hpcsgd.run.leftovers import STUDY

FREE_TO_CHANGE = (
    "resume",
    "overwrite",
    "study_dir",
    "import_from",
    "progress",
    "threads",
    "device",
    "share_gpu",
    "comm",
    "faults",
    "model.channels_last",
)
"""Keys that a resumed study may have other values of."""


def claim_study(path: Path, config: StudyConfig) -> Claim:
    """Keep other jobs from the study's directory; the claim's ``begin`` and ``settle`` write its ``study.yaml``.

    Raises:
        UsageError: it holds a study of another recipe, or one that is not to be gone on with, or what is no study of
            ours; or another job is using it; or it cannot be written. Nothing is left behind, and nothing there is
            changed.
    """
    return Claim.make(path, STUDY, lambda claimed: _decide(path, config, claimed))


def _decide(path: Path, config: StudyConfig, claimed: Claim) -> Changes:
    """Go on with a study that is there, replace it or leave it alone."""
    goes_on = config.resume == "auto" and not config.overwrite
    changes, goes_on = decide(path, STUDY, config, goes_on=goes_on, overwrite=config.overwrite)
    if goes_on:
        claimed.before = check_same(path, path / STUDY.recipe, config, "study", FREE_TO_CHANGE)
    return changes
