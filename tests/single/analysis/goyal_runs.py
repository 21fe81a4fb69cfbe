"""Made-up logs of Goyal's comparisons: errors and learning rates are given, epochs are of 4 steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcsgd.record.reader import load_run
from runs.logs import Entry, entry
from tests.single.analysis.fake_runs import FakeRun, constant

EPOCH_STEPS = 4


def goyal_run(
    directory: Path,
    batch: int = 64,
    *,
    warmup: str = "gradual",
    rule: str = "linear",
    seed: int = 0,
    test: Sequence[float] = (),
    train: Sequence[float] = (),
    num_epochs: int | None = None,
    rates: Sequence[float] | None = None,
    ranks: int = 1,
    config: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Write the log of a run with these errors in per cent after each epoch; η = 0.01·kn/64 by its recipe."""
    num_steps = EPOCH_STEPS * (num_epochs or len(test) or len(train))
    recipe = {"base": 0.01, "base_batch_size": 64, "scaling_rule": rule, "warmup": warmup, "warmup_epochs": 1.0}
    seconds = constant(1e-3 * batch / ranks, num_steps, ranks)
    return FakeRun(
        {"forward_seconds": seconds, "gradient_allreduce_seconds": constant(1e-3, num_steps, ranks)},
        ["gradient"] * num_steps,
        local_batch_size=batch // ranks,
        steps_per_epoch=EPOCH_STEPS,
        accuracies=[1 - error / 100 for error in test],
        train_accuracies=[1 - error / 100 for error in train],
        rates=[0.01 * batch / 64] * num_steps if rates is None else rates,
        config={"seed": seed, "epochs": 9, "learning_rate": recipe, **(config or {})},
        **options,
    ).write(directory)


def goyal_entry(directory: Path, *arguments: Any, **options: Any) -> Entry:
    """The run of :func:`goyal_run` as analysis reads it, by its directory's name."""
    return entry(load_run(goyal_run(directory, *arguments, **options)), directory.name)
