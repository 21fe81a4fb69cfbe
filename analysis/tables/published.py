"""Published numbers beside ours: files of analysis/published as rows of the tables that our figures are drawn from."""

from __future__ import annotations

import math

import pandas as pd

import published
from runs.scenarios import SCENARIOS
from runs.settings import ORDER, RULES, kind_text
from tables.errors import percent_text
from tables.sizes import WEAK

PUBLISHED = "published"
MAIN_BASE, MAIN_BATCH = 0.1, 256
"""The paper's learning rate: 0.1·kn/256."""
ERROR_NOTE = (
    "Published: Goyal 2017, tables 1 and 2, top-1 validation error of ResNet-50 on ImageNet, 5 runs each. Same colour "
    "and marker: the same warm-up and scaling rule; η = 0.1·kn/256, by other rules from 0.1 at kn = 256."
)
LIN_NOTE = (
    "Published: Lin 2020, top-1 test accuracy, mean and standard deviation over 3 seeds; 16 workers (A1: 2) of 128 "
    "samples. A3 and A4 are not in the table at hand. Parallelism and rounds of published rows follow from the recipe, "
    "in which local steps begin at half of the epochs."
)
LIN_START = 0.5
"""The share of the epochs after which local steps begin in Lin's recipe: t' = 150 of 300."""
LARGE = 8192
"""The minibatch of the paper's warm-up comparison."""


def goyal_errors() -> pd.DataFrame:
    """``goyal_top1.csv`` of last BatchNorm scales that begin at 0 and η = 0.1·kn/256 or, by other rules, from 0.1."""
    table = published.read("goyal_top1")
    linear = table["scaling"] == "linear"
    proper = (table["learning_rate"] / table["global_batch_size"] - MAIN_BASE / MAIN_BATCH).abs() < 1e-9
    return table[(table["gamma_init"] == 0) & (~linear | proper)].reset_index(drop=True)


def errors() -> pd.DataFrame:
    """The published errors as rows of :func:`goyal_tables.setting_table`, in the order of the figures."""
    table = goyal_errors()
    rules = table["scaling"].map({text: rule for rule, text in RULES.items()} | {"none": "none"})
    kinds = list(zip(rules, table["warmup"], strict=True))
    rows = pd.DataFrame(
        {
            "series": [f"{PUBLISHED}: {kind_text(*kind)}" for kind in kinds],
            "warmup": table["warmup"],
            "scaling_rule": rules,
            "global_batch_size": table["global_batch_size"],
            "num_runs": 5,
            "num_diverged": 0,
            "error_percent": table["top1_error_percent"],
            "error_std_percent": table["std_percent"],
        }
    )
    place = pd.Series([ORDER.index(kind) for kind in kinds])
    return rows.iloc[place.argsort(kind="stable")].reset_index(drop=True)


def warmup_note() -> str:
    """The published comparison of warm-ups, in words."""
    table = errors()
    texts = [
        f"{kind_text(row.scaling_rule, row.warmup)} {percent_text(row.error_percent, row.error_std_percent)}"
        for row in table[table["global_batch_size"] == LARGE].itertuples()
    ]
    small = table[table["global_batch_size"] == MAIN_BATCH].iloc[0]
    return (
        f"Published (Goyal 2017, ResNet-50 on ImageNet, kn = {LARGE}, validation error): {'; '.join(texts)}; small "
        f"minibatch kn = {MAIN_BATCH} {percent_text(small['error_percent'], small['error_std_percent'])}."
    )


def times() -> pd.DataFrame:
    """``goyal_timing.csv`` as a series of :func:`size_tables.size_table`: weak scaling at 32 images a GPU."""
    timing = published.read("goyal_timing")
    table = pd.DataFrame(
        {
            "run": PUBLISHED,
            "num_ranks": timing["num_gpus"],
            "global_batch_size": timing["global_batch_size"],
            "iteration_seconds": timing["seconds_per_iteration"],
            "epoch_seconds": timing["seconds_per_epoch"],
            "samples_per_second": timing["global_batch_size"] / timing["seconds_per_iteration"],
        }
    ).sort_values("num_ranks")
    table["series"] = f"{PUBLISHED}: Goyal 2017, ResNet-50, P100"
    table["iteration_p5_seconds"] = table["iteration_p95_seconds"] = math.nan
    # As measured: these are no estimates from single iterations.
    table["epoch_source"] = f"median, {PUBLISHED}"
    first = table.iloc[0]
    ranks = table["num_ranks"] / first["num_ranks"]
    table["ideal_iteration_seconds"] = first["iteration_seconds"]
    table["ideal_epoch_seconds"] = first["epoch_seconds"] / ranks
    table["ideal_samples_per_second"] = first["samples_per_second"] * ranks
    return table.assign(scaling=WEAK)


def throughput() -> pd.DataFrame:
    """``resnet50_images_per_second.csv`` as series of :func:`size_tables.size_table`; of devices with several sizes."""
    rates = published.read("resnet50_images_per_second")
    tables = []
    for (device, stack), part in rates.groupby(["device", "stack"], sort=False):
        if part["num_gpus"].nunique() > 1:
            part = part.sort_values("num_gpus")
            first = part.iloc[0]
            table = part[["num_gpus", "images_per_second"]].rename(
                columns={"num_gpus": "num_ranks", "images_per_second": "samples_per_second"}
            )
            ranks = table["num_ranks"] / first["num_gpus"]
            table["ideal_samples_per_second"] = first["images_per_second"] * ranks
            table["series"] = f"{PUBLISHED}: {device}, {stack}"
            tables.append(table.assign(run=PUBLISHED, scaling=WEAK, epoch_source=f"median, {PUBLISHED}"))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def scenarios() -> pd.DataFrame:
    """``lin_top1.csv`` as rows of ``scenarios.scenario_table``, with ``task``: A1, A2 and A5 of each."""
    table = published.read("lin_top1")
    post = table["method"] == "post_local"
    size = table["num_workers"] * table["local_batch_size"]
    keys = post.map({True: "A5", False: ""}).where(post, size.map(lambda kn: "A2" if kn == size.max() else "A1"))
    rounds = (1 - LIN_START * post * (1 - 1 / table["sync_period"])) / size
    rows = pd.DataFrame(
        {
            "task": table["model"] + " on " + table["dataset"],
            "scenario": keys,
            "method": keys.map(SCENARIOS),
            "apart": "",
            "num_learners": table["num_workers"],
            "local_batch_size": table["local_batch_size"],
            "global_batch_size": size,
            "sync_period": table["sync_period"].astype(float),
            "num_runs": 3,
            "test_percent": table["top1_percent"],
            "test_std_percent": table["std_percent"],
            "parallelism": size / size.min(),
            "rounds_percent": 100 * rounds * size.min(),
        }
    )
    return rows.assign(source=PUBLISHED).sort_values(["task", "scenario", "sync_period"], ignore_index=True)
