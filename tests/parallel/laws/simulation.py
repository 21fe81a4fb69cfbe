"""An independent reference: all ranks' replicas in one process, by torch.optim.SGD and loops over lists.

It shares with the package only the permutation of an epoch, the initial network and the learning rate, which have
tests of their own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from hpcsgd.config import RunConfig
from hpcsgd.data.dataset import load_dataset
from hpcsgd.data.shards import epoch_permutation
from hpcsgd.models import build_model
from tests.parallel.laws.common import vector
from tests.single.optim.plain_optimizers import make_plain


class Simulation:
    """K ranks, each with a network and an optimizer."""

    def __init__(
        self,
        config: RunConfig,
        num_ranks: int,
        rate: Callable[[int], float],
        blocks: Sequence[int] = (),
        network: nn.Module | None = None,
    ):
        """``blocks`` is the block of each rank; ``network`` is in the place of the configuration's."""
        assert config.local_batch_size is not None
        self.config = config
        self.num_ranks = num_ranks
        self.rate = rate
        self.blocks = blocks
        self.local_batch_size = config.local_batch_size
        data = load_dataset(config.data)
        mean, std = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (data.mean, data.std))
        self.images = (torch.from_numpy(data.train.inputs).double() - mean) / std
        self.labels = torch.from_numpy(data.train.targets)
        model = (network or build_model(config.model, data.shape, data.num_classes, config.seed)).double()
        self.models = [copy.deepcopy(model) for _ in range(num_ranks)]
        self.optimizers = [make_optimizer(model, config) for model in self.models]
        self.since = self.averagings = 0
        self.anchor: Tensor | None = None
        self.slow = torch.zeros_like(vector(model))
        self.before = [vector(model) for model in self.models]

    def batches(self, step: int) -> list[Tensor]:
        """The sample numbers of each rank; ``wrap`` is not needed here."""
        num_samples, full = len(self.labels), self.num_ranks * self.local_batch_size
        keep = self.config.data.tail == "keep"
        per_epoch = -(-num_samples // full) if keep else num_samples // full
        order = torch.from_numpy(epoch_permutation(self.config.seed, step // per_epoch, num_samples))
        first = step % per_epoch * full
        return list(torch.tensor_split(order[first : first + full], self.num_ranks))

    def step(self, step: int, local: bool) -> str:
        """One step of all ranks; says what was averaged: gradient, none, block or global."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.rate(step)
        parts = self.batches(step)
        if not local:
            union = torch.cat(parts)
            for model, optimizer in zip(self.models, self.optimizers, strict=True):
                self.update(model, optimizer, union)
            return "gradient"
        if self.anchor is None:
            self.anchor = vector(self.models[0])
        for model, optimizer, samples in zip(self.models, self.optimizers, parts, strict=True):
            if len(samples):
                self.update(model, optimizer, samples)
        self.before = [vector(model) for model in self.models]
        self.since += 1
        if self.since < self.config.algorithm.sync_period:
            return "none"
        return self.average(self.rate(step))

    def update(self, model: nn.Module, optimizer: torch.optim.Optimizer, samples: Tensor) -> None:
        """One update by the mean gradient of ``samples``."""
        optimizer.zero_grad()
        F.cross_entropy(model(self.images[samples]), self.labels[samples]).backward()
        optimizer.step()

    def average(self, rate: float) -> str:
        """Average parameters, over blocks or over all."""
        self.since = 0
        self.averagings += 1
        everywhere = self.averagings % self.config.algorithm.block_sync_period == 0
        blocks = [0] * self.num_ranks if everywhere else self.blocks
        for block in set(blocks):
            members = [rank for rank in range(self.num_ranks) if blocks[rank] == block]
            self.average_group(members)
        if everywhere and self.config.algorithm.momentum_policy == "global":
            assert self.anchor is not None
            algorithm = self.config.algorithm
            mean = vector(self.models[0])
            self.slow = algorithm.slow_momentum * self.slow + (self.anchor - mean) / rate
            self.anchor = self.anchor - algorithm.slow_learning_rate * rate * self.slow
            for model in self.models:
                vector_to_parameters(self.anchor.clone(), model.parameters())
        return "global" if everywhere else "block"

    def average_group(self, members: list[int]) -> None:
        """Give each of ``members`` the mean of their parameters, and do to their momenta what the policy says."""
        mean = torch.stack([parameters_to_vector(self.models[j].parameters()) for j in members]).mean(dim=0).detach()
        policy = self.config.algorithm.momentum_policy
        momenta = [self.momentum(j) for j in members]
        for j in members:
            vector_to_parameters(mean.clone(), self.models[j].parameters())
            if policy == "average":
                self.set_momentum(j, torch.stack(momenta).mean(dim=0))
            if policy == "reset":
                self.set_momentum(j, torch.zeros_like(momenta[0]))

    def momentum(self, rank: int) -> Tensor:
        """The momentum of a rank as one tensor."""
        state = self.optimizers[rank].state
        buffers = [state[p].get("momentum_buffer") for p in self.models[rank].parameters()]
        zeros = (torch.zeros_like(p) for p in self.models[rank].parameters())
        return torch.cat([(zero if b is None else b).reshape(-1) for b, zero in zip(buffers, zeros, strict=True)])

    def set_momentum(self, rank: int, values: Tensor) -> None:
        """Replace it."""
        start = 0
        for parameter in self.models[rank].parameters():
            part = values[start : start + parameter.numel()].view_as(parameter)
            self.optimizers[rank].state[parameter]["momentum_buffer"] = part.clone()
            start += parameter.numel()


def make_optimizer(model: nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    """LARS of the paper, or torch's SGD, with weight decay on the weights of linear layers and convolutions only."""
    weights = [m.weight for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    others = [p for p in model.parameters() if all(p is not weight for weight in weights)]
    settings = config.optimizer
    if settings.name == "lars":
        return make_plain(model, settings)
    groups = [{"params": weights, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(
        [group for group in groups if group["params"]], lr=0.0, momentum=settings.momentum, nesterov=settings.nesterov
    )
