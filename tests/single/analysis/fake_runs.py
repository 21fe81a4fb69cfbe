"""Run logs made up for the tests of analysis/: every time is given, so every number can be worked by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcsgd.record.schema import ACTIONS, ITERATION_COLUMNS, RANK_COLUMNS, SPANS, TRAINING_SPANS
from hpcsgd.record.writer import RunLogWriter

SPAN_NAMES = [column.name for column in SPANS]


@dataclass
class FakeRun:
    """What a made-up run did; :meth:`write` makes its log.

    Attributes:
        spans: seconds of spans, ``[steps, ranks]`` each, those of the synchronisation among them; others are 0.
        actions: what was synchronised in each step.
        steps_per_epoch: unset, the run is one epoch.
        labels: ranks that the log keeps; unset, all. Or ``summary``.
        accuracies: of the test split, one at the end of each epoch; none: no evaluation.
        train_accuracies: likewise, of the training set.
        metric: what those are called in the log.
        rates: learning rate of each step; unset, 0.1.
        cores: of a rank; unset, one of its own.
        threads: of each rank.
        first_step: where the log begins: above 0 after a resume on another number of ranks.
        resumed: first steps of the segments after the first.
        utilisation: of each rank's device.
        tuner: what the tuner tried.
        watts: that each rank's device draws.
        node_watts: that each node draws, as its first rank tells it.
        noise: |G|^2 and tr(Sigma) of each step.
        started: when each segment began; none: not known.
        provenance: what the log says of its origin beside the recipe.
    """

    spans: Mapping[str, NDArray[np.float64]]
    actions: Sequence[str]
    algorithm: Mapping[str, Any] = field(default_factory=lambda: {"name": "sync_sgd", "sync_period": 1})
    local_batch_size: int = 32
    steps_per_epoch: int | None = None
    status: str = "completed"
    labels: Sequence[int] | str | None = None
    blocks: Sequence[int] | None = None
    loss: Sequence[float] | None = None
    accuracies: Sequence[float] = ()
    train_accuracies: Sequence[float] = ()
    rates: Sequence[float] | None = None
    sync_bytes: int = 1000
    config: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    cores: Mapping[int, str] = field(default_factory=dict)
    threads: int = 1
    first_step: int = 0
    resumed: Sequence[int] = ()
    metric: str = "accuracy"
    utilisation: float = float("nan")
    watts: float = float("nan")
    node_watts: float = float("nan")
    noise: tuple[float, float] = (float("nan"), float("nan"))
    tuner: Sequence[Mapping[str, object]] = ()
    started: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """Steps and ranks."""
        return next(iter(self.spans.values())).shape  # type: ignore[return-value]

    def write(self, directory: Path) -> Path:
        """Write ``run.h5`` in ``directory``, which is made; returns the directory."""
        directory.mkdir(parents=True)
        num_steps, world_size = self.shape
        summary = self.labels == "summary"
        labels = range(world_size) if self.labels is None else self.labels
        with RunLogWriter(
            directory / "run.h5",
            ranks=[self._rank(rank) for rank in range(world_size)],
            rank_labels=[0, 1, 2] if summary else [int(label) for label in labels],
            rank_axis="statistic" if summary else "rank",
            provenance={"config": self._config(), **self.provenance},
        ) as writer:
            for step in (self.first_step, *self.resumed):
                writer.append_segment(
                    {
                        "first_step": step,
                        "world_size": world_size,
                        "lost_ranks": "",
                        "compile_seconds": np.nan,
                        "peak_memory_bytes": np.nan,
                        "started": self.started,
                        "git_commit": "",
                        "job": "",
                    }
                )
            if self.tuner:
                writer.append_tuner(self.tuner)
            if num_steps:
                writer.append_iterations(self._steps, self._shared(), self._select(self._per_rank()))
            ended = (self.first_step + num_steps) // self._epoch_steps
            writer.append_epochs([self._epoch(i) for i in range(self.first_step // self._epoch_steps, ended)])
            for split, values in (("test", self.accuracies), ("train", self.train_accuracies)):
                writer.append_evaluations(
                    [row for i, value in enumerate(values) for row in self._evaluation(i, value, split)]
                )
            writer.set_status(self.status)
        return directory

    @property
    def _node_watts(self) -> NDArray[np.float64]:
        nodes = [self._rank(rank)["node"] for rank in range(self.shape[1])]
        return np.array([np.nan if node in nodes[:rank] else self.node_watts for rank, node in enumerate(nodes)])

    @property
    def _epoch_steps(self) -> int:
        return self.steps_per_epoch or max(1, self.shape[0])

    @property
    def _steps(self) -> NDArray[np.int64]:
        return np.arange(self.first_step, self.first_step + self.shape[0])

    def _config(self) -> dict[str, Any]:
        return {
            "local_batch_size": self.local_batch_size,
            "global_batch_size": None,
            "algorithm": dict(self.algorithm),
            "model": {"name": "fully_connected", "widths": [16]},
            "data": {"name": "synthetic"},
            "comm": {"allreduce": "mpi"},
            **self.config,
        }

    def _rank(self, rank: int) -> dict[str, object]:
        block = self.blocks[rank] if self.blocks else 0
        texts = {"node": f"n{block}", "device": self.device, "cores": self.cores.get(rank, str(rank))}
        numbers = {"node_index": block, "local_rank": rank, "threads": self.threads, "pid": 1000 + rank}
        clocks = {"clock_offset_seconds": 0.0, "clock_error_seconds": 0.0, "peak_memory_bytes": np.nan}
        return {"rank": rank, "block": block, **texts, **numbers, **clocks}

    def _shared(self) -> dict[str, NDArray[Any]]:
        steps = self._steps
        action = np.array([ACTIONS.index(name) for name in self.actions])
        columns = {
            "epoch": steps // self._epoch_steps,
            "learning_rate": np.full(len(steps), 0.1) if self.rates is None else np.asarray(self.rates),
            "action": action,
            "sync_bytes": np.where(action > 0, self.sync_bytes, 0),
            "loss_scale": np.full(len(action), np.nan),
            "sync_period": np.full(len(action), int(self.algorithm.get("sync_period", 1))),
            "divergence": np.full(len(action), np.nan),
            "gradient_square": np.full(len(action), self.noise[0]),
            "gradient_variance": np.full(len(action), self.noise[1]),
            "segment": np.searchsorted(np.asarray(self.resumed, int), steps, side="right"),
        }
        assert columns.keys() == {c.name for c in ITERATION_COLUMNS}
        return columns

    def _per_rank(self) -> dict[str, NDArray[Any]]:
        zeros = np.zeros(self.shape)
        spans = {name: np.asarray(self.spans.get(name, zeros), float) for name in SPAN_NAMES}
        wall = np.sum(list(spans.values()), axis=0)
        start = np.cumsum(wall, axis=0) - wall
        acted = np.array([name != "none" for name in self.actions])[:, None]
        gradient = np.array([name == "gradient" for name in self.actions])[:, None]
        duration = np.where(gradient, spans["gradient_allreduce_seconds"], spans["averaging_seconds"])
        enter = np.where(acted, start + wall - duration, np.nan)
        loss = np.linspace(2.0, 1.0, self.shape[0]) if self.loss is None else np.asarray(self.loss)
        columns = {
            "loss": loss[:, None] + zeros,
            "loss_weight": np.full(self.shape, float(self.local_batch_size)),
            "num_samples": np.full(self.shape, self.local_batch_size),
            "start_seconds": start,
            "wall_seconds": wall,
            **spans,
            "sync_enter_seconds": enter,
            "sync_exit_seconds": enter + duration,
            "utilisation": zeros + self.utilisation,
            "energy_joules": (start + wall) * self.watts,
            "node_energy_joules": (start + wall) * self._node_watts,
            "clock_hertz": zeros + np.nan,
            "memory_bytes": zeros + np.nan,
            "gradient_norm": np.full(self.shape, np.nan),
            "learner_gradient_norm": np.full(self.shape, np.nan),
            "hidden_seconds": np.zeros(self.shape),
        }
        assert columns.keys() == {c.name for c in RANK_COLUMNS}
        return columns

    def _select(self, columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """What the log keeps of the ranks."""
        if self.labels == "summary":
            return {name: np.stack([v.min(1), np.median(v, axis=1), v.max(1)], axis=1) for name, v in columns.items()}
        return columns if self.labels is None else {n: v[:, list(self.labels)] for n, v in columns.items()}  # type: ignore[arg-type]

    def _training(self) -> NDArray[np.float64]:
        columns = self._per_rank()
        return np.asarray(sum(columns[name] for name in TRAINING_SPANS))

    def _epoch(self, epoch: int) -> dict[str, object]:
        rows = self._steps // self._epoch_steps == epoch
        columns = self._per_rank()
        return {
            "epoch": epoch,
            "step": (epoch + 1) * self._epoch_steps,
            "num_samples": int(rows.sum()) * self.shape[1] * self.local_batch_size,
            "train_loss": float(columns["loss"][rows].mean()),
            "train_seconds": float(self._training()[rows].sum(axis=0).max()),
            **{
                name: float(columns[name][rows].sum(axis=0).max())
                for name in ("evaluation_seconds", "checkpoint_seconds", "logging_seconds")
            },
            "sync_bytes": int(self._shared()["sync_bytes"][rows].sum()),
        }

    def _evaluation(self, epoch: int, value: float, split: str) -> list[dict[str, object]]:
        stop = (epoch + 1) * self._epoch_steps
        rows = self._steps < stop
        row: dict[str, object] = {
            "step": stop,
            "epoch_fraction": epoch + 1.0,
            "split": split,
            "num_samples": 100,
            "train_seconds": float(self._training()[rows].sum(axis=0).max()),
            "sync_bytes": int(self._shared()["sync_bytes"][rows].sum()),
        }
        return [row | {"metric": name, "value": own} for name, own in (("loss", 2.0 - value), (self.metric, value))]


def constant(seconds: float, num_steps: int, world_size: int) -> NDArray[np.float64]:
    """The same seconds in every step on every rank."""
    return np.full((num_steps, world_size), float(seconds))


def trial(learners: int, decision: str, samples_per_second: float = 100.0, **values: object) -> dict[str, object]:
    """A row of the tuner's table: what it found with so many learners a rank, and what it decided."""
    return {
        "learners": learners,
        "against": 0,
        "engine": "loop",
        "num_windows": 3,
        "samples_per_second": samples_per_second,
        "samples_per_second_min": 0.9 * samples_per_second,
        "samples_per_second_max": 1.1 * samples_per_second,
        "gain": float("nan"),
        "decision": decision,
        "reason": "",
        "peak_memory_bytes": float("nan"),
        **values,
    }
