"""What the laws share: small runs, a step-by-step loop, and comparisons."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from hpcsgd.algorithms.base import Synchronisation
from hpcsgd.comm.communicator import Communicator
from hpcsgd.config import (
    AlgorithmConfig,
    CommConfig,
    DataConfig,
    EvaluateConfig,
    LearningRateConfig,
    LogConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
)
from hpcsgd.record.timer import Synchronising
from hpcsgd.run.build import build
from hpcsgd.run.parts import Parts
from hpcsgd.run.passes import forward_backward
from hpcsgd.tasks.given import NOTHING, Given
from hpcsgd.tasks.losses import Figure

ALLREDUCES = ["horovod", "mpi", "torch"]
ALGORITHMS = ["sync_sgd", "local_sgd", "post_local_sgd", "hierarchical_local_sgd"]
EXACT = 1e-12

BASE = RunConfig(
    epochs=2,
    max_steps=9,
    local_batch_size=3,
    dtype="float64",
    device="cpu",
    threads=1,
    seed=5,
    progress="none",
    # 16-16-16-3: a flat gradient of three buckets in float64.
    model=ModelConfig(name="fully_connected", widths=(16, 16)),
    data=DataConfig(
        name="synthetic",
        synthetic_shape=(1, 4, 4),
        synthetic_classes=3,
        synthetic_train_samples=60,
        synthetic_test_samples=23,
    ),
    optimizer=OptimizerConfig(momentum=0.9, nesterov=True, weight_decay=0.01),
    # The rate changes at every step of the warm-up and drops after the first epoch.
    learning_rate=LearningRateConfig(
        base=0.05,
        scaling_rule="none",
        warmup="gradual",
        warmup_epochs=0.6,
        warmup_start=0.01,
        decay="step",
        milestones=(1.0,),
        decay_factor=0.5,
    ),
    # Chunks and buckets as small as may be, so that there are several, of sizes that do not divide the buffers.
    # No law but those of shared memory waits for a measurement.
    comm=CommConfig(allreduce="mpi", averaging="mpi", bucket_bytes=1024, chunk_bytes=1100),
    evaluate=EvaluateConfig(every_epochs=0, batch_size=4),
    log=LogConfig(enabled=False, save_model=False),
)

SECTIONS = ("model", "data", "algorithm", "optimizer", "learning_rate", "comm", "evaluate", "log")


def make_config(**changes: Any) -> RunConfig:
    """The base with changes: a section's are given as a dict, ``algorithm`` as a whole section."""
    sections = {
        name: AlgorithmConfig(**value) if name == "algorithm" else replace(getattr(BASE, name), **value)
        for name, value in changes.items()
        if name in SECTIONS and name != "model"
    }
    if "model" in changes:
        # Another network has no use for the widths of the base.
        sections["model"] = ModelConfig(**changes["model"])
    if "global_batch_size" in changes:
        changes = {"local_batch_size": None} | changes
    return replace(BASE, **(changes | sections))


def algorithm_named(name: str, world_size: int, **changes: Any) -> dict[str, Any]:
    """A section for each algorithm, all with local steps from early on, where the algorithm has them."""
    section: dict[str, Any] = {"name": name}
    if name != "sync_sgd":
        section |= {"sync_period": 2}
    if name == "diloco":
        section |= {"overlap_steps": 1}
    if name in ("post_local_sgd", "hierarchical_local_sgd"):
        section |= {"local_start": "step:3"}
    if name == "hierarchical_local_sgd":
        section |= {"block_sync_period": 2, "block_size": block_size(world_size)}
    return section | changes


def block_size(world_size: int) -> int:
    """Half of the ranks, or one where they cannot be halved."""
    return world_size // 2 if world_size % 2 == 0 else 1


@contextmanager
def built(
    config: RunConfig, comm: Communicator, model: Callable[[], nn.Module] | None = None, loss: Figure | None = None
) -> Iterator[Parts]:
    """The parts of a run, perhaps with a network or a loss of the law's own."""
    given = Given(model, loss) if model is not None or loss is not None else NOTHING
    with build(config, comm, given) as parts:
        yield parts


def one_step(parts: Parts, step: int) -> Synchronisation:
    """One iteration of the training loop."""
    parts.timer.begin(step)
    batch = parts.loader.batch(step)
    forward_backward(parts, step, batch)
    return parts.algorithm.step(step, parts.plan.learning_rate(step), len(batch))


def training(parts: Parts, first: int = 0, last: int | None = None) -> Iterator[tuple[int, Synchronisation]]:
    """The training loop, which yields after each step what it synchronised."""
    if first == 0:
        parts.algorithm.start()
    parts.replica.module.train()
    for step in range(first, parts.plan.total_steps if last is None else last):
        yield step, one_step(parts, step)
        parts.timer.finished.clear()


def train(parts: Parts, first: int = 0, last: int | None = None) -> None:
    """The same without a look at each step."""
    for _ in training(parts, first, last):
        pass


@dataclass
class Watch:
    """Copies of the parameters as they were when the last synchronisation began."""

    before: Tensor


def watch_averagings(parts: Parts) -> Watch:
    """Keep, from now on, what goes into each synchronisation."""
    watch = Watch(parts.replica.parameters.clone())
    synchronising = parts.timer.synchronising

    def kept(*arguments: Any, **options: Any) -> Synchronising:
        watch.before = parts.replica.parameters.clone()
        return synchronising(*arguments, **options)

    parts.timer.synchronising = kept  # type: ignore[method-assign]
    return watch


def vector(module: nn.Module) -> Tensor:
    """All parameters of a module in one tensor of the host, in the module's own order, copied."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()]).cpu().clone()


def momentum_row(parts: Parts) -> Tensor:
    """The flat momentum of the first learner, a view."""
    return parts.learners.rows["momentum"][0]


def momentum_vector(parts: Parts) -> Tensor:
    """The momentum of a replica in the same order."""
    replica = parts.replica
    place = {id(p): slot for p, slot in zip(replica.trainable, replica.slots, strict=True)}
    views = [place[id(p)].view(momentum_row(parts)) for p in replica.module.parameters()]
    return torch.cat([view.reshape(-1) for view in views]).cpu().clone()


def digest(*tensors: Tensor) -> str:
    """A fingerprint of the bits."""
    sums = hashlib.sha256()
    for tensor in tensors:
        sums.update(tensor.detach().cpu().numpy().tobytes())
    return sums.hexdigest()


def num_versions(comm: Communicator, *tensors: Tensor) -> int:
    """How many different versions of ``tensors`` the ranks hold, bit by bit."""
    return len(set(comm.allgather_object(digest(*tensors))))


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = EXACT, what: str = "") -> None:
    """Elementwise, in absolute terms; all values in the laws are of order one."""
    assert actual.shape == expected.shape, (what, actual.shape, expected.shape)
    error = (actual.cpu() - expected.cpu()).abs().max().item() if actual.numel() else 0.0
    assert error <= tolerance, f"{what}: off by {error:.3g}"


def assert_bits(actual: Tensor, expected: Tensor, what: str = "") -> None:
    """The same bits."""
    assert digest(actual) == digest(expected), f"{what}: off by {(actual - expected).abs().max().item():.3g}"


def stack(comm: Communicator, tensor: Tensor) -> Tensor:
    """The ranks' tensors, stacked along a new first axis, on all ranks."""
    return torch.from_numpy(np.stack(comm.allgather_object(tensor.detach().cpu().clone().numpy())))


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Environment variables for a while."""
    with mock.patch.dict(os.environ, variables):
        yield
