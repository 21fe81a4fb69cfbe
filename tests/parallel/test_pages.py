"""The first page and the tutorial, as they are typed: every command runs, and says what the page shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.pages.run import FIRST, ROOT, TUTORIAL, run_page
from tests.parallel.ranks import environment


@pytest.mark.parametrize("page", [FIRST, TUTORIAL])
def test_every_command_runs_and_says_what_the_page_shows(page: str, tmp_path: Path, warm_programs: Path) -> None:
    path = os.pathsep.join([str(warm_programs), os.environ["PATH"]])
    _, wrong = run_page(page, tmp_path, environment(PATH=path, PYTHONPATH=str(ROOT)), smaller=True)
    assert not wrong, wrong[0]
