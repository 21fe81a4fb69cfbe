"""A program that reads with workers, says their process ids, and waits."""

from __future__ import annotations

import sys
import time

import torch

from hpcsgd.config import DataConfig
from hpcsgd.data.make import make_loader
from hpcsgd.data.own.data import open_own
from tests.single.data.own.own_data import Files

if __name__ == "__main__":
    loader = make_loader(
        open_own(DataConfig(name="given"), Files),
        DataConfig(name="given", workers=2),
        seed=0,
        learner=0,
        num_learners=1,
        local_batch_size=8,
        device=torch.device("cpu"),
        dtype=torch.float32,
        channels_last=False,
    )
    loader.batch(0)
    print(*(worker.pid for worker in loader._reading._batches._workers), flush=True)  # type: ignore[attr-defined]
    if sys.argv[1:] == ["leave"]:
        raise RuntimeError("nobody closes the loader")
    time.sleep(600)
