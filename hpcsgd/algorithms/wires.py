"""What an averaging of replicas sends: their parameters, or what they have moved since they were equal.

A wire that sends less than the parameters sends the difference of each replica from the last consensus, which is
small, and equal to nothing where nothing was learned. The consensus moves by the mean of what was sent, and all
replicas become the consensus:

    x_j = consensus - w_j;  consensus <- consensus - mean_j c(x_j);  w_j <- consensus

With c the scaled signs that is the averaging of local sign SGD; with an error memory e_j, where x_j = e_j + consensus -
w_j and e_j <- x_j - c(x_j), that of local EF-sign SGD (Lin 2020, section 5 and its appendix on compression).

In algorithms of two levels, blocks average their parameters in full, and what a wire sends is for all ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from hpcsgd.algorithms.rows import average_rows_, spread_first_
from hpcsgd.comm.lossy import LossySum, make_lossy_sum
from hpcsgd.comm.reduce import FlatReducer
from hpcsgd.config import CommConfig
from hpcsgd.optim.rows import PARAMETERS, Rows


class Wire(Protocol):
    """Averages the replicas of some ranks."""

    def place(self, parameters: Tensor) -> None:
        """The coming steps are local; the ``parameters`` [m, P] of all learners of all ranks are equal."""

    def average_(self, rows: Rows, states: Sequence[str]) -> int:
        """Make all learners' parameters equal, and their optimizer's ``states`` the means of them. Collective.

        Returns:
            the bytes that this rank gave to be reduced, or gathered.

        Raises:
            DivergedError: on all ranks, what was to be averaged is not finite on some.
        """

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state that :meth:`state_dict` gave."""


class FullWire:
    """Everything, as it is."""

    def __init__(self, reducer: FlatReducer) -> None:
        """``reducer`` averages over the ranks."""
        self.reducer = reducer

    def place(self, parameters: Tensor) -> None:
        """Where they were equal is of no interest."""

    def average_(self, rows: Rows, states: Sequence[str]) -> int:
        """See :class:`Wire`."""
        return sum(average_rows_(part, self.reducer) for part in rows.side_by_side((PARAMETERS, *states)))

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing."""


class DifferenceWire:
    """Differences from the last consensus, by messages that may leave something out; optimizer states in full.

    Attributes:
        anchor: the last consensus, [P], from the first local step on.
    """

    def __init__(self, reducer: FlatReducer, lossy: LossySum, parameters: Tensor) -> None:
        """
        Args:
            reducer: averages over the ranks.
            lossy: sums messages over them.
            parameters: [m, P], of this rank's learners.
        """
        self.reducer = reducer
        self.lossy = lossy
        self.anchor = torch.zeros_like(parameters[0])

    def place(self, parameters: Tensor) -> None:
        """See :class:`Wire`."""
        self.anchor.copy_(parameters[0])

    def average_(self, rows: Rows, states: Sequence[str]) -> int:
        """See :class:`Wire`."""
        parameters, guard = rows.parameters, self.reducer.guard
        torch.sub(self.anchor, parameters, out=parameters)
        moved = parameters[0]
        num_bytes = self.lossy.sum_(parameters, 1.0 / (len(parameters) * self.reducer.comm.size), guard)
        if guard is not None and not self.reducer.queued:
            guard.after(self.lossy.heads(moved).sum(), "what was to be averaged is")
        torch.sub(self.anchor, moved, out=moved)
        spread_first_(parameters)
        return num_bytes + sum(average_rows_(part, self.reducer) for part in rows.side_by_side(states))

    def state_dict(self) -> dict[str, Any]:
        """The last consensus, and the error memories of this rank's learners."""
        return {"anchor": self.anchor, "errors": self.lossy.errors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`Wire`."""
        self.anchor.copy_(state["anchor"])
        if self.lossy.errors is not None:
            self.lossy.errors.copy_(state["errors"])


def make_wire(config: CommConfig, rows: Rows, reducer: FlatReducer) -> Wire:
    """The wire between all ranks, of the learners in ``rows``."""
    parameters = rows.parameters
    if config.wire == "full" or parameters.dtype == getattr(torch, config.wire, None):
        return FullWire(reducer)
    return DifferenceWire(reducer, make_lossy_sum(config.wire, config, parameters, rows.slots, reducer), parameters)
