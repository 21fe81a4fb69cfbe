"""The HTML page: what it holds, what it says is missing, and that it needs nothing from outside."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import report
from chapters.every import CHAPTERS
from runs import logs as run_logs
from tests.single.analysis.fake_runs import FakeRun, constant

ARCHIVE = Path(__file__).parents[2] / "data" / "studies" / "fashion_mnist_fc.tar.xz"


class Page(HTMLParser):
    """The parts of a page that a test asks for."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.anchors: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "img":
            self.images.append(found)
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


def test_a_page_of_an_emulated_machine_says_so_at_its_head(tmp_path: Path) -> None:
    make_run(tmp_path / "tunnel", provenance={"emulated": "network (latency_seconds 0.0001)"})
    entries, _ = run_logs.load([str(tmp_path / "tunnel")])
    text = report.render([], entries, [], [])
    assert "<strong>EMULATED machine, by waiting: all runs; the tables say what.</strong>" in text
    assert "network (latency_seconds 0.0001)" in text


def test_a_page_of_runs_and_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "runs" / "one")
    page = tmp_path / "pages" / "page.html"
    assert report.main([str(tmp_path / "runs"), str(ARCHIVE), "-o", str(page)]) == 0
    assert capsys.readouterr().out == f"wrote {page}\n"
    found = Page(page)
    assert found.open == []
    assert set(found.links) == {f"#{name}" for name in found.anchors}
    assert {chapter.name for chapter in CHAPTERS} < set(found.anchors)
    names = re.findall(r"<strong>(\w+)</strong>", found.text)
    assert {"timing_iteration", "learning_epoch", "shallue_steps", "shallue_scatter"} <= set(names)
    assert len(found.images) == len(names)
    for image in found.images:
        assert str(image["src"]).startswith("data:image/png;base64,iVBOR")
        assert image["alt"]
    assert "<summary>Table shallue_regimes (1 rows)</summary>" in found.text
    # What one run cannot show, and what the study cannot.
    assert "no two runs differ in their ranks alone" in found.text
    assert "shallue_models is not drawn: missing is a study of another model" in found.text
    assert "352 trials with" in found.text


def test_the_page_asks_for_nothing_from_outside(tmp_path: Path) -> None:
    make_run(tmp_path / "one")
    assert report.main([str(tmp_path)]) == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|<script|<link|@import|url\(", text)
    assert "There are no batch-size studies (hpcsgd study run) to draw it from." in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "report.html"]


def test_names_from_logs_are_escaped(tmp_path: Path) -> None:
    make_run(tmp_path / "a<b>&c")
    page = tmp_path / "page.html"
    assert report.main([str(tmp_path / "a<b>&c"), "-o", str(page)]) == 0
    assert "<b>" not in page.read_text(encoding="utf-8")
    assert "a&lt;b&gt;&amp;c" in page.read_text(encoding="utf-8")


def test_what_cannot_be_read_is_said_in_the_page_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "one")
    empty = tmp_path / "empty"
    empty.mkdir()
    page = tmp_path / "page.html"
    assert report.main([str(tmp_path / "one"), str(empty), str(tmp_path / "none"), "-o", str(page)]) == 0
    said = capsys.readouterr().err
    for line in (f"{tmp_path / 'none'}: no such file or directory", f"{empty}: neither a run (run.h5) nor a study"):
        assert line in said
        assert line in page.read_text(encoding="utf-8")


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(tmp_path)]) == 1
    assert "neither a run nor a study can be read" in capsys.readouterr().err
    make_run(tmp_path / "one")
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert report.main([str(tmp_path / "one"), "-o", str(blocked / "page.html")]) == 2
    assert f"-o {blocked / 'page.html'}: cannot write it (File exists)" in capsys.readouterr().err


def test_every_figure_of_a_section_has_its_own_words() -> None:
    timing = CHAPTERS[0]
    assert timing.reading("timing_iteration") != timing.reading("timing_throughput") != ""
    assert timing.reading("unknown") == ""
