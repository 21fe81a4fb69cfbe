"""What learners of a rank draw from torch's global generators, as ``F.dropout`` does: each as if it had them alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from hpcsgd.errors import UsageError


class GlobalDraws:
    """A state of torch's global generators for each learner, which is put in their place while it draws.

    Attributes:
        states: of each learner, that of the CPU's generator and, on a GPU, that of the GPU's.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        """Begin with a seed for each learner, whose networks are on ``device``."""
        self._generators = [torch.default_generator]
        if device.type == "cuda":
            self._generators.append(torch.cuda.default_generators[device.index or 0])
        self.states = [
            [torch.Generator(g.device).manual_seed(seed).get_state() for g in self._generators] for seed in seeds
        ]

    @contextmanager
    def of(self, learner: int) -> Iterator[None]:
        """Inside, it is this learner that draws."""
        before = [generator.get_state() for generator in self._generators]
        self._set(self.states[learner])
        try:
            yield
            self.states[learner] = [generator.get_state() for generator in self._generators]
        finally:
            self._set(before)

    def keep(self, rows: Sequence[int]) -> None:
        """Keep the learners ``rows``, in this order."""
        self.states = [self.states[row] for row in rows]

    def flat(self) -> list[Tensor]:
        """All states, learner after learner."""
        return [state for own in self.states for state in own]

    def load(self, flat: Sequence[Tensor]) -> None:
        """Take up :meth:`flat` again.

        Raises:
            UsageError: it is of another number of learners, or there is nothing.
        """
        each = len(self._generators)
        if len(flat) != each * len(self.states):
            raise UsageError(
                "the checkpoint does not say what each learner of a rank has drawn from torch's global generator: it "
                "is of an older hpcsgd, where they drew one after another; begin anew"
            )
        self.states = [list(flat[first : first + each]) for first in range(0, len(flat), each)]

    def _set(self, states: Sequence[Tensor]) -> None:
        """Let the generators go on from ``states``."""
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)
