"""Words of a shell."""

from __future__ import annotations

import re


def expanded(text: str) -> str:
    """A shell word in which variables are replaced, but nothing is run or split."""
    if re.fullmatch(r"[\w@%+=:./-]+", text):
        return text
    return '"' + re.sub(r'(["`\\]|\$\()', r"\\\1", text) + '"'
