"""``python big_archive.py DIR``: a made-up archive of 200,000 measurements, to time the report with."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np


def write(root: Path, sizes: int = 10, trials: int = 100, evaluations: int = 200) -> None:
    """Trials at ``sizes`` batch sizes from 8 on, with random curves."""
    generator = np.random.default_rng(0)
    names = [
        f"{split}/{kind}_error" for split in ("train", "val", "test") for kind in ("cross_entropy", "classification")
    ]
    for power in range(sizes):
        size = 8 << power
        study = root / "fashion_mnist" / "made_up" / "momentum" / str(size)
        for number in range(trials):
            folder = study / str(number)
            folder.mkdir(parents=True)
            rate, momentum = 10.0 ** generator.uniform(-3, 0), 1 - 10.0 ** generator.uniform(-2, 0)
            parameters = {"learning_rate": rate, "momentum": momentum}
            metadata = {"trial_id": number, "status": "COMPLETE", "steps": evaluations * 10, "parameters": parameters}
            (folder / "metadata.json").write_text(json.dumps(metadata))
            steps = np.arange(1, evaluations + 1) * 10.0
            curves = generator.uniform(0.1, 0.2) + 0.8 * np.exp(-steps * min(size, 512) / 2e4)
            rows = np.column_stack([steps, np.tile(curves[:, None], (1, len(names)))])
            head = ",".join(["step", *names])
            np.savetxt(folder / "measurements.csv", rows, "%.8g", ",", header=head, comments="")
        (study / "study.json").write_text(json.dumps({"batch_size": size, "parameter_configs": {}}))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
