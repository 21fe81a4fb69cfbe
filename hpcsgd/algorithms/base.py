"""What the training loop asks of an algorithm, and what an algorithm asks of the clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from hpcsgd.algorithms.buffers import broadcast_
from hpcsgd.algorithms.loss_scale import LossScale
from hpcsgd.algorithms.rows import spread_first_
from hpcsgd.algorithms.schedule import Action
from hpcsgd.comm.communicator import Communicator
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.optim.base import RowOptimizer


class Spans(Protocol):
    """The step timer, as seen by an algorithm."""

    def span(self, name: str) -> AbstractContextManager[None]:
        """The time since the span before, and that inside, belong to the span ``name``."""

    def synchronising(
        self, watch: AbstractContextManager[None] | None = None, *, queued: bool = False
    ) -> AbstractContextManager[None]:
        """Inside, this rank is in a blocking synchronisation.

        Args:
            watch: a watchdog's look at it; None: what is inside has one of its own.
            queued: on a GPU its own queue waits, of which the host's clock says nothing.
        """

    def hid(self, seconds: float) -> None:
        """Communication of so many seconds went on beside the computing; NaN: nobody knows how many."""


class Synchronisation(NamedTuple):
    """What a step synchronised, and the bytes that each rank gave for it to be reduced or gathered.

    Attributes:
        action: what.
        num_bytes: of the buffers, or of the messages that were made of them.
        gradient_norm: the norm of the gradient before it was clipped, 0-d on the device: of the mean gradient of all
            ranks, or the largest of this rank's learners; NaN where gradients are not clipped, or there is none.
        learner_norm: the norm of what a learner of this rank adds to the gradient of all, 0-d on the device: root mean
            square over them; NaN where it is not taken, or gradients are not averaged.
        loss_scale: of the gradients; 0: the update was left out, as one had overflowed; NaN: the loss is not scaled.
        period: H in force; 0: nothing is ever synchronised.
        divergence: distance of the replicas from their mean before they were averaged, root mean square, over the norm
            of the mean; NaN: not measured.
    """

    action: Action
    num_bytes: int = 0
    gradient_norm: Tensor | float = math.nan
    loss_scale: float = math.nan
    period: int = 0
    divergence: float = math.nan
    learner_norm: Tensor | float = math.nan


NOTHING = Synchronisation(Action.NONE)
"""Of a step that synchronised nothing."""


class Algorithm(Protocol):
    """An order of events. All methods are collective.

    Attributes:
        optimizer: what steps the learners.
        loss_scale: what the losses of the coming step are to be multiplied by; None: by nothing.
    """

    optimizer: RowOptimizer
    loss_scale: LossScale | None

    def start(self, step: int = 0) -> None:
        """Before ``step``, the first of this start: step 0 begins with rank 0's replica on all ranks."""

    def normaliser(self, step: int, num_local: int, num_global: int) -> float:
        """What the sum of the losses of a learner's ``num_local`` samples is divided by, for ``num_global`` in all."""

    def weigh(self, weights: Tensor) -> None:
        """Divide each learner's gradient by its weight as well, [m], in the coming step; by the sum of all where
        gradients are summed. What no sample weighs in stays zero."""

    def step(self, step: int, rate: float, num_samples: int) -> Synchronisation:
        """After the backward passes of this rank's ``num_samples`` samples: update and synchronise."""

    def check(self) -> None:
        """See that ranks that must hold the same parameters now do; raises ``ReplicasDifferError``."""

    def consensus(self) -> AbstractContextManager[nn.Module]:
        """Inside, every replica is the one model to evaluate or save; afterwards it is itself again, bit by bit."""

    def finish(self) -> None:
        """After the last step: every replica becomes the consensus."""

    def close(self) -> None:
        """End its threads and process groups; closing twice does nothing."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beside the replica's buffers."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state that :meth:`state_dict` gave."""


def start_equal(learners: ReplicaStack, comm: Communicator) -> None:
    """Give every learner the parameters of the first one of rank 0. Collective."""
    host = learners.parameters[0].cpu()
    comm.broadcast_(host.numpy())
    learners.parameters[0].copy_(host)
    spread_first_(learners.parameters)
    for replica in learners.replicas:
        frozen = [p for p in replica.module.parameters() if not p.requires_grad]
        for tensor in (*frozen, *replica.buffers.tensors(floats=True).values()):
            broadcast_(tensor.data, comm)
        replica.buffers.remember()


@contextmanager
def borrowed(learners: ReplicaStack, become: Callable[[], None]) -> Iterator[nn.Module]:
    """The first learner's module as ``become`` makes all; afterwards they are themselves again, bit by bit."""
    learners.check_parameters()
    saved = [replica.snapshot() for replica in learners.replicas]
    become()
    try:
        yield learners.module
    finally:
        for replica, state in zip(learners.replicas, saved, strict=True):
            replica.restore(state)
