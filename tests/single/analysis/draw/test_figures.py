"""The house's style: colours that stay apart, ticks at powers of two, files that are the same every time."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from matplotlib.axes import Axes

from draw import figures
from hpcsgd.record.schema import SPANS


def axes() -> Axes:
    figure, grid = figures.new_figure()
    ax = grid[0, 0]
    assert ax.figure is figure
    return ax


def labels(ax: Axes) -> list[str]:
    return [tick.get_text() for tick in ax.get_xticklabels()]


def test_every_span_has_a_name_and_a_colour_of_its_own() -> None:
    assert list(figures.SPANS) == [column.name for column in SPANS]
    names, colours = zip(*figures.SPANS.values(), strict=True)
    assert len(set(names)) == len(names)
    assert len(set(colours)) == len(colours)


def test_gradient_allreduce_and_averagings_share_no_name_and_no_colour() -> None:
    gradient = set(figures.SYNCHRONISATIONS["gradient"]) | set(figures.SPANS["gradient_allreduce_seconds"])
    averaging = set(figures.SYNCHRONISATIONS["block"]) | set(figures.SYNCHRONISATIONS["global"])
    assert not gradient & (averaging | set(figures.SPANS["averaging_seconds"]))
    assert not set(figures.SYNCHRONISATIONS["block"]) & set(figures.SYNCHRONISATIONS["global"])


@pytest.mark.parametrize("pair", [("color", "marker"), ("color", "linestyle")])
def test_28_runs_can_be_told_apart(pair: tuple[str, str]) -> None:
    seen = [tuple(str(figures.run_style(i)[key]) for key in pair) for i in range(28)]
    assert len(set(seen)) == 28


def test_ticks_stand_at_powers_of_two() -> None:
    ax = axes()
    figures.log2_axis(ax, "x", [1, 2, 3, 8])
    assert ax.get_xscale() == "log"
    assert ax.get_xticks().tolist() == [1, 2, 4, 8]
    assert labels(ax) == ["1", "2", "4", "8"]
    low, high = ax.get_xlim()
    assert low < 1 and high > 8


def test_few_powers_have_ticks_between_them() -> None:
    ax = axes()
    figures.log2_axis(ax, "x", [2.4, 4.5])
    assert labels(ax) == ["2", "3", "4"]


def test_every_size_has_its_tick_and_many_are_thinned() -> None:
    ax = axes()
    figures.size_axis(ax, [1, 3, 6, 6])
    assert labels(ax) == ["1", "3", "6"]
    figures.size_axis(ax, range(1, 65))
    ticks = [int(label) for label in labels(ax)]
    assert ticks[:3] == [1, 2, 4] and len(ticks) < 12


def test_ticks_as_powers() -> None:
    ax = axes()
    figures.log2_axis(ax, "x", [64, 256], as_power=True)
    assert labels(ax) == ["$2^{6}$", "$2^{7}$", "$2^{8}$"]


def test_long_numbers_become_powers_and_many_ticks_are_thinned() -> None:
    ax = axes()
    figures.log2_axis(ax, "x", [1, 2**20])
    assert labels(ax) == [f"$2^{{{k}}}$" for k in range(0, 21, 3)]


@pytest.mark.parametrize("values", [[5.0], [4.0], [4.1, 4.2], [0.3, 0.31]])
def test_a_narrow_range_still_has_two_ticks_around_it(values: list[float]) -> None:
    ax = axes()
    figures.log2_axis(ax, "x", values)
    ticks, (low, high) = ax.get_xticks(), ax.get_xlim()
    assert len(ticks) >= 2
    assert low < min(values) and max(values) < high


def test_nothing_positive_leaves_the_axis_linear() -> None:
    ax = axes()
    figures.log2_axis(ax, "x", [0.0, float("nan"), -1.0])
    assert ax.get_xscale() == "linear"


@pytest.mark.parametrize(
    ("values", "unit"), [([2.0, 1e-3], "s"), ([0.9, 0.001], "ms"), ([5e-5], "µs"), ([1e-9], "µs"), ([], "s")]
)
def test_units_of_seconds(values: list[float], unit: str) -> None:
    factor, name = figures.seconds_scale(values)
    assert (factor, name) == ({"s": 1.0, "ms": 1e3, "µs": 1e6}[unit], unit)


@pytest.mark.parametrize(("value", "unit"), [(5, "B"), (5e3, "kB"), (5e6, "MB"), (5e9, "GB"), (5e12, "TB")])
def test_units_of_bytes(value: float, unit: str) -> None:
    factor, name = figures.bytes_scale([value, 1.0])
    assert name == unit
    assert 1 <= value * factor < 1000


@pytest.mark.parametrize("count", range(1, 14))
def test_grids_hold_all_panels_without_an_empty_row(count: int) -> None:
    rows, columns = figures.grid_shape(count)
    assert columns <= 3
    assert (rows - 1) * columns < count <= rows * columns


def test_files_are_the_same_every_time_and_hold_legend_and_caption(tmp_path: Path) -> None:
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with figures.style():
            figure, grid = figures.new_figure()
            (line,) = grid[0, 0].plot([1, 2], [3, 4])
            written.append(
                figures.finish(figure, tmp_path / name, "x", handles=[line], labels=["a run"], caption="Word " * 40)
            )
    for first, second in zip(*written, strict=True):
        assert first.name in ("x.png", "x.svg")
        assert first.read_bytes() == second.read_bytes()
    assert written[0][0].read_bytes().startswith(b"\x89PNG")
    text = written[0][1].read_text()
    assert "a run" in text and "Word Word" in text


def test_legend_and_caption_do_not_overlap_the_panel() -> None:
    with figures.style():
        figure, grid = figures.new_figure()
        lines = [grid[0, 0].plot([1, 2], [i, 4], label=str(i))[0] for i in range(9)]
        grid[0, 0].set_xlabel("Steps")
        figures.surround(figure, lines, ["a run with a long name"] * 9, "Word " * 60)
        figure.draw_without_rendering()
        boxes = [grid[0, 0].get_tightbbox(), figure.legends[0].get_window_extent(), figure.texts[0].get_window_extent()]
    assert all(not a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_a_legend_has_as_many_columns_as_its_own_widths_allow() -> None:
    wide, short = "a" * 30, "b" * 5
    # 2.4 and 0.9 inches: four columns of the widest have no room, but these have.
    assert figures.legend_columns([wide, short, short, short], 5.5) == [[wide], [short], [short], [short]]
    # The first columns have one more, as matplotlib fills them.
    assert figures.legend_columns([short, short, wide], 4.0) == [[short, short], [wide]]
    assert figures.legend_columns([wide, wide], 4.0) == [[wide, wide]]


def test_a_label_wider_than_the_figure_is_broken(tmp_path: Path) -> None:
    with figures.style():
        figure, axes = figures.new_figure()
        (line,) = axes[0, 0].plot([1, 2])
        figures.finish(figure, tmp_path, "one", handles=[line], labels=[" ".join(["word"] * 30)])
        figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert legend.width < figure.bbox.width
