"""The runs of a study, each checked as far as it can be without the machine that it will run on."""

from __future__ import annotations

import dataclasses
import itertools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hpcsgd.comm.topology import arrange
from hpcsgd.config import RunConfig
from hpcsgd.config.recipe import load_config
from hpcsgd.data.dataset import num_train_samples
from hpcsgd.errors import UsageError
from hpcsgd.launch.naming import point_name
from hpcsgd.launch.site import SiteProfile
from hpcsgd.run.plan import batch_sizes, make_plan

Mode = Literal["strong", "weak"]
STUDY_KEYS = ("run_dir", "resume", "overwrite")
"""Keys that a study sets for its runs itself."""


@dataclass(frozen=True)
class PlannedRun:
    """One run to be.

    Attributes:
        name: its directory within the study.
        words: its overrides, all of them.
        config: the configuration that they give.
        ranks: how many ranks it is for.
    """

    name: str
    words: tuple[str, ...]
    config: RunConfig
    ranks: int


def plan_run(recipe: str, words: Sequence[str], ranks: int, name: str = "") -> PlannedRun:
    """A run of ``recipe`` with overrides on so many ranks.

    Raises:
        UsageError: the run would be refused when it starts.
    """
    config = load_config(recipe, list(words))
    num_samples, num_learners = num_train_samples(config.data), ranks * config.known_learners
    if num_samples is not None:
        make_plan(config, num_learners, num_samples)
    else:
        # The data is only where the run will be, which checks the rest.
        batch_sizes(config, num_learners)
    arrange(["node"] * ranks, config.algorithm.block_size)
    return PlannedRun(name, tuple(words), config, ranks)


def nodes_and_tasks(ranks: int, site: SiteProfile, tasks_per_node: int | None = None) -> tuple[int, int]:
    """Nodes, and tasks on each, for so many ranks: nodes are filled, with ``tasks_per_node`` or as the site says.

    Raises:
        UsageError: they cannot be filled.
    """
    per_node = tasks_per_node or site.tasks_per_node
    if ranks <= per_node:
        return 1, ranks
    nodes, rest = divmod(ranks, per_node)
    if rest:
        raise UsageError(
            f"{ranks} ranks do not fill nodes of {per_node} at site {site.name}: "
            f"choose {nodes * per_node} or {(nodes + 1) * per_node}"
        )
    return nodes, per_node


def scaling_runs(recipe: str, words: Sequence[str], sizes: Sequence[int], mode: Mode) -> list[PlannedRun]:
    """One run for each number of ranks, smallest first.

    The recipe's batch is that of the smallest size: strong scaling keeps the global batch of it, weak the local one.

    Raises:
        UsageError: a run would be refused; names the size.
    """
    _refuse_own_keys(words)
    ordered = sorted(set(sizes))
    base = load_config(recipe, list(words))
    runs = []
    for ranks in ordered:
        batch = _batch_words(base, ordered[0], mode)
        try:
            runs.append(plan_run(recipe, (*words, *batch), ranks, f"gpus-{ranks}"))
        except UsageError as error:
            raise UsageError(f"at {ranks} GPUs: {error}") from error
    return runs


def _batch_words(base: RunConfig, smallest: int, mode: Mode) -> tuple[str, str]:
    """The overrides that hold the batch which ``mode`` keeps."""
    if mode == "strong":
        whole = base.global_batch_size
        if whole is None:
            assert base.local_batch_size is not None
            whole = base.local_batch_size * smallest
        return f"--global_batch_size={whole}", "--local_batch_size=null"
    local = base.local_batch_size
    if local is None:
        assert base.global_batch_size is not None
        local, rest = divmod(base.global_batch_size, smallest)
        if rest or not local:
            raise UsageError(
                f"global_batch_size is {base.global_batch_size}, which the smallest size, {smallest}, cannot share "
                "evenly: give local_batch_size"
            )
    return f"--local_batch_size={local}", "--global_batch_size=null"


def sweep_runs(
    recipe: str, words: Sequence[str], settings: Sequence[str], seeds: int | None, ranks: int
) -> list[PlannedRun]:
    """One run for each combination of the settings' values and for each seed, the seeds innermost.

    Args:
        recipe: the recipe.
        words: overrides of all runs.
        settings: ``key=value,value,...`` each.
        seeds: how many seeds, from the recipe's on; unset, only that.
        ranks: ranks of each run.

    Raises:
        UsageError: a setting is no such, two values are the same, or a run would be refused; names the point.
    """
    _refuse_own_keys([*words, *(f"--{text}" for text in settings)])
    axes = [parse_setting(text) for text in settings]
    keys = [key for key, _ in axes]
    if repeated := {key for key in keys if keys.count(key) > 1}:
        raise UsageError(f"--set {sorted(repeated)[0]} is given twice: give all its values at once")
    if seeds is not None:
        if "seed" in keys:
            raise UsageError("give either --seeds or --set seed=..., not both")
        first = load_config(recipe, list(words)).seed
        axes.append(("seed", tuple(str(first + index) for index in range(seeds))))
    if not axes:
        raise UsageError("a sweep needs --set KEY=VALUE,VALUE,... or --seeds N")
    runs: dict[str, PlannedRun] = {}
    for point in itertools.product(*([(key, value) for value in values] for key, values in axes)):
        own = tuple(f"--{key}={value}" for key, value in point)
        try:
            run = plan_run(recipe, (*words, *own), ranks)
        except UsageError as error:
            raise UsageError(f"point {shlex.join(own)}: {error}") from error
        run = dataclasses.replace(run, name=point_name(run.config, [key for key, _ in point]))
        if run.name in runs:
            same = runs[run.name].words[len(words) :]
            pairs = [f"{a[2:]} and {b.partition('=')[2]}" for a, b in zip(same, own, strict=True) if a != b]
            raise UsageError(f"--set {pairs[0]} are twice the same value: give it once")
        runs[run.name] = run
    return list(runs.values())


def parse_setting(text: str) -> tuple[str, tuple[str, ...]]:
    """``key=a,b`` as the key and its values; a comma within brackets does not part them.

    Raises:
        UsageError: it is no such text, or a value is there twice.
    """
    key, sign, rest = text.partition("=")
    values = [""]
    depth = 0
    for letter in rest:
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth == 0:
            values.append("")
        else:
            values[-1] += letter
    if not key or not sign or not all(values) or depth:
        raise UsageError(f"--set {text}: write KEY=VALUE,VALUE,... as in algorithm.sync_period=1,4,16")
    if len(set(values)) < len(values):
        raise UsageError(f"--set {text}: a value is there twice")
    return key, tuple(values)


def _refuse_own_keys(words: Sequence[str]) -> None:
    """Refuse overrides of what the study sets itself."""
    for word in words:
        key = word.partition("=")[0].removeprefix("--")
        if word.startswith("--") and key in STUDY_KEYS:
            raise UsageError(f"{key} is set for each run of a study: give the study's directory by -o DIR")
