"""The log's estimates of the gradient's square and variance are those of gradients computed one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hpcsgd.comm.communicator import Communicator
from hpcsgd.config import LogConfig
from hpcsgd.record import load_run
from hpcsgd.run.build import build
from hpcsgd.train import run
from tests.parallel.laws.common import make_config
from tests.parallel.laws.registry import law
from tests.parallel.laws.resuming import shared_folder
from tests.parallel.laws.simulation import Simulation

KINDS: dict[str, dict[str, Any]] = {
    "overlap": {"comm": {"overlap": True}},
    "horovod": {"comm": {"allreduce": "horovod"}, "optimizer": {"clip_norm": 0.3}},
    "two": {"learners_per_rank": 2, "accumulation_steps": 3},
}


def square(reference: Simulation, samples: Tensor) -> float:
    """That of the norm of the mean gradient of ``samples``."""
    model = reference.models[0]
    loss = F.cross_entropy(model(reference.images[samples]), reference.labels[samples])
    return sum(float((part**2).sum()) for part in torch.autograd.grad(loss, list(model.parameters())))


@law(sizes=(2, 3), kind=list(KINDS))
def the_log_has_the_noise_of_the_gradient(comm: Communicator, kind: str) -> None:
    own = KINDS[kind].get("learners_per_rank", 1)
    # The last step of an epoch is a smaller one, of unequal batches.
    config = make_config(**KINDS[kind] | {"data": {"tail": "keep", "synthetic_train_samples": 61}}, engine="loop")
    with shared_folder(comm) as folder:
        run(replace(config, run_dir=str(folder / "run"), log=LogConfig(noise_scale=True)), comm)
        with build(config, comm) as parts:
            rate = parts.plan.learning_rate
        if comm.rank == 0:
            log = load_run(folder / "run").iterations.groupby("step").first()
    if comm.rank != 0:
        return
    reference, told = Simulation(config, comm.size * own, rate), 0
    clip = config.optimizer.clip_norm
    for step in range(len(log)):
        batches = reference.batches(step)
        sizes = np.array([len(batch) for batch in batches])
        found = log.loc[step, ["gradient_square", "gradient_variance"]].to_numpy(float)
        if sizes.all() and (own == 1 or len(set(sizes)) == 1):
            small = np.mean([square(reference, batch) for batch in batches])
            large = square(reference, torch.cat(batches))
            equations = [[1, np.mean(1 / sizes)], [1, 1 / sizes.sum()]]
            np.testing.assert_allclose(found, np.linalg.solve(equations, [small, large]), rtol=1e-9)
            assert abs(log.loc[step, "gradient_norm"] ** 2 - large) < 1e-12
            told += 1
        else:
            assert np.isnan(found).all()
        if clip is None:
            reference.step(step, False)
        else:
            clipped_step(reference, step, torch.cat(batches), clip)
    assert told >= len(log) - 2


def clipped_step(reference: Simulation, step: int, samples: Tensor, clip: float) -> None:
    """The step of the first model by a clipped gradient."""
    model, optimizer = reference.models[0], reference.optimizers[0]
    for group in optimizer.param_groups:
        group["lr"] = reference.rate(step)
    optimizer.zero_grad()
    F.cross_entropy(model(reference.images[samples]), reference.labels[samples]).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
