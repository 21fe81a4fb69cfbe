"""The figures of Lin 2020 (arXiv 1808.07217): local, post-local and hierarchical SGD, and what they communicate.

Each workload has its own figures; those of lin.py. Published numbers stand beside ours and are named so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from chapters.figure import Chapter, Figure
from chapters.lin_drawings import (
    draw_epochs,
    draw_hierarchy,
    draw_lines,
    draw_minibatch,
    draw_scenarios,
    draw_schedules,
    draw_wires,
)
from chapters.lin_study import ACCURACY_NOTE, BEST_NOTE, MOMENTS_NOTE, ROUNDS_NOTE, SPEEDUP_NOTE, SWEEPS, Study
from draw import figures
from draw.script import DEFAULT_SKIP, RECORD_NOTE, Output
from runs import logs as run_logs
from runs.logs import Entry
from runs.scenarios import find_workloads
from tables import joined, targets
from tables import published as published_tables

SWEEP = "hpcsgd sweep RECIPE --set {} --seeds 3"
OTHER_PERIODS = SWEEP.format("algorithm.sync_period=4,16")
OTHER_BATCHES = SWEEP.format("global_batch_size=16,128,512")

FIGURES: tuple[Figure[Study], ...] = (
    Figure(
        "lin_scenarios",
        "Do local steps close the gap that large mini-batches open?",
        "A1 small, A2 large, A3 huge mini-batches (H kn), A4 local SGD, A5 post-local SGD. Left: ours; where the "
        "training accuracy (open) is as high and the test accuracy is not, the gap is one of generalisation. Right: "
        "distance to A2, with the published ones; right of the line is better than the large mini-batch. Whiskers: "
        "standard deviations. The table has parallelism and communication, the published rows below ours.",
        "lin_scenarios",
        draw_scenarios,
        "missing are runs of the same workload by mini-batches, local_sgd and post_local_sgd",
        OTHER_BATCHES,
    ),
    Figure(
        "lin_epochs",
        "What do the five learn in an epoch?",
        "Accuracy on the training set and on held-out data after the same epochs. Local steps begin in A5 where the "
        "rate first drops: what the right panel gains there, and the left does not, is generalisation.",
        "lin_curves",
        draw_epochs,
    ),
    Figure(
        "lin_period",
        "How long may replicas go alone?",
        "Final accuracy against H, a line for each number of learners. H = 1 is synchronous SGD at the same batch. "
        "Flat as far as averaging less often costs nothing.",
        "lin_sweeps",
        draw_lines,
        "no two runs of local SGD differ in their H alone; missing are the same runs with others",
        OTHER_PERIODS,
    ),
    Figure(
        "lin_workers",
        "How many learners may share the work?",
        "Final accuracy against k at the same batch a learner, a line for each H. More learners are a larger batch for "
        "H = 1, and more replicas to average for others.",
        "lin_sweeps",
        draw_lines,
        "no two runs differ in their learners alone; missing are the same runs with more or fewer",
        SWEEP.format("learners_per_rank=2,4,8"),
    ),
    Figure(
        "lin_minibatch",
        "Are local steps better than mini-batches that communicate as rarely?",
        "Left: at the same effective batch, the samples between two rounds. Right: at the same bytes. Where the line "
        "of local SGD is above, H steps of kn samples are worth more than one of H kn.",
        "lin_sweeps",
        draw_minibatch,
        "missing are runs of the same workload by mini-batches of two sizes, or by local SGD with two periods",
        OTHER_BATCHES,
    ),
    Figure(
        "lin_switch",
        "When should local steps begin?",
        "Final accuracy against the epoch of the first local step. The left end is local SGD, the right end the large "
        "mini-batch; a hump between them is what post-local SGD is for.",
        "lin_sweeps",
        draw_lines,
        "no two runs of post-local SGD differ in their start alone; missing are the same runs with others",
        SWEEP.format("algorithm.local_start=epoch:15,epoch:30,epoch:45"),
    ),
    Figure(
        "lin_time",
        "How much sooner is an accuracy reached with more ranks?",
        "Time to the target and speed-up against the ranks, a line for each H. Dashed: as many times faster as there "
        "are more ranks. A longer H saves communication, and may need more epochs.",
        "lin_sweeps",
        draw_lines,
        "no two runs that reach or miss a target differ in their ranks alone; missing are the same runs on more or "
        "fewer",
        "hpcsgd scale RECIPE --gpus 1,2,4,8 --mode weak",
    ),
    Figure(
        "lin_communication",
        "What does accuracy cost in communication?",
        "Each point a setting: final accuracy against all rounds, and all bytes of a rank. Best is top left.",
        "lin_settings",
        draw_lines,
        "no run has come to its end with an evaluation",
    ),
    Figure(
        "lin_wires",
        "What do fewer bits on the wire cost?",
        "Settings that differ in their wire alone (bf16, signs, error memory, ...): accuracy after the same epochs, "
        "and after the same bytes.",
        "lin_curves",
        draw_wires,
        "no two runs differ in their wire (comm.wire) alone",
    ),
    Figure(
        "lin_hierarchy",
        "How may two levels share the averaging?",
        "Left: accuracy by H and H_b; right: averagings of all ranks, which cross the slower network. Cells of one H "
        "are as often averaged in their block.",
        "lin_grid",
        draw_hierarchy,
        "no run of hierarchical_local_sgd has another (H, H_b) beside it; missing are the same runs with others",
        SWEEP.format("algorithm.block_sync_period=1,2,4"),
    ),
    Figure(
        "lin_schedules",
        "Is a schedule of H better than a constant one?",
        "Left: H as run. Right: what it leads to; at the same rounds, the higher point is the better schedule. "
        "Post-local SGD is one: H = 1 until its start.",
        "lin_schedules",
        draw_schedules,
        "no run has an H that changes beside another one; missing are the same runs with a schedule of H, or "
        "post-local",
    ),
)
TABLES: tuple[tuple[str, str, Callable[[Study], pd.DataFrame]], ...] = (
    ("lin_curves", "Curves of runs", lambda study: study.curves),
    ("lin_sweeps", "Over sizes", lambda study: sweep_rows(study)),
    ("lin_settings", "Settings: accuracy and communication", lambda study: study.sweeps["lin_communication"]),
    ("lin_pairs", "Local SGD beside mini-batch SGD", lambda study: study.pairs),
    ("lin_grid", "Two levels of averaging", lambda study: study.grid),
    ("lin_schedules", "H as run", lambda study: study.schedules),
)


def sweep_rows(study: Study) -> pd.DataFrame:
    """The rows of all lines over a size, each with its figure, the column that it is over, and the value there."""
    shown = ((name, sweep) for name, sweep in SWEEPS.items() if name != "lin_communication")
    found = joined.of_sweeps((name, sweep.over, study.sweeps[name]) for name, sweep in shown)
    return found.drop(columns=[sweep.over for sweep in SWEEPS.values()], errors="ignore")


def together(studies: Sequence[Study], of: Callable[[Study], pd.DataFrame]) -> pd.DataFrame:
    """A table of all workloads."""
    return joined.of_tasks((study.name, of(study)) for study in studies)


def write_tables(studies: Sequence[Study], entries: Sequence[Entry], output: Output, said: Sequence[str]) -> None:
    """The tables of all workloads."""
    notes = (ACCURACY_NOTE, MOMENTS_NOTE, ROUNDS_NOTE, BEST_NOTE)
    ours = together(studies, lambda study: study.scenarios)
    if not ours.empty:
        both = pd.concat([ours.assign(source="our runs"), published_tables.scenarios()], ignore_index=True)
        output.table(both, "lin_scenarios", "A1 to A5", *notes, published_tables.LIN_NOTE, *said)
    for name, title, of in TABLES:
        table = together(studies, of)
        if not table.empty:
            output.table(table, name, title, *notes, SPEEDUP_NOTE)
    runs = run_logs.runs_table(entries)[["run", "path"]]
    own = together(studies, lambda study: study.all_runs)
    if not own.empty:
        output.table(own.merge(runs, on="run"), "lin_runs", "Runs in the figures", *notes, RECORD_NOTE, *said)


def draw(
    entries: Sequence[Entry],
    problems: Sequence[str],
    directory: Path,
    skip: int = DEFAULT_SKIP,
    target: float | None = None,
) -> tuple[list[Path], list[str]]:
    """Write all figures and tables; returns the files and the remarks."""
    output = Output.of_runs(directory, entries, problems)
    workloads = find_workloads(entries).items()
    studies = [Study(name, place, own, target, skip) for place, (name, own) in enumerate(workloads)]
    said: list[str] = [] if studies else ["No run is by synchronous or local SGD: nothing is drawn."]
    with figures.style():
        for study in studies:
            said += study.repeats + targets.remarks(study.all_runs) + study.findings()
            said += [line for figure in FIGURES for line in figure.draw(study, output)]
    write_tables(studies, entries, output, said)
    return output.files, [*output.notes, *said]


CHAPTER = Chapter(
    "lin",
    "Local SGD",
    "The figures of Lin 2020: may replicas step on their own and be averaged now and then, and what is saved by it? "
    "The paper's scenarios are A1, small mini-batches; A2, large ones; A3, huge ones, which communicate as rarely as "
    "local SGD; A4, local SGD; A5, post-local SGD. They are told here by the global batch kn that most runs with local "
    "steps have: synchronous SGD with less is A1, with kn A2, with more A3. Runs of one model, data set, optimizer, "
    "number of epochs and schedule of the rate are compared, which is a workload.",
    "lin.py",
    FIGURES,
    draw,
)
