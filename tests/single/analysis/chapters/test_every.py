"""The figures as values: what is said of them, and that the documentation says the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from chapters.every import CHAPTERS, document
from chapters.figure import Figure
from draw.script import Output
from hpcsgd.config.recipe import load_config
from runs import logs as run_logs
from tests.single.analysis.fake_runs import FakeRun, constant

ROOT = Path(__file__).resolve().parents[4]
FIGURES = [figure for chapter in CHAPTERS for figure in chapter.figures]


def test_the_documentation_is_made_of_the_figures() -> None:
    """In analysis/, ``python -c "from chapters.every import document; print(document())"`` prints what must stand."""
    assert (ROOT / "analysis/README.md").read_text(encoding="utf-8").partition("## All figures\n\n")[2] == document()


def test_every_chapter_is_a_script_and_every_figure_has_a_name_of_its_own() -> None:
    assert all((ROOT / "analysis" / chapter.script).is_file() for chapter in CHAPTERS)
    names = [figure.name for figure in FIGURES]
    assert len(set(names)) == len(names)
    assert all(figure.name.startswith(chapter.name) for chapter in CHAPTERS for figure in chapter.figures)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_every_figure_is_a_question_and_its_command_trains(figure: Figure[object]) -> None:
    assert figure.question.partition("?")[1] and figure.how_to_read.endswith(".") and figure.table
    words = figure.command.split()
    if words:
        of = {"sweep": "RECIPE", "scale": "RECIPE", "train": "RECIPE", "predict": "RUN..."}
        assert words[0] == "hpcsgd" and words[2] == of[words[1]]
    if "--set" in words:
        key, _, values = words[words.index("--set") + 1].partition("=")
        own = {
            "global_batch_size": "goyal/fashion_mnist_batch",
            "algorithm.local_start": "lin/fashion_mnist_post_local",
        }
        recipe = str(ROOT / f"jobs/{own.get(key, 'crossbow/fashion_mnist_sma')}.yaml")
        for value in values.split(","):
            load_config(recipe, [f"--{key}", value])


def test_a_figure_that_is_not_drawn_says_what_is_missing_and_what_makes_it() -> None:
    figure: Figure[None] = Figure(
        "x", "Why?", "So.", "x", lambda figure, _, output: [], "no runs", "hpcsgd scale RECIPE"
    )
    assert figure.draw(None, Output(Path())) == []
    assert figure.not_drawn() == ["x is not drawn: no runs: hpcsgd scale RECIPE."]
    assert figure.not_drawn("it rains", "x_2") == ["x_2 is not drawn: it rains."]


@pytest.mark.usefixtures("coarse")
def test_every_figure_of_runs_has_its_table_beside_it(tmp_path: Path) -> None:
    for ranks in (1, 2):
        spans = {"forward_seconds": constant(1, 10, ranks), "gradient_allreduce_seconds": constant(0.5, 10, ranks)}
        run = FakeRun(spans, ["gradient"] * 10, steps_per_epoch=2, accuracies=[0.2, 0.4, 0.5, 0.6, 0.7])
        run.write(tmp_path / f"runs/{ranks}")
    entries, problems = run_logs.load([str(tmp_path / "runs")])
    assert not problems
    for chapter in CHAPTERS:
        if chapter.of_studies:
            continue
        out = tmp_path / chapter.name
        out.mkdir()
        files = {path.name for path in chapter.draw(entries, [], out)[0]}
        drawn = [figure for figure in chapter.figures if f"{figure.name}.png" in files]
        assert drawn and {f"{figure.table}.csv" for figure in drawn} <= files
