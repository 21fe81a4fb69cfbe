"""What the collector makes of an iteration's figures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from hpcsgd.config import LogConfig
from hpcsgd.record import load_run
from hpcsgd.record.clocks import Clocks, SharedRow
from hpcsgd.record.collector import Collector
from hpcsgd.record.timer import StepTimer
from hpcsgd.record.utilisation import Sampler
from tests.single.record import log_samples


def test_the_gradient_norm_is_that_of_its_step_and_not_a_number_where_it_was_not_taken(tmp_path: Path) -> None:
    device = torch.device("cpu")
    timer = StepTimer(device, 0.0)
    with log_samples.make_writer(tmp_path / "run.h5", world_size=1) as writer:
        collector = Collector(
            LogConfig(),
            lambda values: values[None],
            timer,
            device,
            writer,
            Clocks(1, 10),
            lambda values: values,
            lambda values: values,
            Sampler(0.0, device, 1),
        )
        for step, norm in enumerate((torch.tensor(2.5), math.nan, 0.5)):
            timer.begin(step)
            collector.add(SharedRow(step, 0, 0.1, 1, 8, 0, 4, 4), torch.tensor(8.0), norm, ends_epoch=False)
        timer.stop()
        collector.gather()
    run = load_run(tmp_path)
    np.testing.assert_array_equal(run.iterations["gradient_norm"], [2.5, np.nan, 0.5])
    assert run.iterations["loss"].tolist() == [2.0] * 3
