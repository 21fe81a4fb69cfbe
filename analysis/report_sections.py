"""What a report may have in it: for each script of analysis/, how to draw it and how to read its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import crossbow
import goyal
import learning_curves
import scaling
import shallue
import timing_curves
from draw.script import DEFAULT_SKIP
from runs.logs import Entry
from runs.workloads import Workload

Draw = Callable[[Sequence[Any], Sequence[str], Path], tuple[list[Path], list[str]]]


@dataclass(frozen=True)
class Section:
    """One part of a report.

    Attributes:
        name: of its anchor and its files.
        title: headline.
        intro: what question it answers.
        draw: from runs (or workloads), problems and a directory to the files written and the remarks.
        of: what it is drawn from: ``runs`` or ``studies``.
        readings: how to read each figure, by the beginning of its name; the longest that fits counts.
    """

    name: str
    title: str
    intro: str
    draw: Draw
    of: type[Entry] | type[Workload]
    readings: Mapping[str, str]


SECTIONS = (
    Section(
        "timing",
        "Where the time goes",
        "The spans of an iteration, of every rank, as the log has them; the time of record is the maximum over ranks.",
        partial(timing_curves.draw, skip=DEFAULT_SKIP),
        Entry,
        {
            "timing_iteration": "Stacked: mean of each span. Dots and whiskers: median, 5th and 95th percentile over "
            "iterations. Orange is what the gradient allreduce adds after the backward pass, pink the averaging of "
            "replicas: two different things.",
            "timing_along_run": "The same along the run: jumps are changes of the schedule, or of the machine.",
            "timing_wait_transfer": "The transfer of a call is its shortest duration over the ranks; what a rank needs "
            "beyond that is waiting for others.",
            "timing_epoch": "Training time of an epoch; evaluation, checkpoints and logging have clocks of their own.",
            "timing_throughput": "Samples trained a second.",
            "timing_batch": "Time per iteration and per epoch against the global batch.",
            "timing_ranks": "Time per iteration and per epoch against the ranks, with the ideal line.",
        },
    ),
    Section(
        "learning",
        "What was learned, and at what cost",
        "Loss and accuracy of the one consistent model against samples, time and communication.",
        learning_curves.draw,
        Entry,
        {
            "learning_epoch": "After the same number of samples.",
            "learning_step": "After the same number of updates.",
            "learning_seconds": "After the same training time: the fairest comparison on one machine.",
            "learning_bytes": "After the same communication.",
        },
    ),
    Section(
        "scaling",
        "Scaling",
        "The same training on more ranks: strong scaling keeps the global batch, weak scaling the local one.",
        partial(scaling.draw, skip=DEFAULT_SKIP),
        Entry,
        {
            "scaling": "Dashed: as many times more as there are more ranks. The last panels say where the rest went: "
            "exposed communication, and the part of it that is waiting for slower ranks."
        },
    ),
    Section(
        "goyal",
        "Large minibatches",
        "The figures of Goyal 2017: does the linear scaling rule hold, and what does the warm-up do?",
        partial(goyal.draw, skip=DEFAULT_SKIP),
        Entry,
        {
            "goyal_error": "Flat as far as the learning rate may be scaled with the minibatch.",
            "goyal_warmup": "A warm-up works if its curve comes down to the dashed one of the small minibatch.",
            "goyal_training": "After the warm-up the curves should lie on each other.",
            "goyal_curves": "A gap in the left panel is optimisation, one in the right panel alone generalisation.",
            "goyal_timing": "Time per iteration and per epoch against the minibatch.",
            "goyal_throughput": "Images a second against ranks, with the ideal line.",
            "goyal_schedules": "The learning rate of every update, as run.",
        },
    ),
    Section(
        "crossbow",
        "Several learners and model averaging",
        "The figures of Crossbow 2019: what do more learners on a device, small batches and averaging around a central "
        "model (SMA) buy? The time to an accuracy is the product of two things: how many epochs it takes (statistical "
        "efficiency) and how long an epoch takes (hardware efficiency). The accuracy of a run is the median of its "
        "last 5 evaluations.",
        partial(crossbow.draw, skip=DEFAULT_SKIP),
        Entry,
        {
            "crossbow_hardware": "Rises as far as another learner finds the device idle; where it is flat, more "
            "learners only share it.",
            "crossbow_statistical": "Flat: k learners learn as much in an epoch as one. What rises with k must be "
            "earned back by throughput. Crosses: runs that never reached the target.",
            "crossbow_time": "Further left is better. A method that learns less in an epoch may still be first, if its "
            "epochs are short; compare rows on the same ranks and devices.",
            "crossbow_convergence": "Whichever line is highest at the time you have. The dashed line is the target.",
            "crossbow_utilisation": "Where one learner of a small batch leaves the device idle, others can use it; "
            "near 100 % nothing is left for them. Busy is not fast: see the throughput.",
            "crossbow_learners": "The right panel is what counts: it falls as long as throughput grows more than "
            "epochs do; the best m is at its lowest point.",
            "crossbow_methods": "After the same epochs. Differences within the spread of seeds say nothing; with one "
            "seed a setting there is no spread to see.",
            "crossbow_period": "A longer period saves communication (right) and may cost accuracy (left); the middle "
            "says whether it pays.",
            "crossbow_rates": "Best inside, falling on both sides: a line that is best at its end calls for more "
            "rates, and methods are compared fairly only at their best.",
            "crossbow_tuner": "The tuner keeps a number of learners whose gain over the one before, above the points, "
            "is large enough; the ring is what the run was trained with. Whiskers show how noisy the windows were.",
        },
    ),
    Section(
        "shallue",
        "Batch-size studies",
        "The figures of Shallue 2019: how many steps does training take at each batch size?",
        shallue.draw,
        Workload,
        {
            "shallue_steps": "Along the dashed line twice the batch needs half of the steps; where the curve is flat, "
            "a larger batch buys nothing. The limits depend on the goal and on the space that was searched.",
            "shallue_goals": "Whether the regimes move with the goal.",
            "shallue_models": "The same data set and optimizer with other models.",
            "shallue_optimizers": "The same data set and model with other optimizers.",
            "shallue_datasets": "The same model and optimizer on other data sets.",
            "shallue_sizes": "Parts of one training set.",
            "shallue_smoothing": "Trials by their label smoothing.",
            "shallue_rates": "How far the linear and the square-root rule are right.",
            "shallue_scatter": "Best trials at the border of the cloud call for a wider space.",
            "shallue_budgets": "The best metric within so many steps, or so many epochs.",
        },
    ),
)


def reading(section: Section, figure: str) -> str:
    """How to read a figure; empty where nothing is said of it."""
    fitting = [name for name in section.readings if figure.startswith(name)]
    return section.readings[max(fitting, key=len)] if fitting else ""
