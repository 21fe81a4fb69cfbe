"""One mpirun for each world size, started when its first law is asked for; programs that begin at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.pages.warm import serving
from tests.parallel.law_jobs import Job, run_job


@pytest.fixture(scope="session")
def jobs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Job]:
    """A function that gives the job of a world size, with all of its laws that this session selected."""
    chosen: dict[int, list[str]] = {}
    for item in request.session.items:
        parameters = getattr(item, "callspec", None)
        if parameters is not None and {"case", "world_size"} <= parameters.params.keys():
            chosen.setdefault(parameters.params["world_size"], []).append(parameters.params["case"])

    @functools.cache
    def job(world_size: int) -> Job:
        return run_job(world_size, chosen.get(world_size, []), tmp_path_factory.mktemp(f"laws-{world_size}-"))

    return job


@pytest.fixture(scope="session")
def warm_programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with ``hpcsgd`` and ``python`` that have their imports behind them."""
    with serving(tmp_path_factory.mktemp("warm")) as programs:
        yield programs
