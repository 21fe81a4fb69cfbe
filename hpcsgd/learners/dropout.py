"""Dropout with a random stream of its own for each learner, so that a learner's masks do not depend on the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

_STREAM = 3
"""First word of the seeds; those of the permutations and the augmentation begin with others."""

_RANK_STREAM = 9
"""Likewise, for what networks draw from torch's global generators."""


class StreamDropout(nn.Module):
    """``nn.Dropout`` that draws from ``generator`` in place of torch's global one."""

    def __init__(self, p: float, generator: torch.Generator) -> None:
        """Drop each value with probability ``p``."""
        super().__init__()
        self.p = p
        self.generator = generator

    def forward(self, features: Tensor) -> Tensor:
        """Zero some values and scale the others by 1 / (1 - p), in training mode."""
        return features * self.mask(features) if self.training and self.p else features

    def mask(self, features: Tensor) -> Tensor:
        """Factors of ``features``; drawn in the order of the axes, whatever the memory order is."""
        if self.p == 1:
            return torch.zeros_like(features)
        kept = torch.empty(features.shape, dtype=features.dtype, device=features.device)
        return kept.bernoulli_(1 - self.p, generator=self.generator).div_(1 - self.p)


def give_streams(modules: Sequence[nn.Module], seeds: Sequence[int], device: torch.device) -> list[torch.Generator]:
    """Put a :class:`StreamDropout` in place of each ``nn.Dropout``; a generator a module, none without dropout."""
    if not any(isinstance(part, (nn.Dropout, StreamDropout)) for module in modules for part in module.modules()):
        return []
    generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
    for module, generator in zip(modules, generators, strict=True):
        for parent in list(module.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Dropout):
                    setattr(parent, name, StreamDropout(child.p, generator))
                elif isinstance(child, StreamDropout):
                    generator.set_state(child.generator.get_state())
                    child.generator = generator
    return generators


def seed_rank(seed: int, rank: int) -> None:
    """Seed torch's global generators for a network of a user's that draws from them, as attention does for its dropout.

    The ranks differ, and what the process drew before does not count.
    """
    torch.manual_seed(rank_seed(seed, rank))


def rank_seed(seed: int, rank: int) -> int:
    """The seed of torch's global generators on a rank with one learner, in a run with ``seed``."""
    return int(np.random.SeedSequence([_RANK_STREAM, seed, rank]).generate_state(1)[0])


def stream_seed(seed: int, learner: int) -> int:
    """The seed of the stream of one learner, counted over all ranks, in a run with ``seed``."""
    return int(np.random.SeedSequence([_STREAM, seed, learner]).generate_state(1)[0])
