"""The runs of ``hpcsgd scale``: of each size, or with ``--probe`` the fewest small ones that predict these sizes."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from hpcsgd.errors import UsageError
from hpcsgd.launch.options import chosen_site, numbers
from hpcsgd.launch.planned import Mode, PlannedRun, plan_run, scaling_runs
from hpcsgd.run.plan import batch_sizes

STEPS = 64
"""Of a run that only is to be timed."""


def runs_of_scale(arguments: argparse.Namespace, overrides: Sequence[str]) -> list[PlannedRun]:
    """The runs that the command line asks for.

    Raises:
        UsageError: a run would be refused, or nobody says how many ranks a node has.
    """
    sizes = numbers("--gpus", arguments.gpus)
    if not arguments.probe:
        return scaling_runs(arguments.recipe, overrides, sizes, arguments.mode)
    per_node = arguments.tasks_per_node or (chosen_site(arguments).tasks_per_node if arguments.site else None)
    if per_node is None:
        raise UsageError("scale --probe: how many ranks has a node? Give --site S, or --tasks_per_node N")
    return probe_runs(arguments.recipe, overrides, sizes, arguments.mode, per_node)


def probe_runs(recipe: str, words: Sequence[str], sizes: Sequence[int], mode: Mode, per_node: int) -> list[PlannedRun]:
    """The fewest short runs that ``hpcsgd predict`` needs for ``sizes``: one rank, and one node of ``per_node``.

    Each is at the local batch of the largest size, twice and four times it, which tells the fixed part of a step from
    what a sample takes. The recipe's batch is that of the smallest size, as in ``scaling_runs``.

    Raises:
        UsageError: a run would be refused; names it.
    """
    largest = scaling_runs(recipe, words, sizes, mode)[-1]
    local, _ = batch_sizes(largest.config, largest.ranks * largest.config.known_learners)
    short = () if largest.config.max_steps is not None else (f"--max_steps={STEPS}",)
    runs = []
    for ranks in sorted({1, min(per_node, largest.ranks)}):
        for batch in (local, 2 * local, 4 * local):
            name = f"gpus-{ranks}-batch-{batch}"
            own = (f"--local_batch_size={batch}", "--global_batch_size=null", *short)
            try:
                runs.append(plan_run(recipe, (*words, *own), ranks, name))
            except UsageError as error:
                raise UsageError(f"{name}: {error}") from error
    return runs


def what_then(arguments: argparse.Namespace, directory: Path) -> tuple[str, str]:
    """What the runs are for, and the command that makes it of them."""
    where = shlex.quote(str(directory))
    if arguments.probe:
        return "prediction", f"hpcsgd predict {where} --gpus {arguments.gpus}"
    return "figure and table", f"hpcsgd figures scaling {where}"
