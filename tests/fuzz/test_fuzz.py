"""A fixed sample of ``make fuzz``: cases of every kind, and proof that the judge sees what it is there for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.case import ROOT, Command
from tests.fuzz.execute import Ending
from tests.fuzz.judge import faults
from tests.fuzz.run import KINDS

SECONDS = 900
"""Far beyond what the sample takes, for machines that are busy."""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The sample, run in a process of its own, as its forks must not inherit pytest's state."""
    folder = tmp_path_factory.mktemp("fuzz")
    words = [sys.executable, "-m", "tests.fuzz.run", "--sample", "--folder", str(folder)]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
    )
    assert (folder / "results.json").exists(), done.stderr
    results: list[dict[str, Any]] = json.loads((folder / "results.json").read_text())
    return results


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_odd_input_ends_by_one_message_or_works(sample: list[dict[str, Any]], kind: str) -> None:
    own = [result for result in sample if result["kind"] == kind]
    assert own and [(result["seed"], result["faults"]) for result in own if result["faults"]] == []


SAID = "hpcsgd: epochs is 0: it must be 1 or more\n"
GOOD = Ending(2, "", SAID, left=False)


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (GOOD, []),
        (Ending(0, "", "step 2/2: fine\nhpcsgd: the run is in run\n", False), []),
        (Ending(None, "", "", False), ["it hangs"]),
        (Ending(-11, "", SAID, False), ["it was ended by signal 11"]),
        (Ending(1, "", SAID, False), ["exit code 1, not 0 or 2"]),
        (Ending(2, "", SAID, True), ["it leaves processes behind"]),
        (Ending(2, "", "", False), ["0 lines in the place of 1 message: "]),
        (Ending(2, "", SAID + SAID, False), [f"2 lines in the place of 1 message: {SAID.strip()} | {SAID.strip()}"]),
        (Ending(2, "", "oops\n", False), ["1 lines in the place of 1 message: oops"]),
        (Ending(0, "", SAID, False), [f"1 lines in the place of 0 message: {SAID.strip()}"]),
        (Ending(2, "", "Traceback (most recent call last):\nKeyError: 3\n", False),
         ["Traceback (most recent call last): KeyError: 3"]),
    ],
)  # fmt: skip
def test_the_judge_sees_each_way_to_end_badly(ending: Ending, said: list[str]) -> None:
    assert faults(Command(("hpcsgd",)), ending, Path("/c"), {}, {}) == said


def test_the_judge_sees_what_is_left_changed_or_gone() -> None:
    command = Command(("hpcsgd",), makes=("run", "run/*"))
    before = {"/c/work/a": "file 1", "/c/work/b": "file 2"}
    after = {"/c/work/a": "file 3", "/c/work/run": "type", "/c/tmp/x": "file 4"}
    done, refused = (
        faults(command, Ending(code, "", SAID * (code > 0), False), Path("/c"), before, after) for code in (0, 2)
    )
    assert done == ["/c/tmp/x: left behind (and 2 more)"]
    assert refused == ["/c/tmp/x: left behind (and 3 more)"]


def test_the_judge_sees_what_is_not_shown() -> None:
    command = Command(("hpcsgd",), shows=("good", "broken"))
    assert faults(command, Ending(0, "good", "", False), Path("/c"), {}, {}) == ["'broken' is not shown"]
