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

from hpcsgd.comm.communicator import SingleCommunicator  # noqa: E402
from hpcsgd.config import DataConfig, ModelConfig  # noqa: E402
from hpcsgd.config.study import RangeConfig, SpaceConfig, StopConfig, StudyConfig  # noqa: E402
from hpcsgd.trials.settle import Way, choose  # noqa: E402
from hpcsgd.trials.workshop import Workshop, open_workshop  # noqa: E402

RESULTS = Path(__file__).resolve().parents[2] / "runs" / "bench"
CASES = (((64,), 8, 4.0), ((64,), 64, None), ((64,), 512, None), ((256, 256), 8, 1.5), ((1024,), 8, None))
"""Hidden widths, batch size, and the least ratio that is asked for."""

TRIALS, ROUNDS = 16, 15


def workshop(widths: tuple[int, ...]) -> Workshop:
    """A study of networks of 784 inputs and 10 classes on synthetic data."""
    config = StudyConfig(
        batch_sizes=(8,),
        trials=TRIALS,
        threads=1,
        model=ModelConfig(widths=widths),
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


def main() -> None:
    """Measure all cases and print the table."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread, load {os.getloadavg()[0]:.1f}\n")
    print(
        "| network | batch | one after another, steps/s | as a study, steps/s | groups of | ratio | asked | a start |"
    )
    print("|---|---|---|---|---|---|---|---|")
    rows: list[tuple[object, ...]] = []
    for widths, batch_size, asked in CASES:
        shop = workshop(widths)
        engine, fuse = choose(shop, batch_size)
        alone, chosen = Way(shop, batch_size, "loop", 1), Way(shop, batch_size, engine, fuse)
        pairs = np.array([(alone.measure(), chosen.measure()) for _ in range(ROUNDS)])
        name = "-".join(map(str, (784, *widths, 10)))
        rows += [(name, batch_size, fuse, *pair) for pair in pairs]
        low, ratio, high = np.percentile(pairs[:, 0] / pairs[:, 1], (5, 50, 95))
        verdict = "" if asked is None else f"{asked:g} {'met' if ratio >= asked else 'missed'}"
        speeds = 1 / np.median(pairs, axis=0)
        print(
            f"| {name} | {batch_size} | {speeds[0]:,.0f} | {speeds[1]:,.0f} | {fuse} | {ratio:.2f} ({low:.2f} to "
            f"{high:.2f}) | {verdict} | {1e3 * start_seconds(shop, engine, fuse):.1f} ms |"
        )
    RESULTS.mkdir(parents=True, exist_ok=True)
    with (RESULTS / "trials.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("network", "batch_size", "group", "alone_seconds", "chosen_seconds"))
        writer.writerows(rows)


if __name__ == "__main__":
    main()
