"""What the scripts share as commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from draw import script
from hpcsgd.errors import UsageError


def test_the_output_directory_is_made_or_refused(tmp_path: Path) -> None:
    assert script.output_directory(str(tmp_path / "a" / "b")).is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file: cannot make this directory"):
        script.output_directory(str(tmp_path / "file"))
    with pytest.raises(UsageError, match="cannot make this directory"):
        script.output_directory(str(tmp_path / "file" / "below"))


@pytest.mark.parametrize(
    ("skip", "words"),
    [(0, "--skip 0; the default is 5"), (5, "--skip 5, the default"), (7, "--skip 7, the default is 5")],
)
def test_what_is_left_out_is_said(skip: int, words: str) -> None:
    assert words in script.skip_text(skip)
