"""The figures of Goyal 2017 (arXiv 1706.02677): large minibatches, warm-up, scaling rules; those of goyal.py.

Published numbers stand beside ours and are named so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chapters.figure import Chapter, Figure, numbered
from chapters.goyal_study import ERROR_NOTE, QUANTITY_NOTES, Study, seeds_text
from draw import curves as goyal_figures
from draw import figures
from draw import minibatches as goyal_sizes
from draw import sizes as size_figures
from draw.script import DEFAULT_SKIP, RECORD_NOTE, Output, skip_text
from runs import logs as run_logs
from runs.groups import repeats, same_setting
from runs.logs import Entry
from runs.settings import WARMUPS, Comparison, Setting, told_apart
from tables import errors as goyal_tables
from tables import published as goyal_published
from tables import sizes as size_tables
from tables.learning import lacks_accuracy


def draw_errors(figure: Figure[Study], study: Study, output: Output) -> list[str]:
    """Figure 1."""
    known = study.table[study.table["error_percent"].notna() | (study.table["num_diverged"] > 0)]
    if known["error_percent"].isna().all():
        return figure.not_drawn(lacks_accuracy(study.entries))
    kinds = {setting.series: (setting.rule, setting.warmup) for setting in study.settings}
    caption = (
        f"{ERROR_NOTE} Points: means; whiskers: standard deviations; {seeds_text(known)}. "
        f"{goyal_published.ERROR_NOTE} {output.caption}"
    )
    output.files += goyal_figures.error_figure(
        known,
        [kinds[name] for name in dict.fromkeys(known["series"])],
        goyal_published.errors(),
        study.error_label,
        output.directory,
        caption,
    )
    return []


def draw_warmups(figure: Figure[Study], study: Study, output: Output) -> list[str]:
    """Figure 2, one for each comparison."""
    remarks = []
    note = goyal_published.warmup_note()
    for place, found in enumerate(study.comparisons):
        name = numbered(figure.name, place)
        remarks += missing_kinds(name, found)
        shown = [*found.settings, *([found.baseline] if found.baseline else [])]
        caption = f"kn = {found.global_batch_size}. {study.caption(shown)} {note} {output.caption}"
        output.files += goyal_figures.versus_figure(
            told_apart(found.settings, [setting.kind for setting in found.settings]),
            found.baseline,
            study.table,
            study.curves,
            study.quantity,
            output.directory,
            name,
            caption,
        )
    return remarks if study.comparisons else figure.not_drawn()


def missing_kinds(name: str, found: Comparison) -> list[str]:
    """One line for each of the paper's three warm-ups that a comparison lacks, and for the small minibatch."""
    have = {setting.warmup for setting in found.settings if setting.rule == "linear"}
    lines = [
        f"{name} (kn = {found.global_batch_size}) lacks the runs with {text} and the linear rule."
        for warmup, text in WARMUPS.items()
        if warmup not in have
    ]
    if found.baseline is None:
        lines.append(f"{name} (kn = {found.global_batch_size}) lacks the runs at a smaller minibatch to compare with.")
    return lines


def draw_training(figure: Figure[Study], study: Study, output: Output) -> list[str]:
    """Figure 3, one for each series."""
    for place, series in enumerate(study.series):
        baseline, larger = series[0], [item for item in series if item.global_batch_size > series[0].global_batch_size]
        output.files += goyal_figures.versus_figure(
            told_apart(larger, [f"kn = {item.global_batch_size}, η = {item.learning_rate:.3g}" for item in larger]),
            baseline,
            study.table,
            study.curves,
            study.quantity,
            output.directory,
            numbered(figure.name, place),
            f"{series[0].series}. {study.caption(series)} {output.caption}",
        )
    return [] if study.series else figure.not_drawn()


def draw_curves(figure: Figure[Study], study: Study, output: Output) -> list[str]:
    """Figure 4, one for each series."""
    for place, series in enumerate(study.series):
        output.files += goyal_figures.curves_figure(
            series,
            study.curves,
            study.quantity,
            study.error_label,
            output.directory,
            numbered(figure.name, place),
            f"{series[0].series}. {goyal_figures.MEAN_NOTE} {QUANTITY_NOTES[study.quantity]} {output.caption}",
        )
    return [] if study.series else figure.not_drawn()


def draw_schedules(figure: Figure[Study], study: Study, output: Output) -> list[str]:
    """The learning rates as run, by minibatch and by warm-up; without either, all of them."""
    panels: list[tuple[str, list[tuple[Setting, str]]]] = []
    for series in study.series:
        panels.append((series[0].series, by_size(series)))
    for found in study.comparisons:
        kinds = told_apart(found.settings, [setting.kind for setting in found.settings])
        panels.append((f"kn = {found.global_batch_size}", kinds))
    if not panels:
        # Other differences than these must be told in words.
        texts = [f"kn = {setting.global_batch_size}; {setting.workload}".rstrip("; ") for setting in study.settings]
        panels.append(("as run", told_apart(study.settings, texts)))
    caption = f"The learning rate of each update as the log has it, of the longest run of a setting. {output.caption}"
    output.files += goyal_figures.schedule_figure(panels, study.schedules, output.directory, caption)
    return []


def by_size(settings: Sequence[Setting]) -> list[tuple[Setting, str]]:
    """Settings called by their minibatch."""
    return told_apart(settings, [f"kn = {setting.global_batch_size}" for setting in settings])


def draw_times(figure: Figure[Study], study: Study, output: Output) -> list[str]:
    """Figure 7."""
    caption = f"{skip_text(study.skip)} {output.caption}"
    drawn = goyal_sizes.against_minibatch(study.sizes, goyal_published.times(), output.directory, caption)
    output.files += drawn
    return [] if drawn else figure.not_drawn()


def draw_throughput(figure: Figure[Study], study: Study, output: Output) -> list[str]:
    """Figure 8."""
    caption = f"{skip_text(study.skip)} {output.caption}"
    published = [goyal_published.times(), goyal_published.throughput()]
    on_gpus = size_tables.on_gpus(study.entries)
    drawn = goyal_sizes.against_gpus(study.sizes, published, on_gpus, output.directory, caption)
    output.files += drawn
    return [] if drawn else figure.not_drawn()


def write_tables(study: Study, output: Output, said: Sequence[str]) -> None:
    """The tables behind the figures."""
    if not study.sizes.empty:
        notes = (size_figures.MEANING.strip(), RECORD_NOTE, skip_text(study.skip))
        output.table(study.sizes, "goyal_sizes", "Times over sizes", *notes, *said)
    output.table(study.table, "goyal_settings", "Errors by setting", ERROR_NOTE, *said)
    output.table(study.curves, "goyal_curves", "Curves of runs", *QUANTITY_NOTES.values())
    linear = "Between two rows of a setting the rate is linear in the step."
    output.table(study.schedules, "goyal_schedules", "Learning rates as run", linear)
    runs = run_logs.runs_table(study.entries).merge(
        study.runs.drop(columns="status"), on="run", how="left", suffixes=("", "_evaluated")
    )
    output.table(runs, "goyal_runs", "Runs in the figures", ERROR_NOTE, *said)


SIZES = (
    "no two settings differ in their minibatch alone; missing are the same runs at other minibatches",
    "hpcsgd sweep RECIPE --set global_batch_size=64,128,256 --seeds 5",
)
FIGURES = (
    Figure(
        "goyal_error",
        "How far may the learning rate be scaled with the minibatch? (1)",
        "Test error against the minibatch kn, left ours, right the published one. Flat as far as the learning rate may "
        "be scaled with kn; where it rises, larger minibatches cost accuracy. Single points are the other warm-ups and "
        "scaling rules.",
        "goyal_settings",
        draw_errors,
        "no run has come to its end with an evaluation",
    ),
    Figure(
        "goyal_warmup",
        "What does the warm-up do, and the scaling rule? (2)",
        "One panel a warm-up or scaling rule at one large kn, each with the small minibatch, dashed. A warm-up works "
        "if its curve comes down to the dashed one. Training error where the runs have evaluated the training set "
        "(evaluate.splits), else training loss; the axis says which. Above: the test error.",
        "goyal_curves",
        draw_warmups,
        "no two settings of one minibatch differ in warm-up or scaling rule alone; missing are the same runs with "
        "another warm-up",
        "hpcsgd sweep RECIPE --set learning_rate.warmup=none,constant,gradual --seeds 5",
    ),
    Figure(
        "goyal_training",
        "Are k small steps one large one? (3)",
        "One panel a minibatch, with the smallest dashed. After the warm-up the curves should lie on each other.",
        "goyal_curves",
        draw_training,
        *SIZES,
    ),
    Figure(
        "goyal_curves",
        "Where do large minibatches lose? (4)",
        "Training and test curves of all minibatches. A gap that opens in the left panel too is optimisation; one in "
        "the right panel alone is generalisation.",
        "goyal_curves",
        draw_curves,
        *SIZES,
    ),
    Figure(
        "goyal_schedules",
        "At which learning rates was it trained?",
        "The learning rates as run, which the log has for every update.",
        "goyal_schedules",
        draw_schedules,
    ),
    Figure(
        "goyal_timing",
        "What does a larger minibatch cost in time? (7)",
        "Time per iteration and per epoch against kn. With more ranks as kn grows, the left panel should be flat and "
        "the right fall along the dashed line; on one rank the left rises with kn.",
        "goyal_sizes",
        draw_times,
        *SIZES,
    ),
    Figure(
        "goyal_throughput",
        "How many images a second do more GPUs train? (8)",
        "Images a second against GPUs (ranks), with the ideal line.",
        "goyal_sizes",
        draw_throughput,
        "no two runs differ in their ranks alone; missing are the same runs on other numbers of ranks",
        "hpcsgd scale RECIPE --gpus 1,2,4,8 --mode weak",
    ),
)


def draw(
    entries: Sequence[Entry], problems: Sequence[str], directory: Path, skip: int = DEFAULT_SKIP
) -> tuple[list[Path], list[str]]:
    """Write all figures and tables; returns the files and the remarks."""
    output = Output.of_runs(directory, entries, problems)
    study = Study(entries, skip)
    said = [*repeats(entries, same_setting), *goyal_tables.remarks(study.runs, study.table)]
    with figures.style():
        said += [line for figure in FIGURES for line in figure.draw(study, output)]
    said += [] if study.sizes.empty else size_tables.rough_epochs(study.sizes)
    write_tables(study, output, said)
    return output.files, [*output.notes, *said]


CHAPTER = Chapter(
    "goyal",
    "Large minibatches",
    "The figures of Goyal 2017: does the linear scaling rule hold, and what does the warm-up do?",
    "goyal.py",
    FIGURES,
    draw,
)
