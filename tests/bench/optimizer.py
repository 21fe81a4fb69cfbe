"""A step of torch's AdamW: ours on the rows of a learner, and as a user has it on the module's parameters."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from learners import Shape, Steps

from hpcsgd.config import AlgorithmConfig, ModelConfig, OptimizerConfig, RunConfig
from hpcsgd.learners.replica import Replica
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.models import build_model
from hpcsgd.optim.choose import find_kind, make_optimizer, states_of

RATE = 1e-3


def variants(model: ModelConfig, shape: Shape, steps: int) -> Iterator[Steps]:
    """One learner, with gradients as large as real ones."""
    cpu = torch.device("cpu")
    config = RunConfig(
        local_batch_size=1,
        model=model,
        algorithm=AlgorithmConfig(),
        optimizer=OptimizerConfig(name="torch.optim.AdamW"),
    )
    module = build_model(model, shape, 10, 0)
    theirs = build_model(model, shape, 10, 0)
    replica = Replica(module, cpu, torch.float32, channels_last=False)
    kind = find_kind(config, cpu)
    stack = ReplicaStack([replica], states=states_of(config, kind))
    rows = make_optimizer(config.optimizer, stack.rows, kind)
    stack.gradients.normal_(std=1e-3)
    decayed = [p for p in theirs.parameters() if p.dim() > 1]
    groups = [{"params": decayed}, {"params": [p for p in theirs.parameters() if p.dim() == 1], "weight_decay": 0.0}]
    for parameter in theirs.parameters():
        parameter.grad = torch.empty_like(parameter).normal_(std=1e-3)
    fused = torch.optim.AdamW(groups, RATE, fused=True)

    yield Steps("rows", lambda: rows.step(1, RATE), steps)
    yield Steps("parameters, fused", fused.step, steps)
