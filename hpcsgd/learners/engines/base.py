"""What an engine is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from hpcsgd.data.batches import Batch
from hpcsgd.data.trees import Tree
from hpcsgd.errors import UsageError
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.tasks.losses import name_of
from hpcsgd.tasks.task import Task

Lap = Callable[[str], None]
"""Gives the time since the last lap to a span."""


def no_lap(_span: str) -> None:
    """For passes that nobody times."""


def start_training(stack: ReplicaStack, fresh: bool = False) -> None:
    """Put the modules in training mode, where they are not; with ``fresh``, from gradients of zero."""
    if not stack.module.training:
        stack.train()
    if fresh:
        stack.zero_gradients()


class NotPossibleError(UsageError):
    """The engine cannot take this model, this loss or this device."""


def check_loss(task: Task, engine: str) -> None:
    """Refuse a loss that cannot be told apart by sample.

    Raises:
        NotPossibleError: it gives sum and weight.
    """
    if task.is_weighted:
        raise NotPossibleError(
            f"the engine {engine} takes losses of one number a sample, and {name_of(task.loss)} gives sum and weight: "
            "choose the engine loop"
        )


def check_draws(stack: ReplicaStack, engine: str) -> None:
    """Refuse networks that draw from torch's global generators, which only one learner at a time can have.

    Raises:
        NotPossibleError: they do.
    """
    if stack.draws is not None:
        raise NotPossibleError(
            f"the engine {engine} takes learners side by side, and the model draws from torch's global generator (as "
            "F.dropout does, other than nn.Dropout): choose the engine loop"
        )


class Engine(Protocol):
    """Takes the passes of all learners of one stack. It follows the stack when learners are dropped.

    Attributes:
        name: of the engine.
        calls_hooks: whether its passes call the hooks of a parameter when that one's gradient is there, and only then.
    """

    name: str
    calls_hooks: bool

    def passes(
        self, batch: Batch, normalisers: Sequence[float], size: int, lap: Lap = no_lap, *, fresh: bool = False
    ) -> Tensor:
        """Add each learner's gradient of (sum of its losses / its normaliser) to its row of the gradients.

        Args:
            batch: of all learners, whatever their sizes; a learner without samples takes no pass.
            normalisers: what each learner's sum of losses is divided by, [m].
            size: samples of a learner in one pass, at most: a larger batch is computed part by part.
            lap: told of the ends of forward and backward passes.
            fresh: what the gradients hold counts for nothing: they are set, not added to.

        Returns:
            The sum of the losses of each learner, [m]; of a loss of sum and weight both, [m, 2].
        """

    def outputs(self, inputs: Tree) -> Tree:
        """Outputs [m, n, ...] in evaluation mode, without gradient, of inputs [n, ...], the same for all learners."""
