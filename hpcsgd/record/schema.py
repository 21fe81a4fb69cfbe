"""What stands in a run log: one table of columns, read by the writer, the reader and the documentation.

``run.h5`` holds, all created up front and only ever extended:

* ``/iterations``: columns ``[step]`` and ``[step, rank]``; ``step`` and ``rank`` are dimension scales.
* ``/epochs``: one row an epoch; ``/evaluations``: one row a metric of an evaluation of a split.
* ``/ranks``: one row a rank, written once; ``/segments``: one row a start or resume.
* ``/tuner``: one row a number of learners that ``learners_per_rank: auto`` tried; none in other runs.
* ``/status``: a scalar, see :data:`STATUS`.
* attributes of the root: ``schema_version`` and the provenance as JSON.

Times are seconds. "The run's clock" is rank 0's monotonic clock from the start of the loop; the clocks of the other
ranks are brought to it by an offset measured at the start.
"""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA_VERSION = 6
STATUS = ("running", "completed", "failed", "diverged", "preempted")
ACTIONS = ("none", "gradient", "block", "global")
STATISTICS = ("min", "median", "max")
DECISIONS = ("start", "taken", "refused", "impossible")
TAKEN = DECISIONS[:2]
"""The last of these is the run's."""


@dataclass(frozen=True)
class Column:
    """One column: its name, NumPy type, unit ("" for none) and meaning."""

    name: str
    dtype: str
    unit: str
    meaning: str


SPANS = (
    Column("data_seconds", "f8", "s", "picking, moving and augmenting the batch"),
    Column("forward_seconds", "f8", "s", "forward pass and loss"),
    Column("backward_seconds", "f8", "s", "backward pass, with the communication hidden in it"),
    Column("gradient_allreduce_seconds", "f8", "s", "exposed gradient allreduce: what the backward pass did not hide"),
    Column("update_seconds", "f8", "s", "optimizer step"),
    Column("averaging_seconds", "f8", "s", "averaging of the replicas, waiting included"),
    Column("evaluation_seconds", "f8", "s", "evaluation of the consensus model after this iteration"),
    Column("checkpoint_seconds", "f8", "s", "keeping the state before this iteration, as far as it is waited for"),
    Column(
        "logging_seconds",
        "f8",
        "s",
        "keeping this iteration's figures; gathering and writing those before it; progress",
    ),
)
"""The spans that make up an iteration, in order: they sum to ``wall_seconds``."""

NOT_TRAINING = ("evaluation_seconds", "checkpoint_seconds", "logging_seconds")
"""Spans with clocks of their own, which the training clock leaves out."""

OWN_SPANS = ("data_seconds", "forward_seconds", "backward_seconds", "update_seconds")
"""What a rank does by itself, but for the communication in the backward pass: of the slowest it takes longest."""

EXPOSED_SPANS = ("gradient_allreduce_seconds", "averaging_seconds")
"""Communication that compute did not hide."""

TRAINING_SPANS = tuple(c.name for c in SPANS if c.name not in NOT_TRAINING)

ITERATION_COLUMNS = (
    Column("epoch", "i8", "1", "epoch of the iteration, from 0"),
    Column("learning_rate", "f8", "1", "learning rate of the update"),
    Column("action", "u1", "1", "what was synchronised: " + ", ".join(f"{i} {a}" for i, a in enumerate(ACTIONS))),
    Column("sync_bytes", "i8", "B", "payload of that synchronisation: bytes to be reduced or gathered, of each rank"),
    Column("segment", "i8", "1", "row of /segments that the iteration belongs to"),
    Column(
        "loss_scale",
        "f8",
        "1",
        "what the losses of float16 were multiplied by before the backward pass; 0: gradients overflowed, and the "
        "update was left out; NaN: losses are not scaled",
    ),
    Column(
        "sync_period",
        "f8",
        "1",
        "H in force; 1 where gradients are averaged, 0 where ranks are not joined; NaN: not known",
    ),
    Column(
        "divergence",
        "f8",
        "1",
        "distance of the replicas from their mean before it was taken, root mean square, over the norm of the mean; "
        "NaN: not measured",
    ),
    Column(
        "gradient_square",
        "f8",
        "1",
        "estimate of |G|^2, the square of the true gradient's norm, from the norms of learner_gradient_norm and "
        "gradient_norm; NaN: not taken",
    ),
    Column(
        "gradient_variance",
        "f8",
        "1",
        "estimate of tr(Sigma), the trace of the covariance of a sample's gradient, from the same; NaN: not taken",
    ),
)
"""Columns ``[step]``: the same on every rank."""

RANK_COLUMNS = (
    Column("loss", "f8", "1", "mean loss of the rank's batch before the update; NaN without samples"),
    Column(
        "loss_weight",
        "f8",
        "1",
        "what that loss is the mean over: the samples, or what a loss that gives sum and weight says they weigh",
    ),
    Column("num_samples", "i8", "1", "samples of the rank's batch"),
    Column("start_seconds", "f8", "s", "start of the iteration on the run's clock"),
    Column("wall_seconds", "f8", "s", "host time from the start to the end of the iteration"),
    *SPANS,
    Column("sync_enter_seconds", "f8", "s", "when the rank entered the synchronisation, on the run's clock; NaN: none"),
    Column("sync_exit_seconds", "f8", "s", "when the rank left it, on the run's clock; NaN: none"),
    Column(
        "hidden_seconds",
        "f8",
        "s",
        "what the averaging of replicas that is merged in this iteration took beside the training, without what it was "
        "waited for; NaN: not known, as in the queue of a GPU",
    ),
    Column(
        "utilisation",
        "f8",
        "1",
        "share of time that the rank's device was busy, at the last of the samples taken beside the training: of a GPU "
        "by NVML; of CPUs, the process's CPU time over elapsed time and torch threads; NaN: not sampled",
    ),
    Column(
        "energy_joules",
        "f8",
        "J",
        "what the rank's GPU had drawn since the segment began, at that sample, by NVML; NaN: nothing tells it",
    ),
    Column(
        "node_energy_joules",
        "f8",
        "J",
        "what the rank's node had drawn since then, of the node's first rank alone: all of it by pm_counters, or its "
        "processors and their memory by RAPL, as node_energy of the provenance says; NaN: another rank, or nothing "
        "tells it",
    ),
    Column("clock_hertz", "f8", "Hz", "clock of the GPU's multiprocessors at that sample, by NVML; NaN: not known"),
    Column(
        "memory_bytes",
        "f8",
        "B",
        "most memory that torch had given out at once on the rank's GPU in the segment, at that sample; NaN: no GPU",
    ),
    Column(
        "gradient_norm",
        "f8",
        "1",
        "norm of the gradient that the update took, before clipping: of all ranks' sum where gradients are averaged, "
        "else of the rank's own; NaN: not taken",
    ),
    Column(
        "learner_gradient_norm",
        "f8",
        "1",
        "norm of the mean gradient of a learner's own samples, before gradients are averaged: root mean square over "
        "the rank's learners; NaN: not taken",
    ),
)
"""Columns ``[step, rank]``; of a rank that was lost, ``num_samples`` is 0 and the others are NaN."""

EPOCH_COLUMNS = (
    Column("epoch", "i8", "1", "epoch, from 0"),
    Column("step", "i8", "1", "optimizer steps done at its end"),
    Column("num_samples", "i8", "1", "samples trained on in the epoch, all ranks"),
    Column(
        "train_loss",
        "f8",
        "1",
        "mean of the losses of the epoch over all samples, or what they weigh, each before its update",
    ),
    Column("train_seconds", "f8", "s", "training clock of the epoch: maximum over ranks"),
    Column("evaluation_seconds", "f8", "s", "evaluation clock of the epoch: maximum over ranks"),
    Column("checkpoint_seconds", "f8", "s", "checkpoint clock of the epoch: maximum over ranks"),
    Column("logging_seconds", "f8", "s", "logging clock of the epoch: maximum over ranks"),
    Column("sync_bytes", "i8", "B", "payload of all synchronisations of the epoch, on each rank"),
)

EVALUATION_COLUMNS = (
    Column("step", "i8", "1", "optimizer steps done"),
    Column("epoch_fraction", "f8", "1", "epochs done"),
    Column("split", "S32", "", "split of the data set"),
    Column(
        "metric",
        "S32",
        "",
        "metric of the consensus model over the split: loss is its mean loss, accuracy what fraction it gets right",
    ),
    Column("value", "f8", "1", "value of the metric"),
    Column("num_samples", "i8", "1", "samples of the split"),
    Column("train_seconds", "f8", "s", "training clock since the start of the run: maximum over ranks"),
    Column("sync_bytes", "i8", "B", "payload of all synchronisations since the start of the run, on each rank"),
)

RANK_TABLE = (
    Column("rank", "i8", "1", "rank"),
    Column("node", "S64", "", "node"),
    Column("node_index", "i8", "1", "number of the node, in order of its first rank"),
    Column("local_rank", "i8", "1", "place among the ranks of the node"),
    Column("block", "i8", "1", "block of ranks of hierarchical averaging"),
    Column("device", "S80", "", "device that the rank trains on"),
    Column("cores", "S80", "", "cores that the process may run on"),
    Column("threads", "i8", "1", "torch threads"),
    Column("pid", "i8", "1", "process id"),
    Column("clock_offset_seconds", "f8", "s", "the rank's monotonic clock minus rank 0's"),
    Column("clock_error_seconds", "f8", "s", "largest error of that offset: half the shortest round trip"),
    Column(
        "peak_memory_bytes",
        "f8",
        "B",
        "most memory that torch had given out at once on the rank's GPU in the last segment, at its end; NaN: no GPU, "
        "or no end",
    ),
)

SEGMENT_COLUMNS = (
    Column("first_step", "i8", "1", "first step of the segment"),
    Column("world_size", "i8", "1", "ranks"),
    Column("lost_ranks", "S80", "", "ranks that died and without which it began, with commas; empty: none"),
    Column(
        "compile_seconds",
        "f8",
        "s",
        "compiling the model before it, outside of all clocks: maximum over ranks; NaN: not compiled",
    ),
    Column("peak_memory_bytes", "f8", "B", "the same of the segment: maximum over ranks"),
    Column("started", "S32", "", "UTC time of the start, ISO 8601"),
    Column("git_commit", "S48", "", "commit of the code, '-dirty' with local changes"),
    Column("job", "S32", "", "Job id of the scheduler, with its array task; empty outside of one"),
)

TUNER_COLUMNS = (
    Column("learners", "i8", "1", "learners a rank tried"),
    Column("against", "i8", "1", "learners a rank that they were held against, in windows taken in turn; 0: none"),
    Column("engine", "S16", "", "engine that took their passes"),
    Column("num_windows", "i8", "1", "windows timed of each"),
    Column("samples_per_second", "f8", "1/s", "samples of all ranks a second, at the pace of the slowest: median"),
    Column("samples_per_second_min", "f8", "1/s", "the same in the slowest window"),
    Column("samples_per_second_max", "f8", "1/s", "the same in the fastest window"),
    Column("gain", "f8", "1", "throughput over that of the other less 1: median of the pairs of windows; NaN: none"),
    Column("decision", "S16", "", "one of: " + ", ".join(DECISIONS) + "; the last start or taken is the run's"),
    Column("reason", "S160", "", "why a number of learners is impossible"),
    Column(
        "peak_memory_bytes",
        "f8",
        "B",
        "most memory that passes and state of the learners took on a rank's GPU: maximum over ranks; NaN: no GPU",
    ),
)

TABLES = {
    "epochs": EPOCH_COLUMNS,
    "evaluations": EVALUATION_COLUMNS,
    "ranks": RANK_TABLE,
    "segments": SEGMENT_COLUMNS,
    "tuner": TUNER_COLUMNS,
}

INDEX = {
    "iterations": "step",
    "epochs": "epoch",
    "evaluations": "evaluation",
    "ranks": "rank",
    "segments": "segment",
    "tuner": "trial",
}
"""The index column of each table: the dimension scale of its rows. A row is complete once its index is 0 or more."""
