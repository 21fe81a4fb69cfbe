"""How a bad value is refused."""

from __future__ import annotations


def require(ok: bool, name: str, value: object, valid: str) -> None:
    """Raise ``ValueError`` unless ``ok``."""
    if not ok:
        raise ValueError(f"{name} is {value!r}: it must be {valid}")
