"""Data-parallel training over MPI: synchronous and local SGD, every iteration of every rank timed.

Importing the package starts neither MPI nor torch: the names below are looked up when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpcsgd.api.fit import fit
    from hpcsgd.api.session import session
    from hpcsgd.config.algorithms import SMA, DiLoCo, HierarchicalLocalSGD, LocalSGD, PostLocalSGD, SyncSGD
    from hpcsgd.record.reader import load_run

__all__ = ["SMA", "DiLoCo", "HierarchicalLocalSGD", "LocalSGD", "PostLocalSGD", "SyncSGD", "fit", "load_run", "session"]
__version__ = "0.1.0"

_PLACES = {
    "fit": "hpcsgd.api.fit",
    "load_run": "hpcsgd.record.reader",
    "session": "hpcsgd.api.session",
    **dict.fromkeys(
        ("SyncSGD", "LocalSGD", "PostLocalSGD", "HierarchicalLocalSGD", "DiLoCo", "SMA"), "hpcsgd.config.algorithms"
    ),
}


def __getattr__(name: str) -> Any:
    """A public name, from its module."""
    if name not in _PLACES:
        raise AttributeError(f"module 'hpcsgd' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
