"""The clocks of record: training, evaluation and logging time, each the maximum over ranks.

Pure arithmetic on gathered iterations; runs on rank 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcsgd.record.schema import NOT_TRAINING, RANK_COLUMNS, TRAINING_SPANS

INDEX = {column.name: i for i, column in enumerate(RANK_COLUMNS)}
TRAINING = [INDEX[name] for name in TRAINING_SPANS]


class SharedRow(NamedTuple):
    """What an iteration was, the same on all ranks but for ``num_local``."""

    step: int
    epoch: int
    learning_rate: float
    action: int
    sync_bytes: int
    segment: int
    num_local: int
    num_global: int
    loss_scale: float = math.nan
    sync_period: float = 0
    divergence: float = math.nan


@dataclass(frozen=True)
class Evaluation:
    """A metric of a finished evaluation, which waits for the clock at its step."""

    steps_done: int
    epoch_fraction: float
    split: str
    metric: str
    value: float
    num_samples: int


@dataclass
class EpochSums:
    """Sums over the iterations of one epoch so far, the seconds for each rank."""

    epoch: int
    train_seconds: NDArray[np.float64]
    evaluation_seconds: NDArray[np.float64]
    checkpoint_seconds: NDArray[np.float64]
    logging_seconds: NDArray[np.float64]
    step: int = 0
    num_samples: int = 0
    loss_sum: float = 0.0
    loss_weight: float = 0.0
    sync_bytes: int = 0

    def add(
        self,
        shared: list[SharedRow],
        seconds: Sequence[NDArray[np.float64]],
        losses: NDArray[np.float64],
        weights: NDArray[np.float64],
    ) -> None:
        """Add iterations, one after another, of which ``seconds`` are those of each clock, [rows, ranks]."""
        train, evaluation, checkpoint, logging = seconds
        self.train_seconds = _running(self.train_seconds, train)[-1]
        self.evaluation_seconds = _running(self.evaluation_seconds, evaluation)[-1]
        self.checkpoint_seconds = _running(self.checkpoint_seconds, checkpoint)[-1]
        self.logging_seconds = _running(self.logging_seconds, logging)[-1]
        self.loss_sum = float(_running(np.float64(self.loss_sum), losses)[-1])
        self.loss_weight = float(_running(np.float64(self.loss_weight), weights)[-1])
        self.num_samples += sum(row.num_global for row in shared)
        self.sync_bytes += sum(row.sync_bytes for row in shared)
        self.step = shared[-1].step + 1

    def row(self) -> dict[str, object]:
        """The epoch's row in the log."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "num_samples": self.num_samples,
            "train_loss": self.loss_sum / self.loss_weight if self.loss_weight else float("nan"),
            "train_seconds": float(self.train_seconds.max()),
            "evaluation_seconds": float(self.evaluation_seconds.max()),
            "checkpoint_seconds": float(self.checkpoint_seconds.max()),
            "logging_seconds": float(self.logging_seconds.max()),
            "sync_bytes": self.sync_bytes,
        }


def _running(start: NDArray[np.float64] | np.float64, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """``start`` with the rows so far, after each of them: the same bits however the rows are cut."""
    return np.cumsum(np.concatenate((np.asarray(start)[None], rows)), axis=0)[1:]


@dataclass
class Clocks:
    """Clocks of the run so far."""

    world_size: int
    steps_per_epoch: int
    sync_bytes: int = 0
    train_seconds: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    pending: list[Evaluation] = field(default_factory=list)
    _epoch: EpochSums | None = None

    def __post_init__(self) -> None:
        self.train_seconds = np.zeros(self.world_size)

    def advance(
        self, shared: list[SharedRow], everyone: NDArray[np.float64]
    ) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
        """Take in iterations ``[rows, ranks, columns]``; give the rows of epochs and evaluations now complete.

        A rank that was lost has no times, and adds nothing. A loss that is not finite makes that of its epoch so.
        """
        epochs, evaluations = [], []
        is_there = ~np.isnan(everyone[:, :, INDEX["start_seconds"]])
        values = np.where(is_there[:, :, None], everyone, 0.0)
        losses, weights = values[:, :, INDEX["loss"]], values[:, :, INDEX["loss_weight"]]
        # A rank without samples has no loss.
        weighed = np.where(weights != 0, losses, 0.0) * weights
        columns = (values[:, :, TRAINING].sum(axis=2), *(values[:, :, INDEX[name]] for name in NOT_TRAINING))
        done = _running(self.train_seconds, columns[0])
        begin = 0
        while begin < len(shared):
            end = next((i for i, row in enumerate(shared[begin:], begin + 1) if self._ends_epoch(row)), len(shared))
            sums = self._epoch or EpochSums(shared[begin].epoch, *np.zeros((4, self.world_size)))
            sums.add(
                shared[begin:end],
                [column[begin:end] for column in columns],
                weighed[begin:end].sum(axis=1),
                weights[begin:end].sum(axis=1),
            )
            self._epoch = None if self._ends_epoch(shared[end - 1]) else sums
            if self._epoch is None:
                epochs.append(sums.row())
            begin = end
        for row, seconds in zip(shared, done, strict=True):
            self.sync_bytes += row.sync_bytes
            if self.pending:
                self.train_seconds = seconds
                evaluations += self._due(row.step + 1)
        self.train_seconds = done[-1].copy()
        return epochs, evaluations

    def _ends_epoch(self, row: SharedRow) -> bool:
        """Whether an epoch ends with the step of ``row``."""
        return (row.step + 1) % self.steps_per_epoch == 0

    def rest(self) -> list[dict[str, object]]:
        """The row of an epoch that the run ends in; where the run is gone on with, the epoch is, too."""
        return [self._epoch.row()] if self._epoch is not None else []

    def state_dict(self) -> dict[str, Any]:
        """The clocks as plain values, for a checkpoint; no evaluation may be pending."""
        assert not self.pending
        sums = None
        if self._epoch is not None:
            values = vars(self._epoch).items()
            sums = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values}
        return {"sync_bytes": self.sync_bytes, "train_seconds": self.train_seconds.tolist(), "epoch": sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the clocks that :meth:`state_dict` gave.

        Raises:
            LookupError, TypeError, ValueError: it did not give these, or of other ranks.
        """
        self.sync_bytes = int(state["sync_bytes"])
        self.train_seconds = self._of_ranks(state["train_seconds"])
        sums: dict[str, Any] = state["epoch"] or {}
        if sums and "loss_weight" not in sums:
            # Of an older checkpoint: losses weighed by samples alone.
            sums = sums | {"loss_weight": float(sums["num_samples"])}
        values: dict[str, Any] = {k: self._of_ranks(v) if isinstance(v, list) else v for k, v in sums.items()}
        self._epoch = EpochSums(**values) if values else None

    def _of_ranks(self, values: Sequence[float]) -> NDArray[np.float64]:
        """One number a rank."""
        found = np.array(values, np.float64)
        if found.shape != (self.world_size,):
            raise ValueError(f"clocks of {found.shape} ranks, not {self.world_size}")
        return found

    def _due(self, steps_done: int) -> list[dict[str, object]]:
        """Rows of the evaluations made after ``steps_done`` steps, with the clock there."""
        due = [e for e in self.pending if e.steps_done == steps_done]
        self.pending = [e for e in self.pending if e.steps_done != steps_done]
        return [
            {
                "step": e.steps_done,
                "epoch_fraction": e.epoch_fraction,
                "split": e.split,
                "metric": e.metric,
                "value": e.value,
                "num_samples": e.num_samples,
                "train_seconds": float(self.train_seconds.max()),
                "sync_bytes": self.sync_bytes,
            }
            for e in due
        ]
