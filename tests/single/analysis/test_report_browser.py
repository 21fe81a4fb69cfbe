"""The report in a real browser, headless, at the sizes of a screen and of a phone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

import report
from tests.single.analysis.browser import Browser, find_browser
from tests.single.analysis.fake_runs import FakeRun, constant
from tests.single.analysis.pictures import few_pixels

SIZES = ((1280, 900, False), (390, 844, True))


@pytest.fixture(scope="module")
def program() -> str:
    """The browser. Without one the tests are skipped, but in CI they fail."""
    found = find_browser()
    if found:
        return found
    message = "there is no chromium: root gets it by .ci/system"
    if os.environ.get("CI", "").lower() in ("", "0", "false"):
        pytest.skip(message)
    pytest.fail(message, pytrace=False)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of three runs, of which one has no evaluation."""
    root = tmp_path_factory.mktemp("runs")
    for number, seconds in (("1", 0.02), ("2", 0.1), ("10", 0.005)):
        spans = {"forward_seconds": constant(seconds, 12, 2), "gradient_allreduce_seconds": constant(0.002, 12, 2)}
        accuracies = [] if number == "2" else [0.5, 0.6]
        settings = {"steps_per_epoch": 6, "accuracies": accuracies, "config": {"epochs": int(number)}}
        FakeRun(spans, ["gradient"] * 12, **settings).write(root / f"run-{number}")  # type: ignore[arg-type]
    with few_pixels(), mock.patch.object(report, "CHAPTERS", report.CHAPTERS[:2]):
        assert report.main([str(root)]) == 0
    return root / "report.html"


@pytest.fixture(scope="module")
def browser(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(program, tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.mark.parametrize(("width", "height", "phone"), SIZES)
def test_the_page_fits_and_has_no_error(browser: Browser, page: Path, width: int, height: int, phone: bool) -> None:
    browser.open(page, width, height, phone=phone)
    assert browser.evaluate("document.querySelectorAll('.verdict li').length") == 3
    assert browser.evaluate("document.querySelectorAll('figure svg').length") > 5
    assert browser.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [width, width]
    # What is wider than the screen stands in something that scrolls in itself.
    wide = """[...document.querySelectorAll('body *')].filter((e) => !e.closest('.picture, .scroll, dialog')
        && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 200))"""
    assert browser.evaluate(wide) == []
    assert browser.errors == []


def test_a_sheet_of_paper_has_all_of_a_table_and_nothing_that_is_empty(browser: Browser, page: Path) -> None:
    browser.open(page, 718, 1000)  # A4 without its margins
    browser.call("Emulation.setEmulatedMedia", media="print")
    beyond = """[...document.querySelectorAll('main *')].filter((e) => !e.closest('.picture')
        && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 200))"""
    assert browser.evaluate(beyond) == []
    assert browser.evaluate("document.querySelectorAll('#runs + .scroll td').length") > 3 * 10
    shown = "[...document.querySelectorAll('main section')].filter((e) => e.offsetHeight)"
    assert browser.evaluate(f"{shown}.every((e) => e.querySelector('figure, table'))")
    assert not browser.evaluate("document.querySelector('nav').offsetHeight")
    browser.call("Emulation.setEmulatedMedia", media="")
    assert browser.errors == []


def test_a_click_on_a_heading_sorts_its_table(browser: Browser, page: Path) -> None:
    browser.open(page, *SIZES[0][:2])
    table = "document.querySelector('#runs').parentElement.querySelector('table')"
    names = browser.evaluate(f"[...{table}.tHead.rows[0].cells].map((cell) => cell.textContent)")

    def sort(name: str, direction: str, *last: str) -> None:
        heading = f"{table}.tHead.rows[0].cells[{names.index(name)}]"
        browser.click(f"{heading}.firstElementChild")
        rows = f"[...{table}.tBodies[0].rows].map((row) => row.cells[0].textContent).join()"
        browser.until(f"{heading}.ariaSort === '{direction}' && {rows}.endsWith('{','.join(last)}')")

    sort("run", "ascending", "run-1", "run-2", "run-10")
    sort("run", "descending", "run-10", "run-2", "run-1")
    sort("samples_per_second", "ascending", "run-2", "run-1", "run-10")
    sort("samples_per_second", "descending", "run-10", "run-1", "run-2")
    # What is missing is last both ways.
    sort("best_accuracy", "ascending", "run-2")
    sort("best_accuracy", "descending", "run-2")
    numbers = ["12 ms", "1.5 s (1.2 to 1.9)", "3 µs", "–", "1,234", "85 %", "inf", "-2e3", "4 learners"]
    assert browser.evaluate(f"{numbers}.map(numberOf).map(String)") == [
        *("0.012", "1.5", "0.000003", "NaN", "1234", "0.85", "Infinity", "-2000", "NaN")
    ]
    assert browser.errors == []


def test_a_click_enlarges_a_figure_and_escape_puts_it_back(browser: Browser, page: Path) -> None:
    browser.open(page, *SIZES[0][:2])
    picture = "document.querySelector('figure .picture')"
    width = "document.querySelector('#stage > *').getBoundingClientRect().width"
    browser.click(picture)
    browser.until(f"document.getElementById('viewer').open && {picture}.children.length === 0 && {width} > 1000")
    whole = browser.evaluate(width)
    browser.press("+")
    browser.until(f"Math.abs({width} - {1.4 * whole}) < 1e-3 * {whole}")
    browser.call("Input.dispatchMouseEvent", type="mouseWheel", x=640, y=450, deltaX=0, deltaY=-400)
    browser.until(f"{width} > {1.5 * whole}")
    left = "document.querySelector('#stage > *').getBoundingClientRect().left"
    before = browser.evaluate(left)
    browser.press("ArrowLeft")
    browser.until(f"Math.abs({left} - {before + 60}) < 0.1")
    browser.press("Escape")
    browser.until(f"!document.getElementById('viewer').open && {picture}.children.length === 1")
    assert browser.errors == []
