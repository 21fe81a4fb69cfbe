"""The package on a GPU that is not there: equal to the CPU, without races, and defects are found."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.parallel.ranks import command, run
from tests.pretend_gpu.cases import CASES, Case
from tests.pretend_gpu.laws import SAMPLE
from tests.pretend_gpu.mutations import MUTATIONS
from tests.pretend_gpu.studies import FUSED

Rows = dict[str, dict[str, Any]]


def sampled(*, under_mpirun: bool) -> list[Any]:
    """The cases that are run here."""
    chosen = (case for case in CASES.values() if case.sampled and under_mpirun == case.is_of_mpi)
    return [pytest.param(case, id=case.name) for case in chosen]


def table(words: list[str], file: Path) -> Rows:
    """The rows that a command writes to ``file``."""
    done = run([*words, "--sample", "--json", str(file)], OMPI_MCA_mpi_yield_when_idle="1")
    assert done.returncode in (0, 1) and file.exists(), done.stdout + done.stderr
    return {row["name"]: row for row in map(json.loads, file.read_text().splitlines())}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The table of one process."""
    return table([sys.executable, "-m", "tests.pretend_gpu"], tmp_path_factory.mktemp("pretend") / "rows")


@pytest.fixture(scope="module")
def rows_of_two(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The table of two ranks, each on a GPU of its own."""
    return table(command(2, "-m", "tests.pretend_gpu"), tmp_path_factory.mktemp("pretend") / "rows")


@pytest.mark.parametrize("case", sampled(under_mpirun=False))
def test_a_run_is_that_of_a_cpu(case: Case, rows: Rows) -> None:
    assert rows[case.name]["wrong"] == [], rows[case.name]["seen"]


@pytest.mark.parametrize("case", sampled(under_mpirun=True))
def test_a_run_of_two_ranks_is_that_of_cpus(case: Case, rows_of_two: Rows) -> None:
    assert rows_of_two[case.name]["wrong"] == [], rows_of_two[case.name]["seen"]


@pytest.mark.parametrize("name", SAMPLE)
def test_a_law_holds_on_two_gpus(name: str, rows_of_two: Rows) -> None:
    assert rows_of_two[name]["wrong"] == [], rows_of_two[name]["seen"]


def test_a_study_measures_what_it_does_on_a_cpu(rows: Rows) -> None:
    found = [rows[name] for name in FUSED if name in rows]
    assert found and [row["wrong"] for row in found] == [[] for _ in found]


@pytest.mark.parametrize("name", [mutation.name for mutation in MUTATIONS if mutation.sampled])
def test_a_planted_defect_is_found(name: str, rows: Rows) -> None:
    assert rows[name]["wrong"], rows[name]


def test_tests_for_a_gpu_pass() -> None:
    """Those of the engines and the batches; the others are of what a CPU cannot pretend, or does slowly."""
    folders = ["learners/engines/test_choose.py", "data/test_loader.py"]
    words = ["-m", "pytest", "-q", "-p", "tests.pretend_gpu.plugin", "-p", "no:cacheprovider", "-m", "gpu"]
    done = run([sys.executable, *words, *(f"tests/single/{folder}" for folder in folders)])
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout + done.stderr
