"""Made-up logs of Lin's comparisons: 16 steps an epoch at kn = 32; accuracies, times and bytes are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpcsgd.record.reader import load_run
from runs.logs import Entry, entry
from tests.single.analysis.fake_runs import FakeRun, constant

SAMPLES = 512
"""Of an epoch."""
EPOCHS = 6
CONSTANT = {"period_schedule": {"kind": "constant", "power": 2, "largest": 1024}}


def actions(name: str, period: int, start: int, steps: int, block_period: int = 1) -> list[str]:
    """What is synchronised in each step: gradients until ``start``, then models every ``period`` steps."""
    found = ["gradient"] * (steps if name == "sync_sgd" else start)
    for step in range(1, steps - len(found) + 1):
        count, rest = divmod(step, period)
        found.append("none" if rest else "global" if count % block_period == 0 else "block")
    return found


def lin_run(
    directory: Path,
    algorithm: str = "local_sgd",
    *,
    period: int = 1,
    block_period: int = 1,
    start: int = 0,
    ranks: int = 2,
    learners: int = 2,
    batch: int = 8,
    rate: float = 0.1,
    seed: int = 0,
    accuracy: float = 0.8,
    train_accuracy: float = 0.9,
    seconds: float = 0.01,
    own: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Write the log of a run, whose first accuracies are 0.1 less; ``start``: epoch of the first local step."""
    per_epoch = SAMPLES // (ranks * learners * batch)
    steps = per_epoch * EPOCHS
    section = {"name": algorithm, "sync_period": period, "block_sync_period": block_period, **CONSTANT, **(own or {})}
    if algorithm == "post_local_sgd":
        section["local_start"] = f"epoch:{start}"
    recipe = {
        "seed": seed,
        "epochs": EPOCHS,
        "local_batch_size": batch,
        "learners_per_rank": learners,
        "data": {"name": "synthetic", "train_fraction": 1.0},
        "learning_rate": {"base": rate, "base_batch_size": 32, "scaling_rule": "none", "warmup": "none"},
    }

    def up(value: float) -> list[float]:
        return [value - 0.1] + [value] * (EPOCHS - 1)

    return FakeRun(
        {"forward_seconds": constant(seconds, steps, ranks)},
        actions(algorithm, period, start * per_epoch, steps, block_period),
        algorithm=section,
        local_batch_size=batch * learners,
        steps_per_epoch=per_epoch,
        accuracies=up(accuracy),
        train_accuracies=up(train_accuracy),
        rates=[rate] * steps,
        config=recipe | (config or {}),
        provenance={"engine": "fused", "num_learners": ranks * learners},
        **{"sync_bytes": 1000, **options},
    ).write(directory)


def lin_entry(directory: Path, *arguments: Any, **options: Any) -> Entry:
    """The run of :func:`lin_run` as analysis reads it, by its directory's name."""
    return entry(load_run(lin_run(directory, *arguments, **options)), directory.name)


def minibatch(directory: Path, size: int, **options: Any) -> Path:
    """Synchronous SGD with a global batch of ``size`` on 2 ranks."""
    return lin_run(directory, "sync_sgd", learners=1, batch=size // 2, **options)


def write_campaign(root: Path) -> None:
    """A1 to A5 with k n = 4 * 8 = 32, two seeds each; a rate, starts, ranks, a wire, two levels, a schedule of H."""
    for seed in (0, 1):
        up = 0.01 * seed
        for size, accuracy in ((8, 0.83), (32, 0.80), (128, 0.74)):
            minibatch(root / f"kn{size}-{seed}", size, seed=seed, accuracy=accuracy + up)
        for period, accuracy in ((2, 0.79), (4, 0.78)):
            lin_run(root / f"h{period}-{seed}", period=period, seed=seed, accuracy=accuracy + up)
        for start in (2, 4):
            accuracy = 0.82 - 0.005 * start + up
            lin_run(root / f"post{start}-{seed}", "post_local_sgd", period=4, start=start, seed=seed, accuracy=accuracy)
    minibatch(root / "kn32-fast", 32, rate=0.4, accuracy=0.5)
    for ranks in (1, 4):
        for period in (2, 4):
            accuracy, seconds = 0.8 - 0.01 * ranks, 0.01 + 0.002 / period
            lin_run(root / f"k{ranks}-h{period}", ranks=ranks, period=period, accuracy=accuracy, seconds=seconds)
    signs = {"comm": {"allreduce": "mpi", "wire": "ef_sign", "gradient_wire": "full", "top_k_density": 0.01}}
    lin_run(root / "signs", period=4, accuracy=0.77, config=signs, sync_bytes=40)
    for period in (2, 4):
        lin_run(root / f"two-{period}", "hierarchical_local_sgd", period=period, block_period=2, accuracy=0.775)
    schedule = {"period_schedule": {**CONSTANT["period_schedule"], "kind": "power"}}
    lin_run(root / "power", period=2, accuracy=0.81, own=schedule)
