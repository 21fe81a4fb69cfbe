"""The HTML page: what it holds, what it says is missing, and that it needs nothing from outside."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest

import report
from chapters.every import CHAPTERS
from page import pictures
from page.parts import table
from page.render import render
from runs import logs as run_logs
from tests.single.analysis.fake_runs import FakeRun, constant

pytestmark = pytest.mark.usefixtures("coarse")
ARCHIVE = Path(__file__).parents[2] / "data" / "studies" / "fashion_mnist_fc.tar.xz"


class Page(HTMLParser):
    """The parts of a page that a test asks for."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.pictures: list[dict[str, str | None]] = []
        self.anchors: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag in ("img", "svg"):
            self.pictures.append(found)
        if found.get("id"):
            self.anchors.append(str(found["id"]))
        if tag == "a":
            self.links.append(str(found["href"]))
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def make_run(directory: Path, **changes: object) -> None:
    """A run of two ranks and two epochs."""
    spans = {"forward_seconds": constant(0.01, 12, 2), "gradient_allreduce_seconds": constant(0.002, 12, 2)}
    options = {"steps_per_epoch": 6, "accuracies": [0.5, 0.6], "loss": [1.0] * 12} | changes
    FakeRun(spans, ["gradient"] * 12, **options).write(directory)  # type: ignore[arg-type]


def test_runs_that_were_never_evaluated_have_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "one", accuracies=[], steps_per_epoch=None)
    with mock.patch.object(report, "CHAPTERS", CHAPTERS[:2]):
        assert report.main([str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()[1:]
    assert len(said) == 3 and said[0].startswith("- An iteration's time goes mostly to computing in one (83 %)")
    assert said[1] == "- Nothing can be said of accuracies: no run has been evaluated yet."


def test_a_page_of_an_emulated_machine_says_so_at_its_head(tmp_path: Path) -> None:
    make_run(tmp_path / "tunnel", provenance={"emulated": "network (latency_seconds 0.0001)"})
    entries, _ = run_logs.load([str(tmp_path / "tunnel")])
    text = render([], entries, [], [], [])
    assert "<strong>EMULATED machine, by waiting: all runs; the tables say what.</strong>" in text
    assert "network (latency_seconds 0.0001)" in text


def test_a_page_of_runs_and_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "runs" / "one")
    page = tmp_path / "pages" / "page.html"
    assert report.main([str(tmp_path / "runs"), str(ARCHIVE), "-o", str(page)]) == 0
    first, *sentences = capsys.readouterr().out.splitlines()
    assert first == f"wrote {page}"
    assert len(sentences) == 3 and sentences[0].startswith("- one reached 60.0 % test accuracy (± ")
    assert sentences[1].startswith("- An iteration's time goes mostly to computing in one (83 %); exposed")
    assert sentences[2].startswith("- The steps of fashion_mnist, fully_connected_64, nesterov_momentum to a classif")
    found = Page(page)
    assert found.open == []
    assert len(set(found.anchors)) == len(found.anchors), "an id twice"
    assert {link.removeprefix("#") for link in found.links} <= set(found.anchors)
    assert {chapter.name for chapter in CHAPTERS} < set(found.anchors)
    names = re.findall(r'<figure id="(\w+)"', found.text)
    assert {"timing_iteration", "learning_epoch", "shallue_steps", "shallue_scatter"} <= set(names)
    assert len(found.pictures) == len(names)
    assert all(picture.get("aria-label") for picture in found.pictures)
    assert found.text.count("one reached 60.0\xa0% test accuracy") == 1
    assert "<summary>Table shallue_regimes (1 rows)</summary>" in found.text
    # What one run cannot show, and what the study cannot.
    assert "no two runs differ in their ranks alone" in found.text
    assert "shallue_models is not drawn: missing is a study of another model" in found.text
    assert "352 trials with" in found.text


def test_a_page_says_all_of_itself_and_what_could_not_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It asks for nothing from outside, and names from logs are escaped."""
    runs, empty = tmp_path / "runs", tmp_path / "empty"
    make_run(runs / "a<b>&c")
    empty.mkdir()
    assert report.main([str(runs), str(empty), str(tmp_path / "none")]) == 0
    assert sorted(path.name for path in runs.iterdir()) == ["a<b>&c", "report.html"]
    text = (runs / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|<script.+src|<link|@import|url\((?!#)|href=\"(?!#)", text)
    assert "default-src 'none'" in text
    assert "There are no batch-size studies (hpcsgd study run) to draw it from." in text
    assert "<b>" not in text
    assert "a&lt;b&gt;&amp;c" in text
    said = capsys.readouterr().err
    for line in (f"{tmp_path / 'none'}: no such file or directory", f"{empty}: neither a run (run.h5) nor a study"):
        assert line in said
        assert line in text


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(tmp_path)]) == 1
    assert "neither a run nor a study can be read" in capsys.readouterr().err
    make_run(tmp_path / "one")
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert report.main([str(tmp_path / "one"), "-o", str(blocked / "page.html")]) == 2
    assert f"-o {blocked / 'page.html'}: cannot write it (File exists)" in capsys.readouterr().err


def test_every_figure_of_a_chapter_has_its_own_words() -> None:
    timing = CHAPTERS[0]
    first, other = (timing.figure_of(name) for name in ("timing_iteration_2", "timing_throughput"))
    assert first and other and first.how_to_read != other.how_to_read
    assert timing.figure_of("unknown") is None


SVG = """<?xml version="1.0"?>
<svg xmlns:xlink="http://x" viewBox="0 0 72 36" width="72pt">
 <metadata><a/></metadata>
 <defs><style type="text/css">*{stroke: red}</style></defs>
 <g id="axes_1"><path id="m1" d="M 0 0"/></g>
 <g clip-path="url(#p1)"><use xlink:href="#m1"/></g>
 <clipPath id="p1"/><text style="font-family: 'DejaVu Sans'">a</text>
</svg>
"""


def test_an_svg_in_the_page_has_names_of_its_own(tmp_path: Path) -> None:
    assert pictures.inline(SVG, "one", "what it is") == (
        '<svg role="img" aria-label="what it is" viewBox="0 0 72 36" width="96" height="48"><defs></defs>'
        '<g><path id="one-m1" d="M 0 0"/></g><g clip-path="url(#one-p1)"><use href="#one-m1"/></g>'
        '<clipPath id="one-p1"/><text style="font-family: \'DejaVu Sans\', Verdana, sans-serif">a</text></svg>'
    )
    svg, png = tmp_path / "one.svg", tmp_path / "one.png"
    svg.write_text(SVG + " " * pictures.LARGEST_BYTES)
    png.write_bytes(b"PNG")
    large = pictures.picture(svg, png, "what it is")
    assert large.markup == '<img alt="what it is" src="data:image/png;base64,UE5H">'
    assert large.note == "A PNG, as the SVG has 0.5 MB."


def test_a_table_has_numbers_in_full_where_its_text_is_rounded() -> None:
    frame = pd.DataFrame(
        {"run": ["a", "b", "c"], "seconds": [1.23456789, math.nan, math.inf], "good": [True, False, True]}
    )
    found = table("times", frame)
    assert found.numeric == (False, True, False)
    assert [(row[1].text, row[1].number) for row in found.rows] == [
        *(("1.235", "1.23456789"), ("–", ""), ("inf", "Infinity"))
    ]
    assert [row[2].text for row in found.rows] == ["yes", "no", "yes"]
