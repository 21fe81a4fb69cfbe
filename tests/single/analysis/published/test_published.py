"""The published tables can be read, and each names its source."""

from __future__ import annotations

import pytest

import published

NAMES = sorted(path.stem for path in published.DIRECTORY.glob("*.csv"))


def test_there_are_tables() -> None:
    assert {"goyal_top1", "goyal_timing", "resnet50_images_per_second"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_whole_and_names_its_source(name: str) -> None:
    table = published.read(name)
    assert len(table) and not any(str(column).startswith("Unnamed") for column in table.columns)
    first_lines = (published.DIRECTORY / f"{name}.csv").read_text().partition("\n")[0]
    assert first_lines.startswith("# ") and len(first_lines) > 40
