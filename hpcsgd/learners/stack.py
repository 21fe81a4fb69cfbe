"""Several replicas of one architecture as the rows of flat buffers with a leading learner axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hpcsgd.comm.flat import Slot
from hpcsgd.learners.draws import GlobalDraws
from hpcsgd.learners.dropout import give_streams
from hpcsgd.learners.replica import Replica
from hpcsgd.optim.rows import Rows


class ReplicaStack:
    """m replicas; row j of every buffer is learner j's.

    Attributes:
        replicas: ordinary replicas whose tensors are views of the rows.
        rows: their parameters and the state tensors of an optimizer, by name, and their gradients.
        statistics: [m, 2 S], BatchNorm means and variances.
        means, variances: [m, S], its halves.
        counts: int64 [m, norms], batches that each BatchNorm layer has seen.
        generators: a random stream a learner, for dropout; none where the model has no dropout.
        draws: what each learner draws from torch's global generators; None: they draw as any program does.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        seeds: Sequence[int] | None = None,
        states: Sequence[str] = (),
        *,
        own_streams: bool = True,
        shared: bool = False,
    ) -> None:
        """Move ``replicas`` into rows.

        Args:
            replicas: at least one, all of one architecture, device and type.
            seeds: of the learners' random streams, as many; unset, 0, 1, ...
            states: names of the state tensors of the optimizer that is to step them.
            own_streams: dropout draws from the learner's own stream, in the place of torch's.
            shared: let the other ranks of the node reach the rows; on a CPU.
        """
        first = replicas[0]
        assert all(r.slots == first.slots and r.norm_slots == first.norm_slots for r in replicas), (
            "several architectures"
        )
        self.replicas = list(replicas)
        m, device = len(self.replicas), first.parameters.device
        self.rows = Rows(first.parameters.expand(m, -1), states, first.decay_from, first.slots, shared=shared)
        self.statistics = first.statistics.new_empty(m, len(first.statistics))
        self.counts = torch.zeros(m, len(first.norms), dtype=torch.int64, device=device)
        for j, replica in enumerate(self.replicas):
            replica.move_to(self.parameters[j], self.gradients[j], self.statistics[j], self.counts[j])
        modules = [r.module for r in self.replicas] if own_streams else []
        self.generators = give_streams(modules, seeds or range(len(modules)), device)
        self.draws: GlobalDraws | None = None
        self._split()

    def _split(self) -> None:
        """Take the halves of the statistics again."""
        half = self.statistics.shape[1] // 2
        self.means, self.variances = self.statistics[:, :half], self.statistics[:, half:]

    def __len__(self) -> int:
        return len(self.replicas)

    @property
    def parameters(self) -> Tensor:
        """Of all learners, [m, P]."""
        return self.rows.parameters

    @property
    def gradients(self) -> Tensor:
        """Of all learners, [m, P]."""
        return self.rows.gradients

    @property
    def device(self) -> torch.device:
        """Where the learners are."""
        return self.rows.buffer.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""
        return self.rows.buffer.dtype

    @property
    def module(self) -> nn.Module:
        """The first learner's module: the architecture of all."""
        return self.replicas[0].module

    def stacked(self, slot: Slot, flat: Tensor) -> Tensor:
        """One tensor of every learner, [m, ...], as a view of ``flat`` [m, ...]."""
        strides = (flat.stride(0), *slot.stride)
        return flat.as_strided((len(flat), *slot.shape), strides, flat.storage_offset() + slot.start)

    def zero_gradients(self) -> None:
        """Set all gradients to zero."""
        self.gradients.zero_()

    def draw_apart(self, seeds: Sequence[int]) -> None:
        """Let each learner draw from torch's global generators as if it had them alone, seeded by its seed."""
        self.draws = GlobalDraws(seeds, self.device)

    def check_trainable(self) -> None:
        """See :meth:`~hpcsgd.learners.replica.Replica.check_trainable`."""
        for replica in self.replicas:
            replica.check_trainable()

    def check_parameters(self) -> None:
        """See :meth:`~hpcsgd.learners.replica.Replica.check_parameters`; not for each step: it goes through modules."""
        for replica in self.replicas:
            replica.check_parameters()

    def train(self, mode: bool = True) -> None:
        """Put all modules in training mode, or in evaluation mode."""
        for replica in self.replicas:
            replica.module.train(mode)

    @torch.no_grad()
    def keep(self, rows: Sequence[int]) -> None:
        """Keep the learners ``rows``, in this order, and drop the others.

        Rows are copied to the front of the same memory: ``replicas[i]`` stays the same object, and holds what learner
        ``rows[i]`` held. Engines and optimizers follow by themselves or by their own ``keep``.

        Raises:
            ValueError: a row does not exist or is named twice, or there is none.
        """
        if not rows or len(set(rows)) < len(rows) or not set(rows) <= set(range(len(self))):
            raise ValueError(f"rows {list(rows)} of a stack of {len(self)}")
        count = len(rows)
        self.rows.keep(rows)
        if list(rows) != list(range(count)):
            for buffer in (self.statistics, self.counts):
                buffer[:count].copy_(buffer[list(rows)])
            own = [self.replicas[row].buffers.state_dict() for row in rows]
            for replica, values in zip(self.replicas, own, strict=False):
                replica.buffers.load_state_dict(values)
            states = [self.generators[row].get_state() for row in rows] if self.generators else []
            for generator, state in zip(self.generators, states, strict=False):
                generator.set_state(state)
        self.replicas = self.replicas[:count]
        self.generators = self.generators[:count]
        if self.draws is not None:
            self.draws.keep(rows)
        self.statistics, self.counts = self.statistics[:count], self.counts[:count]
        self._split()

    def random_states(self) -> list[Tensor]:
        """The states of the random streams, for a checkpoint."""
        own = [generator.get_state() for generator in self.generators]
        return own if self.draws is None else own + self.draws.flat()

    def load_random_states(self, states: Sequence[Tensor]) -> None:
        """Take up :meth:`random_states` again."""
        if self.draws is not None:
            states, drawn = states[: len(self.generators)], states[len(self.generators) :]
            self.draws.load(drawn)
        for generator, state in zip(self.generators, states, strict=True):
            generator.set_state(state)


class PassState:
    """A copy of what passes change."""

    def __init__(self, stack: ReplicaStack) -> None:
        """Of the learners of ``stack`` as they are now."""
        self._stack = stack
        self._copies = [tensor.clone() for tensor in self._tensors()]
        self._buffers = [replica.buffers.state_dict() for replica in stack.replicas]
        self._random = stack.random_states()

    def _tensors(self) -> tuple[Tensor, ...]:
        return self._stack.gradients, self._stack.statistics, self._stack.counts

    def put_back(self) -> None:
        """Let all be as it was, to the same bits."""
        for tensor, copy in zip(self._tensors(), self._copies, strict=True):
            tensor.copy_(copy)
        for replica, buffers in zip(self._stack.replicas, self._buffers, strict=True):
            replica.buffers.load_state_dict(buffers)
        self._stack.load_random_states(self._random)
