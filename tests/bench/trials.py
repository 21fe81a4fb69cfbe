"""16 trials as a study trains them against one after another, on one core: steps a second of all trials together.

    python tests/bench/trials.py

A study measures how many of them it trains together, and so does this first. Then the two ways take turns, a short
round each; a ratio is the median over the rounds, with the 5th to 95th percentile. Raw times go to
``runs/bench/trials.csv``. Limits are said to be missed, and are no failure: a busy machine is no fair one.
"""

from __future__ import annotations

import csv
import os
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from hpcsgd.comm.communicator import SingleCommunicator  # noqa: E402
from hpcsgd.config import DataConfig, ModelConfig  # noqa: E402
from hpcsgd.config.study import RangeConfig, SpaceConfig, StopConfig, StudyConfig  # noqa: E402
from hpcsgd.trials.settle import Way, choose  # noqa: E402
from hpcsgd.trials.workshop import Workshop, open_workshop  # noqa: E402

RESULTS = Path(__file__).resolve().parents[2] / "runs" / "bench"
CASES = {
    "784-64-10": (ModelConfig(widths=(64,)), {8: 4.0, 64: None, 512: None}),
    "784-256-256-10": (ModelConfig(widths=(256, 256)), {8: 1.5}),
    "784-1024-10": (ModelConfig(widths=(1024,)), {8: None}),
    "narrow simple CNN": (ModelConfig(name="simple_cnn_narrow"), {2: None, 8: None}),
}
"""Networks, and for each batch size the least ratio that is asked for."""

TRIALS, ROUNDS = 16, 15


def workshop(model: ModelConfig) -> Workshop:
    """A study of networks for 28x28 images of 10 classes on synthetic data."""
    config = StudyConfig(
        batch_sizes=(8,),
        trials=TRIALS,
        threads=1,
        model=model,
        data=DataConfig(name="synthetic", synthetic_train_samples=6000, validation_samples=500),
        space=SpaceConfig(learning_rate=RangeConfig(points=(0.1,))),
        stop=StopConfig(steps=1),
    )
    return open_workshop(config, SingleCommunicator())


def start_seconds(shop: Workshop, engine: str, number: int) -> float:
    """Seconds to set a trial up among ``number``, after the first."""
    times = []
    for seed in range(6):
        start = time.perf_counter()
        shop.make_engine(engine, shop.make_stack(range(seed, seed + number)), torch.zeros(number))
        times.append(time.perf_counter() - start)
    return min(times[1:]) / number


def measure(shop: Workshop, batch_size: int) -> tuple[str, int, NDArray[np.float64]]:
    """The engine and the size of the groups that a study takes, and seconds a step ``[rounds, (alone, chosen)]``."""
    engine, fuse = choose(shop, batch_size)
    alone, chosen = Way(shop, batch_size, "loop", 1), Way(shop, batch_size, engine, fuse)
    return engine, fuse, np.array([(alone.measure(), chosen.measure()) for _ in range(ROUNDS)])


def main() -> None:
    """Measure all cases and print the table."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread, load {os.getloadavg()[0]:.1f}\n")
    print(
        "| network | batch | one after another, steps/s | as a study, steps/s | groups of | ratio | asked | a start |"
    )
    print("|---|---|---|---|---|---|---|---|")
    rows: list[tuple[object, ...]] = []
    for name, (model, batch_sizes) in CASES.items():
        shop = workshop(model)
        for batch_size, asked in batch_sizes.items():
            engine, fuse, pairs = measure(shop, batch_size)
            rows += [(name, batch_size, fuse, *pair) for pair in pairs]
            low, ratio, high = np.percentile(pairs[:, 0] / pairs[:, 1], (5, 50, 95))
            verdict = "" if asked is None else f"{asked:g} {'met' if ratio >= asked else 'missed'}"
            speeds = 1 / np.median(pairs, axis=0)
            print(
                f"| {name} | {batch_size} | {speeds[0]:,.0f} | {speeds[1]:,.0f} | {engine}, {fuse} | {ratio:.2f} "
                f"({low:.2f} to {high:.2f}) | {verdict} | {1e3 * start_seconds(shop, engine, fuse):.1f} ms |",
                flush=True,
            )
    RESULTS.mkdir(parents=True, exist_ok=True)
    with (RESULTS / "trials.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("network", "batch_size", "group", "alone_seconds", "chosen_seconds"))
        writer.writerows(rows)


if __name__ == "__main__":
    main()
