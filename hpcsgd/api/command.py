"""``hpcsgd train`` and ``hpcsgd check``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hpcsgd.config import RunConfig
from hpcsgd.config.command import asked, recipe_of
from hpcsgd.config.recipe import load_config
from hpcsgd.errors import UsageError

if TYPE_CHECKING:
    from hpcsgd.comm.communicator import Communicator
    from hpcsgd.comm.stop import StopSignals


def train(words: list[str]) -> int:
    """``hpcsgd train [RECIPE] [--print_config] [--key value ...]``; gives the exit code."""
    found = asked(words, RunConfig, load_config)
    if found is None:
        return 0
    recipe, config, mistake = found
    name = Path(recipe).stem if recipe is not None else None
    return _train_together(config or RunConfig(local_batch_size=1), mistake, ["hpcsgd", "train", *words], name)


def check(words: list[str]) -> int:
    """``hpcsgd check RECIPE [--key value ...]``; gives the exit code."""
    if not words or "-h" in words or "--help" in words:
        print("usage: hpcsgd check RECIPE [--KEY VALUE ...]\n\nImport, build and try what a recipe names.")
        return 0 if words else 2
    config = load_config(*recipe_of(words))
    from hpcsgd.api.check import check as check_run

    print(check_run(config))
    return 0


def _train_together(config: RunConfig, mistake: UsageError | None, argv: list[str], name: str | None) -> int:
    """Train on all ranks; ``name`` is that of a run without a directory."""
    from hpcsgd.run.start import work_together

    def work(config: RunConfig, comm: Communicator, signals: StopSignals) -> int:
        from hpcsgd.train import run

        result = run(config, comm, argv, signals, name)
        if comm.rank == 0 and result.path is not None:
            print(f"hpcsgd: the run is in {result.path}", file=sys.stderr)
        return 0

    return work_together(config, mistake, work)
