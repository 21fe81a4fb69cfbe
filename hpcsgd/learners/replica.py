"""One copy of the model, its parameters, gradients and BatchNorm statistics in flat buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hpcsgd.comm.flat import layout, move_into
from hpcsgd.errors import UsageError
from hpcsgd.learners.buffers import OwnBuffers
from hpcsgd.learners.fitness import check_module
from hpcsgd.models import check_none_made
from hpcsgd.optim.sgd import decayed_parameters

COUNT = "num_batches_tracked"
"""The buffer that BatchNorm layers count in."""

Decays = Callable[[str, nn.Parameter], bool]
"""Whether weight decay is for the parameter of this name."""


@dataclass
class ReplicaState:
    """A copy of what a consensus changes for a while."""

    parameters: Tensor
    statistics: Tensor
    counts: Tensor
    buffers: dict[str, Tensor]


class Tally:
    """What a BatchNorm layer counts in, in the place of a tensor: each of these would be a kernel of its own."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0

    def add_(self, number: int) -> None:
        """Count."""
        self.number += number


class Replica:
    """A model whose tensors are views of flat buffers.

    Attributes:
        module: the model.
        trainable: its parameters in the order of the flat buffer: those without weight decay first, so that the last
            gradients of a backward pass are neighbours.
        slots: their places.
        parameters, gradients: flat, 1-d, of equal length.
        decay_from: first element of a parameter with weight decay.
        means, variances: running statistics of all BatchNorm layers, the two halves of ``statistics``.
        norms: those layers.
        norm_slots: their places in ``means``, and in ``variances``.
        buffers: the other buffers.
    """

    def __init__(
        self,
        module: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
        *,
        channels_last: bool,
        decays: Decays | None = None,
    ) -> None:
        """Move ``module`` to ``device`` and its tensors into flat buffers.

        Args:
            module: the model; frozen parameters stay where they are.
            device: where to.
            dtype: of all floating-point tensors.
            channels_last: memory order of convolution weights.
            decays: whether weight decay is for a parameter; unset, :func:`~hpcsgd.optim.sgd.decayed_parameters` says.

        Raises:
            UsageError: it has a parameter that cannot be trained so.
        """
        check_module(module)
        self.module = module.to(device=device, dtype=dtype)
        if channels_last:
            self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        decayed = decayed_parameters(module)
        if decays is not None:
            decayed = {id(p) for name, p in module.named_parameters() if decays(name, p)}
        self._named = [(name, p, p.requires_grad) for name, p in module.named_parameters()]
        everything = [p for p in module.parameters() if p.requires_grad]
        plain = [p for p in everything if id(p) not in decayed]
        self.trainable = plain + [p for p in everything if id(p) in decayed]
        self.slots, total = layout(self.trainable)
        self.parameters = torch.zeros(total, dtype=dtype, device=device)
        self.gradients = torch.zeros(total, dtype=dtype, device=device)
        self.decay_from = self.slots[len(plain)].start if len(plain) < len(self.slots) else total
        move_into(self.parameters, self.trainable, self.slots)
        self._bind_gradients()
        self._flatten_statistics(device, dtype)
        self.buffers = OwnBuffers(module, self.norms)

    def check_trainable(self) -> None:
        """See that the same parameters are trained as in the beginning.

        Raises:
            UsageError: one was frozen, or thawed.
        """
        for name, parameter, trained in self._named:
            if parameter.requires_grad != trained:
                raise UsageError(
                    f"the model's parameter {name} was {'frozen' if trained else 'thawed'} after the start: which "
                    "parameters are trained must be settled where the model is made"
                )

    def check_parameters(self) -> None:
        """See that the module has the parameters that it had at the start, and no others.

        Raises:
            UsageError: it has made one.
        """
        check_none_made(self.module, {id(parameter) for _, parameter, _ in self._named})

    def _bind_gradients(self) -> None:
        """Make every ``grad`` a view of the flat gradient; backward adds to it in place."""
        for parameter, slot in zip(self.trainable, self.slots, strict=True):
            parameter.grad = slot.view(self.gradients)

    def _flatten_statistics(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the BatchNorm statistics into one buffer, all means and then all variances."""
        self.norms = [m for m in self.module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
        means = [norm.running_mean for norm in self.norms]
        variances = [norm.running_var for norm in self.norms]
        self.norm_slots, total = layout([t for t in means if t is not None])
        self.statistics = torch.zeros(2 * total, dtype=dtype, device=device)
        self.means, self.variances = self.statistics[:total], self.statistics[total:]
        for flat, tensors in ((self.means, means), (self.variances, variances)):
            move_into(flat, [t for t in tensors if t is not None], self.norm_slots)
        self._bind_counts(torch.zeros(len(self.norms), dtype=torch.int64, device=device))

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Inside is one forward pass: its layers count on the host, and one operation brings it to their counts."""
        tallies = [Tally() for _ in self._tallied]
        for (buffers, _), tally in zip(self._tallied, tallies, strict=True):
            buffers[COUNT] = tally
        try:
            yield
        finally:
            for buffers, count in self._tallied:
                buffers[COUNT] = count
        if all(tally.number == 1 for tally in tallies):
            if tallies:
                self._counts.add_(1)
        else:
            for (_, count), tally in zip(self._tallied, tallies, strict=True):
                count.add_(tally.number)

    def _bind_counts(self, counts: Tensor) -> None:
        """Let the BatchNorm layers count in ``counts``, int64 [norms], which goes on where they are."""
        for index, norm in enumerate(self.norms):
            assert norm.num_batches_tracked is not None
            counts[index].copy_(norm.num_batches_tracked)
            norm.num_batches_tracked = counts[index]
        self._counts = counts
        # A layer with a forward pass of its own, or of a cumulative average, reads what it has counted; a compiler
        # would take each number for another network, and makes one operation of them itself.
        plain = all(type(norm).forward is _BatchNorm.forward and norm.momentum is not None for norm in self.norms)
        compiled = any(m._compiled_call_impl is not None or hasattr(m, "_orig_mod") for m in self.module.modules())
        tallied = zip(self.norms, counts, strict=True) if plain and not compiled else ()
        self._tallied: list[tuple[dict[str, Any], Tensor]] = [(norm._buffers, count) for norm, count in tallied]

    def move_to(self, parameters: Tensor, gradients: Tensor, statistics: Tensor, counts: Tensor) -> None:
        """Move everything into rows of larger buffers.

        Args:
            parameters, gradients: [P].
            statistics: [2 S], means and variances.
            counts: int64 [norms], batches seen.
        """
        for new, old in ((parameters, self.parameters), (gradients, self.gradients), (statistics, self.statistics)):
            new.copy_(old)
        half = len(statistics) // 2
        self.parameters, self.gradients, self.statistics = parameters, gradients, statistics
        self.means, self.variances = statistics[:half], statistics[half:]
        for parameter, slot in zip(self.trainable, self.slots, strict=True):
            parameter.data = slot.view(self.parameters)
        self._bind_gradients()
        for norm, slot in zip(self.norms, self.norm_slots, strict=True):
            norm.running_mean, norm.running_var = slot.view(self.means), slot.view(self.variances)
        self._bind_counts(counts)

    def zero_gradients(self) -> None:
        """Set the gradient to zero."""
        self.gradients.zero_()

    @property
    def counts(self) -> list[int]:
        """Batches that each BatchNorm layer has seen; waits for a GPU."""
        counts: list[int] = self._counts.tolist()
        return counts

    @counts.setter
    def counts(self, counts: list[int]) -> None:
        self._counts.copy_(torch.tensor(counts, dtype=torch.int64))

    def snapshot(self) -> ReplicaState:
        """A copy of parameters and BatchNorm statistics."""
        own = self.buffers.state_dict()
        return ReplicaState(self.parameters.clone(), self.statistics.clone(), self._counts.clone(), own)

    def restore(self, saved: ReplicaState) -> None:
        """Take up :meth:`snapshot` again, to the same bits."""
        self.parameters.copy_(saved.parameters)
        self.statistics.copy_(saved.statistics)
        self._counts.copy_(saved.counts)
        self.buffers.load_state_dict(saved.buffers)
