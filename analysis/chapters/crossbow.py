"""The figures of Crossbow 2019 (VLDB 12, 1399): learners, model averaging, time to accuracy; those of crossbow.py.

Each model on a data set has its own figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from chapters.crossbow_drawings import (
    draw_convergence,
    draw_methods,
    draw_sweep,
    draw_time,
    draw_tuner,
    draw_utilisation,
)
from chapters.crossbow_study import FINAL_NOTE, SWEEPS, TARGET_NOTE, TIME_NOTE, Study
from chapters.figure import Chapter, Figure
from draw import figures
from draw.script import DEFAULT_SKIP, RECORD_NOTE, Output
from draw.sweeps import SPREAD_NOTE
from runs import logs as run_logs
from runs.logs import Entry
from runs.tasks import find_tasks
from tables import joined
from tables import targets as crossbow_tables

SWEEP = "hpcsgd sweep RECIPE --set {} --seeds 3"
OTHER_LEARNERS = SWEEP.format("learners_per_rank=1,2,4,8")
MORE_LEARNERS = "missing are the same runs with other learners"

OF_A_TASK: tuple[Figure[Study], ...] = (
    Figure(
        "crossbow_hardware",
        "How many more samples a second do more learners train?",
        "Throughput against learners a rank, m, one line a batch. Rises as far as another learner finds the device "
        "idle; where it is flat, more learners only share it.",
        "crossbow_sweeps",
        draw_sweep,
        f"no two runs differ in their learners a rank alone; {MORE_LEARNERS}",
        OTHER_LEARNERS,
    ),
    Figure(
        "crossbow_statistical",
        "Do k learners learn as much in an epoch as one?",
        "Epochs to the target against all learners, k. Flat: they do. What rises with k must be earned back by "
        "throughput. Crosses: runs that never reached the target.",
        "crossbow_sweeps",
        draw_sweep,
        f"no two runs that reach or miss a target differ in their learners alone; {MORE_LEARNERS}",
        OTHER_LEARNERS,
    ),
    Figure(
        "crossbow_learners",
        "How many learners a rank are best?",
        "Throughput, epochs and time to the target against m on the same ranks. The right panel is what counts: it "
        "falls as long as throughput grows more than epochs do; the best m is at its lowest point.",
        "crossbow_sweeps",
        draw_sweep,
        f"no two runs on the same ranks differ in their learners a rank alone; {MORE_LEARNERS}",
        OTHER_LEARNERS,
    ),
    Figure(
        "crossbow_period",
        "What does a longer period save, and cost?",
        "Final accuracy, time to the target and throughput against τ. A longer period saves communication (right) and "
        "may cost accuracy (left); the middle says whether it pays.",
        "crossbow_sweeps",
        draw_sweep,
        "no two runs differ in their period alone; missing are the same runs with others",
        SWEEP.format("algorithm.sync_period=1,2,4,8"),
    ),
    Figure(
        "crossbow_rates",
        "Is each method at its best learning rate?",
        "Final accuracy by learning rate. Best inside, falling on both sides: a line that is best at its end calls for "
        "more rates, and methods are compared fairly only at their best.",
        "crossbow_sweeps",
        draw_sweep,
        "no two runs differ in their learning rate alone; missing are the same runs with others",
        SWEEP.format("learning_rate.base=0.01,0.02,0.04"),
    ),
    Figure(
        "crossbow_utilisation",
        "How busy were the devices?",
        "Against the batch, one line an engine and number of learners. Where one learner of a small batch leaves the "
        "device idle, others can use it; near 100 % nothing is left for them. Busy is not fast: see the throughput.",
        "crossbow_utilisation",
        draw_utilisation,
        "all runs have one batch; missing are the same runs at other batches",
        SWEEP.format("local_batch_size=4,16,64"),
    ),
    Figure(
        "crossbow_time",
        "Which setting reaches an accuracy first?",
        "Time to the target by setting, with the runs that did not reach it. Further left is better. A method that "
        "learns less in an epoch may still be first, if its epochs are short; compare rows on the same ranks and "
        "devices.",
        "crossbow_settings",
        draw_time,
    ),
    Figure(
        "crossbow_convergence",
        "Which setting is best at the time that you have?",
        "Accuracy against training time; of settings that differ in their learning rate alone, the best. Whichever "
        "line is highest at the time you have. The dashed line is the target.",
        "crossbow_curves",
        draw_convergence,
        "no run has an evaluation",
    ),
    Figure(
        "crossbow_methods",
        "Does averaging around a central model learn better than synchronous SGD?",
        "SMA, EA-SGD, synchronous and plain SGD after the same epochs, and their final accuracies. Differences within "
        "the spread of seeds say nothing; with one seed a setting there is no spread to see.",
        "crossbow_curves",
        draw_methods,
        "missing are the same runs by other algorithms",
        SWEEP.format("algorithm.name=sma,ea_sgd,sync_sgd"),
    ),
)
TUNER: Figure[Sequence[Entry]] = Figure(
    "crossbow_tuner",
    "What did the tuner try, and why did it take what it took?",
    "In order: throughput, gain, decision, and the learners it chose. It keeps a number of learners whose gain over "
    "the one before, above the points, is large enough; the ring is what the run was trained with. Whiskers show how "
    "noisy the windows were.",
    "crossbow_tuner",
    draw_tuner,
    "no run has left its learners to the tuner",
    "hpcsgd train RECIPE --learners_per_rank auto",
)


def write_tables(studies: Sequence[Study], entries: Sequence[Entry], output: Output, said: Sequence[str]) -> None:
    """The tables of all tasks."""

    def together(of: Callable[[Study], pd.DataFrame]) -> pd.DataFrame:
        return joined.of_tasks((study.task, of(study)) for study in studies)

    notes = (TARGET_NOTE, "inf: the target was not reached; no value: not known.", TIME_NOTE, FINAL_NOTE)
    output.table(together(lambda study: study.table), "crossbow_settings", "Settings", *notes, *said)
    output.table(together(lambda study: study.curves), "crossbow_curves", "Curves of runs", TIME_NOTE)
    for name, title, of in (
        ("crossbow_sweeps", "Over sizes", _sweep_rows),
        ("crossbow_utilisation", "Utilisation of devices", lambda study: study.utilisation),
    ):
        table = together(of)
        if not table.empty:
            output.table(table, name, title, *notes, SPREAD_NOTE)
    runs = run_logs.runs_table(entries)[["run", "algorithm", "status", "path"]]
    own = together(lambda study: study.runs).drop(columns="status")
    output.table(own.merge(runs, on="run"), "crossbow_runs", "Runs in the figures", *notes, RECORD_NOTE, *said)


def _sweep_rows(study: Study) -> pd.DataFrame:
    """The rows of all sweeps of a task, each with its figure, the column that it is over, and the value there."""
    return joined.of_sweeps((name, sweep.x, study.sweeps[name]) for name, sweep in SWEEPS.items())


def draw(
    entries: Sequence[Entry],
    problems: Sequence[str],
    directory: Path,
    skip: int = DEFAULT_SKIP,
    target: float | None = None,
) -> tuple[list[Path], list[str]]:
    """Write all figures and tables; returns the files and the remarks."""
    output = Output.of_runs(directory, entries, problems)
    tasks = find_tasks(entries).items()
    studies = [Study(task, place, own, target, skip) for place, (task, own) in enumerate(tasks)]
    said: list[str] = []
    with figures.style():
        for study in studies:
            said += study.repeats + crossbow_tables.remarks(study.runs)
            said += [line for figure in OF_A_TASK for line in figure.draw(study, output)]
        said += TUNER.draw(entries, output)
    write_tables(studies, entries, output, said)
    return output.files, [*output.notes, *said]


CHAPTER = Chapter(
    "crossbow",
    "Several learners and model averaging",
    "The figures of Crossbow 2019: what do more learners on a device, small batches and averaging around a central "
    "model (SMA) buy? The time to an accuracy is the product of two things: how many epochs it takes (statistical "
    "efficiency) and how long an epoch takes (hardware efficiency). The accuracy of a run is the median of its "
    "last 5 evaluations.",
    "crossbow.py",
    (*OF_A_TASK, TUNER),
    draw,
)
