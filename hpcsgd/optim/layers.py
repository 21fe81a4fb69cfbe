"""Layer by layer: norms of the tensors of rows, and a factor for each of them (You 2017, You 2020)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from hpcsgd.optim.rows import Rows


class Layers:
    """The tensors with weight decay, as stretches of a row.

    The others, BatchNorm parameters and biases, stand before them, and have factor 1: Goyal's exclusions (section 5.1),
    which the authors of LARS and LAMB make too.

    Attributes:
        sizes: elements of each stretch, with the gap of zeros behind the tensor.
    """

    def __init__(self, rows: Rows) -> None:
        """Of all learners of ``rows``, which may become fewer."""
        self._begin = rows.decay_from
        width, device = rows.parameters.shape[1], rows.buffer.device
        starts = [slot.start for slot in rows.slots if slot.start >= self._begin]
        self.sizes = [stop - start for start, stop in pairwise([*starts, width])]
        # On a GPU a kernel a tensor would cost more than to look up the layer of each element.
        self._layer_of: Tensor | None = None
        if device.type != "cpu":
            numbers = torch.arange(len(self.sizes), dtype=torch.int32)
            self._layer_of = numbers.repeat_interleave(torch.tensor(self.sizes, dtype=torch.int64)).to(device)

    def norms(self, *flats: Tensor) -> Tensor:
        """Euclidean norm of each layer of each row of each of ``flats`` [m, P]: [len(flats), m, layers].

        Each has the same bits whoever stands beside it; on a GPU a few kernels do it, and nothing waits for them.
        """
        if not self.sizes:
            return flats[0].new_zeros(len(flats), len(flats[0]), 0)
        pieces = [piece for flat in flats for row in flat[:, self._begin :] for piece in row.split(self.sizes)]
        return torch.stack(torch._foreach_norm(pieces)).view(len(flats), -1, len(self.sizes))

    def scale_(self, flat: Tensor, factors: Tensor) -> None:
        """Multiply each layer of each row of ``flat`` [m, P] by its own of the ``factors`` [m, layers], in place."""
        part = flat[:, self._begin :]
        if self._layer_of is not None:
            part.mul_(factors.index_select(1, self._layer_of))
        elif self.sizes:
            for piece, factor in zip(part.split(self.sizes, dim=1), factors.split(1, dim=1), strict=True):
                piece.mul_(factor)


def trust_ratios(weights: Tensor, steps: Tensor, coefficient: float, largest: float | None) -> Tensor:
    """How far each layer may go for each unit of its step: coefficient |w| / |step|, and 1 where one of both is zero.

    Args:
        weights: norms of the layers' parameters, of any shape.
        steps: norms of what they would be moved by, of the same shape.
        coefficient: what part of its own norm a layer moves by, at a learning rate of 1.
        largest: no ratio is larger; None: any is taken.
    """
    ratios = torch.where((weights > 0) & (steps > 0), coefficient * weights / steps, 1.0)
    return ratios if largest is None else ratios.clamp_(max=largest)
