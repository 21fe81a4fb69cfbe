"""The directory of a run: made when nothing can be wrong any more, and never half-made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hpcsgd.config import RunConfig
from hpcsgd.errors import UsageError
from hpcsgd.recipe import to_yaml

FILES = ("run.h5", "recipe.yaml", "model.pt")


def create(path: Path, config: RunConfig) -> Path:
    """Make the run's directory with its ``recipe.yaml``; a run that is there already is removed only if asked.

    Raises:
        UsageError: the directory holds a run and ``overwrite`` is false, or it cannot be written.
    """
    present = [name for name in FILES if (path / name).exists()]
    if present and not config.overwrite:
        raise UsageError(
            f"{path} holds a run already ({', '.join(present)}): choose another run_dir, or set overwrite: true"
        )
    made = [parent for parent in (path, *path.parents) if not parent.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_atomically(path / "recipe.yaml", to_yaml(config).encode())
        for name in present:
            if name != "recipe.yaml":
                (path / name).unlink()
    except OSError as error:
        for directory in made:
            if directory.exists() and not any(directory.iterdir()):
                directory.rmdir()
        raise UsageError(f"cannot write the run directory {path}: {error.strerror}") from error
    return path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_model(path: Path, state: dict[str, Any]) -> None:
    """Write a ``state_dict``; each tensor on its own, not with the flat buffer that it is a view of."""
    import io

    import torch

    content = io.BytesIO()
    torch.save({name: tensor.detach().cpu().clone() for name, tensor in state.items()}, content)
    write_atomically(path, content.getvalue())
