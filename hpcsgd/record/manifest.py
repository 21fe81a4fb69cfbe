"""The manifest of a checkpoint: written last, read first, and believed only where it can be true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hpcsgd.errors import UsageError, reason

MANIFEST = "manifest.json"
FORMAT = 1


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint directory.

    Raises:
        UsageError: it is missing or damaged.
    """
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text())
        version, ranks = manifest["format"], manifest["ranks"]
        sound = _is_count(manifest["step"]) and _is_count(manifest["world_size"])
        sound = sound and 0 < len(ranks) == manifest["world_size"]
        sound = sound and all(entry.keys() == {"num_bytes", "sha256"} for entry in ranks)
        sound = sound and all(_is_count(entry["num_bytes"]) and isinstance(entry["sha256"], str) for entry in ranks)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        why = f"its manifest has no {error}" if isinstance(error, KeyError) else reason(error)
        raise UsageError(f"{path} is no whole checkpoint: {why}") from error
    if version != FORMAT:
        raise UsageError(f"{path} is a checkpoint of format {version!r}, and this version of hpcsgd reads {FORMAT}")
    if not sound:
        raise UsageError(f"{path} is no whole checkpoint: its manifest contradicts itself")
    return manifest


def _is_count(value: Any) -> bool:
    """Whether a value of a manifest can be a number of steps, ranks or bytes."""
    return type(value) is int and 0 <= value < 1 << 63
