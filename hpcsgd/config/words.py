"""Values of a recipe that are small languages of their own: when local steps begin, and what becomes of a state."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from hpcsgd.errors import suggestion

POLICIES = ("local", "average", "average:N", "reset")


def parse_policy(
    text: str, key: str = "algorithm.momentum_policy", choices: Sequence[str] = POLICIES
) -> tuple[Literal["local", "average", "reset"], int]:
    """Split ``local``, ``reset``, ``average`` or ``average:N`` in its kind, and every how many averagings it is."""
    found = re.fullmatch("(local|reset|average)(?::([0-9]{1,9}))?", str(text))
    every = 1 if found is None or found[2] is None else int(found[2])
    if found is None or every < 1 or (found[2] is not None and found[1] != "average"):
        hint = suggestion(str(text), choices)
        raise ValueError(f"{key} is {text!r}: it must be one of {', '.join(choices)}{hint}")
    kind: Any = found[1]
    return kind, every


def parse_local_start(text: str) -> tuple[Literal["first_lr_drop", "epoch", "step"], int]:
    """Split ``first_lr_drop``, ``epoch:N`` or ``step:N`` in its kind and number (0 for ``first_lr_drop``)."""
    if text == "first_lr_drop":
        return "first_lr_drop", 0
    found = re.fullmatch("(epoch|step):([0-9]{1,18})", text)
    if found is None:
        raise ValueError(f"algorithm.local_start is {text!r}: it must be first_lr_drop, epoch:N or step:N")
    return ("epoch" if found[1] == "epoch" else "step"), int(found[2])
