"""The learners of a rank as the rows of named flat buffers that lie side by side in one allocation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from hpcsgd.comm.flat import Slot
from hpcsgd.comm.shared_memory import SharedMemory, make_shared

PARAMETERS = "parameters"
"""The name of the first buffer."""


class Rows:
    """Named buffers [m, P]: the parameters, and the state tensors of an optimizer. Row j is learner j's.

    Attributes:
        names: of the buffers, in the order in which they lie: ``parameters`` and the states.
        buffer: [m, (1 + states) P], all of them.
        parameters, gradients: [m, P]; the gradients lie apart.
        slots: the places of the parameters in a row.
        decay_from: first column of a parameter with weight decay; it is for all from there.
        memory: in which the buffer lies where ranks are to share it, or why there is none; None: it lies anywhere.
    """

    def __init__(
        self,
        parameters: Tensor,
        states: Sequence[str],
        decay_from: int,
        slots: Sequence[Slot] | None = None,
        *,
        shared: bool = False,
    ) -> None:
        """Make rows with a copy of ``parameters`` [m, P], and with states and gradients of zeros.

        Args:
            parameters: of all learners; an expanded tensor will do.
            states: names of the optimizer's state tensors, in the order in which they are to lie.
            decay_from: see above.
            slots: the places of the parameters; unset, all are one of shape [P].
            shared: let the other ranks of the node reach the buffer; on a CPU.
        """
        m, self._width = parameters.shape
        self.names = (PARAMETERS, *states)
        self.slots = list(slots) if slots is not None else [Slot(0, self._width, (self._width,), (1,))]
        self.decay_from = decay_from
        shape, dtype = (m, self._width * len(self.names)), parameters.dtype
        self.memory = make_shared(math.prod(shape) * dtype.itemsize) if shared else None
        if isinstance(self.memory, SharedMemory):
            self.buffer = self.memory.tensor(shape, dtype)
        else:
            self.buffer = parameters.new_zeros(shape)
        self.gradients = parameters.new_zeros(m, self._width)
        self._cut()
        self.parameters.copy_(parameters)

    def _cut(self) -> None:
        """Take the parts of the buffer again."""
        self._parts: dict[str, Tensor] = dict(zip(self.names, self.buffer.split(self._width, dim=1), strict=True))
        self.parameters: Tensor = self._parts[PARAMETERS]

    def __len__(self) -> int:
        return len(self.buffer)

    def __getitem__(self, name: str) -> Tensor:
        """The buffer ``name``, [m, P], as a view."""
        return self._parts[name]

    def side_by_side(self, names: Iterable[str]) -> list[Tensor]:
        """Views [m, n P] that make up the buffers ``names`` and nothing else: as few as can be."""
        wanted = set(names)
        stretches: list[Tensor] = []
        begin: int | None = None
        for index, name in enumerate((*self.names, "")):
            if name in wanted and begin is None:
                begin = index
            elif name not in wanted and begin is not None:
                stretches.append(self.buffer[:, begin * self._width : index * self._width])
                begin = None
        return stretches

    @torch.no_grad()
    def keep(self, rows: Sequence[int]) -> None:
        """Keep ``rows``, in this order, at the front of the same memory, and drop the others."""
        count = len(rows)
        if list(rows) != list(range(count)):
            for buffer in (self.buffer, self.gradients):
                buffer[:count].copy_(buffer[list(rows)])
        self.buffer, self.gradients = self.buffer[:count], self.gradients[:count]
        self._cut()
