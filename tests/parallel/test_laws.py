"""Every law at 1, 2, 3 and 4 ranks, one test each; plain pytest starts mpirun itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.parallel.law_jobs import Job
from tests.parallel.laws.registry import WORLD_SIZES, all_cases


@pytest.mark.parametrize(
    ("world_size", "case"),
    [
        pytest.param(size, case.id, id=f"{size}-{case.id}")
        for size in WORLD_SIZES
        for case in all_cases()
        if size in case.sizes
    ],
)
def test_law(jobs: Callable[[int], Job], world_size: int, case: str) -> None:
    job = jobs(world_size)
    result = job.results.get(case)
    if result is None:
        pytest.fail(f"the job ended ({job.code}) in {job.ended_in()}; its output:\n{job.output[-8000:]}", pytrace=False)
    if not result["ok"]:
        pytest.fail(result["message"], pytrace=False)


@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_the_job_of_the_laws_ends_well(jobs: Callable[[int], Job], world_size: int) -> None:
    job = jobs(world_size)
    assert job.code == 0, job.output[-8000:]
