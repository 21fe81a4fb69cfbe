"""What is learned, as the training sees it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor, nn

from hpcsgd.data.trees import Tree
from hpcsgd.models import check_passes
from hpcsgd.tasks.losses import CrossEntropy, Figure, one_each, sum_and_weight
from hpcsgd.tasks.metrics import Metric
from hpcsgd.tasks.precision import Autocast

T = TypeVar("T")


@dataclass(frozen=True)
class Task:
    """A model and what it is to learn.

    Attributes:
        new_module: from a seed to the network with its initial parameters, on the CPU.
        loss: what training makes small: one number a sample, or sum and weight.
        metrics: what an evaluation measures, by name; ``loss`` is the first of them.
        is_weighted: the loss gives sum and weight.
        draws: networks draw from torch's global generators, other than by ``nn.Dropout``.
        autocast: makes contexts for forward passes, losses and metrics; None: they compute as they are given.
        compile_backend: what of torch compiles the networks that learn; None: they are called as they are written.
        channels_last: weights of convolutions, and images, lie in channels-last memory order.
    """

    new_module: Callable[[int], nn.Module]
    loss: Figure
    metrics: Mapping[str, Metric]
    is_weighted: bool = False
    draws: bool = False
    autocast: Autocast | None = None
    compile_backend: str | None = None
    channels_last: bool = False

    def uncompiled(self) -> Task:
        """The same without compilation."""
        return replace(self, compile_backend=None)

    def compute(self, function: Callable[..., T], *arguments: object) -> T:
        """``function`` of ``arguments`` in the task's precision.

        Each call is cast anew: a graph that is captured in one must not keep the casts of old parameters.
        """
        if self.autocast is None:
            return function(*arguments)
        with self.autocast():
            return function(*arguments)

    def forward(self, module: nn.Module, inputs: Tree) -> Tree:
        """The outputs of ``module``: the one place that calls a network.

        Args:
            module: the network, or a copy of it.
            inputs: a tensor; or a dict of the arguments by their names; or a tuple or list of them.
        """
        return self.compute(_call, module, inputs)

    def check_passes(self, seed: int, example: Tree | None, sizes: Collection[int]) -> None:
        """See that the network can take the passes of a plan, as far as a sample is known.

        Args:
            seed: of a network.
            example: the inputs of one sample, [1, ...]; None: not known.
            sizes: samples of the passes in training.

        Raises:
            UsageError: it cannot.
        """
        if example is not None:
            check_passes(lambda: self.new_module(seed), lambda module: self.forward(module, example), sizes)

    def losses(self, outputs: Tree, targets: Tree, num_samples: int, learner: int | None = None) -> Tensor:
        """The loss of each of ``num_samples`` samples, [n], of 32 bits or more.

        Args:
            outputs, targets: of the samples.
            num_samples: how many they are.
            learner: whose samples they are; None: of all learners in their order, as many of each.

        Raises:
            ValueError: the loss gives something else.
        """
        losses = one_each(self.compute(self._loss_of(learner), outputs, targets), num_samples)
        # A sum over samples is none of few bits.
        return losses if self.autocast is None else losses.float()

    def _loss_of(self, learner: int | None) -> Figure:
        """The loss of the samples of ``learner``, or of all."""
        if learner is not None and isinstance(self.loss, CrossEntropy):
            return self.loss.of_learner(learner)
        return self.loss

    def total(self, outputs: Tree, targets: Tree, num_samples: int, learner: int | None = None) -> Tensor:
        """The sum of the losses of ``num_samples`` samples, 0-d; of a loss of sum and weight both, [2].

        Arguments are as of :meth:`losses`.

        Raises:
            ValueError: the loss gives something else.
        """
        if self.is_weighted:
            both = sum_and_weight(self.compute(self.loss, outputs, targets))
            if both is None:
                raise ValueError("the loss gave sum and weight at first, and now it does not")
            return both
        loss = self._loss_of(learner)
        if isinstance(loss, CrossEntropy) and self.autocast is None:
            return loss.total(outputs, targets)
        return self.losses(outputs, targets, num_samples, learner).sum()


def _call(module: nn.Module, inputs: Tree) -> Tree:
    """The outputs of ``module`` for a tensor, or for arguments by their names or in their order."""
    if isinstance(inputs, Tensor):
        return module(inputs)
    return module(**inputs) if isinstance(inputs, dict) else module(*inputs)
