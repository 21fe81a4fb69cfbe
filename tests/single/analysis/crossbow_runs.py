"""Made-up logs of Crossbow's comparisons: accuracies and times are given, epochs are of 4 steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcsgd.record.reader import load_run
from runs.logs import Entry, entry
from tests.single.analysis.fake_runs import FakeRun, constant, trial

EPOCH_STEPS = 4
UP = (0.5, 0.7, 0.8, 0.85, 0.86, 0.87, 0.88)
"""Running medians of 5: NaN four times, then 0.8, 0.85, 0.86."""


def crossbow_run(
    directory: Path,
    algorithm: str = "sma",
    *,
    learners: int = 1,
    ranks: int = 2,
    batch: int = 16,
    period: int = 1,
    rate: float = 0.1,
    seed: int = 0,
    seconds: float = 0.01,
    accuracies: Sequence[float] = UP,
    engine: str = "fused",
    config: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Write the log of a run whose steps take so many seconds on each rank."""
    num_steps = EPOCH_STEPS * (len(accuracies) or 2)
    actions = ["none"] * (period - 1) + ["gradient" if algorithm == "sync_sgd" else "global"]
    recipe = {
        "seed": seed,
        "epochs": len(accuracies),
        "local_batch_size": batch,
        "learners_per_rank": learners,
        "engine": "auto",
        "learning_rate": {"base": rate, "base_batch_size": 64, "scaling_rule": "none", "warmup": "none"},
    }
    return FakeRun(
        {"forward_seconds": constant(seconds, num_steps, ranks)},
        (actions * num_steps)[:num_steps],
        algorithm={"name": algorithm, "sync_period": period},
        # The log has the samples of all learners of a rank.
        local_batch_size=batch * learners,
        steps_per_epoch=EPOCH_STEPS,
        accuracies=accuracies,
        rates=[rate] * num_steps,
        config=recipe | (config or {}),
        provenance={"engine": engine, "num_learners": ranks * learners},
        **options,
    ).write(directory)


def crossbow_entry(directory: Path, *arguments: Any, **options: Any) -> Entry:
    """The run of :func:`crossbow_run` as analysis reads it, by its directory's name."""
    return entry(load_run(crossbow_run(directory, *arguments, **options)), directory.name)


def write_study(root: Path) -> None:
    """1 to 4 learners a rank at two batches, two seeds each; periods 1 to 4; methods; a rate; what the tuner tried."""
    for seed in (0, 1):
        up = [value - 0.01 * seed for value in UP]
        for batch in (8, 16):
            for learners in (1, 2, 4):
                path = root / f"m{learners}-b{batch}-{seed}"
                seconds = (0.01 + 0.001 * seed) * (1 + 0.5 * learners) * batch / 16
                busy = 0.2 * learners + batch / 100
                accuracies = [value - 0.01 * learners for value in up]
                sizes = {"learners": learners, "batch": batch, "seed": seed}
                crossbow_run(path, **sizes, seconds=seconds, accuracies=accuracies, utilisation=busy)
        for period in (2, 4):
            crossbow_run(root / f"tau{period}-{seed}", period=period, learners=2, seed=seed, accuracies=up)
        crossbow_run(root / f"easgd-{seed}", "ea_sgd", learners=2, seed=seed, accuracies=[v - 0.03 for v in up])
        crossbow_run(root / f"sync-{seed}", "sync_sgd", batch=32, seed=seed, accuracies=up)
        crossbow_run(root / f"fast-{seed}", "sync_sgd", batch=32, rate=0.4, seed=seed, accuracies=[0.1] * 7)
        crossbow_run(root / f"plain-{seed}", "sync_sgd", ranks=1, seed=seed, accuracies=up, engine="loop")
    trials = (
        trial(1, "start", 100.0),
        trial(2, "taken", 150.0, against=1, gain=0.5, engine="fused"),
        trial(4, "refused", 140.0, against=2, gain=-0.07, engine="fused"),
        trial(8, "impossible", float("nan"), against=2, reason="CUDA out of memory"),
    )
    crossbow_run(root / "tuned", learners=2, config={"learners_per_rank": "auto"}, seed=2, tuner=trials)
