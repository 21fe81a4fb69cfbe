"""Fixtures of the tests of the analysis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.single.analysis.pictures import few_pixels


@pytest.fixture
def coarse() -> Iterator[None]:
    """Pictures of few pixels."""
    with few_pixels():
        yield
