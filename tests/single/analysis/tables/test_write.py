"""The text of tables: a golden Markdown file, CSV that loses no digit."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from tables.write import cell, markdown, write_table

FRAME = pd.DataFrame(
    {
        "run": ["a|b", "long name"],
        "num_ranks": [1, 16],
        "median_seconds": [0.00123456789, float("nan")],
        "samples_per_second": [123456.789, 2.0],
        "complete": [True, False],
    }
)
GOLDEN = """\
# Times

| run       | num_ranks | median_seconds | samples_per_second | complete |
| --------- | --------: | -------------: | -----------------: | -------- |
| a\\|b      |         1 |       0.001235 |             123457 | yes      |
| long name |        16 |              – |                  2 | no       |

- One remark.
- Another.
"""


def test_markdown_is_the_golden_text() -> None:
    assert markdown(FRAME, title="Times", notes=["One remark.", "Another."]) == GOLDEN


def test_markdown_without_notes_ends_with_the_table() -> None:
    text = markdown(FRAME, title="Times")
    assert text == GOLDEN.split("\n\n- ")[0] + "\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (pd.NA, "–"),
        (math.nan, "–"),
        (0.0, "0"),
        (-3.0, "-3"),
        (9999.4, "9999"),
        (12345.6, "12346"),
        (0.5, "0.5"),
        (1e-9, "1e-09"),
        (1.5e20, "1.5e+20"),
        (math.inf, "inf"),
        ("two\nlines", "two lines"),
        (7, "7"),
    ],
)
def test_cells(value: object, text: str) -> None:
    assert cell(value) == text


def test_csv_keeps_every_digit(tmp_path: Path) -> None:
    files = write_table(FRAME, tmp_path, "times", title="Times")
    assert files == [tmp_path / "times.csv", tmp_path / "times.md"]
    again = pd.read_csv(files[0])
    pd.testing.assert_frame_equal(again, FRAME, check_exact=True, check_dtype=False)
