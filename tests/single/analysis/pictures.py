"""Pictures that only have to be there."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from draw import figures


def few_pixels() -> AbstractContextManager[Any]:
    """Inside, pictures have few pixels, and are drawn faster."""
    return mock.patch.dict(figures.STYLE, {"savefig.dpi": 20})
