"""The directory of a run or a study: made when nothing can be wrong any more, never half-made, of one job at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
import sys
import typing
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hpcsgd.config import RunConfig
from hpcsgd.config.recipe import dotted, read_recipe, to_dict, to_yaml
from hpcsgd.errors import UsageError
from hpcsgd.files import write_whole
from hpcsgd.run.claims import Changes, Claim
from hpcsgd.run.leftovers import RUN, Kind, check_ours, check_removable, present, remove

FREE_TO_CHANGE = (
    "resume",
    "resume_other_size",
    "overwrite",
    "run_dir",
    "epochs",
    "max_steps",
    "progress",
    "import_from",
    "data.workers",
    "data.prefetch",
    "data.pin_memory",
    "model.channels_last",
    "threads",
    "device",
    "deterministic",
    "cudnn_benchmark",
    "share_gpu",
    "comm.allreduce",
    "comm.averaging",
    "comm.overlap",
    "comm.bucket_bytes",
    "comm.chunk_bytes",
    "comm.cuda_aware",
    "comm.allreduce_algorithm",
    "evaluate",
    "log.enabled",
    "log.flush_seconds",
    "log.flush_steps",
    "log.utilisation_seconds",
    "log.noise_scale",
    "log.save_model",
    "checkpoint",
    "faults",
)
"""Keys, or sections, that a resumed run may have other values of. How far it goes (``epochs``, ``max_steps``) as well,
where that leaves the steps already done as they were: see :mod:`hpcsgd.run.course`."""

ROUNDS_OTHERWISE = ("threads", "device", "deterministic", "cudnn_benchmark", "comm", "model.channels_last")
"""Those of them with which sums may be taken in another order: the run is then not the one that never stopped."""


def claim(path: Path, config: RunConfig) -> Claim:
    """Keep other jobs from the run's directory; its :meth:`Claim.begin` writes the first file, ``recipe.yaml``.

    A run that is there already is gone on with (``resume``), replaced (``overwrite``) or left alone.

    Raises:
        UsageError: the directory holds a run and nothing says what becomes of it; or one of another recipe; or what is
            no run of ours; or another job is using it; or it cannot be written. Nothing is left behind, and nothing
            there is changed.
    """
    return Claim.make(path, RUN, lambda claimed: _decide(path, config, claimed))


def claim_new(path: Path, config: RunConfig) -> Claim:
    """Claim ``path`` for a run, or where that is there, the first of ``path-2``, ``path-3``, ... that is not.

    Of several jobs at the same moment, each gets its own: what counts is who makes the directory.

    Raises:
        UsageError: see :func:`claim`.
    """
    for number in itertools.count(1):
        free = path if number == 1 else path.with_name(f"{path.name}-{number}")
        own = dataclasses.replace(config, run_dir=str(free))
        with contextlib.suppress(FileExistsError):
            return Claim.make(free, RUN, partial(_decide, free, own), new=True)
    raise AssertionError("there is always a next number")


def _decide(path: Path, config: RunConfig, claimed: Claim) -> Changes:
    """Decide what becomes of a run that is there."""
    own = (path / "checkpoints").resolve()
    goes_on = config.resume == "auto" or (config.resume != "none" and Path(config.resume).resolve().parent == own)
    changes, goes_on = decide(path, RUN, config, goes_on=goes_on, overwrite=config.overwrite)
    if goes_on:
        for name, is_kind in (("checkpoints", Path.is_dir), ("model.pt", Path.is_file), ("run.h5", Path.is_file)):
            if (path / name).exists() and not is_kind(path / name):
                raise UsageError(f"{path / name} is no {'folder' if name == 'checkpoints' else 'file'}: move it away")
        claimed.before = before = check_same(path, path / RUN.recipe, config, "run", FREE_TO_CHANGE)
        changes.first = lambda: _say_rounding(path, before, config)
    return changes


def decide(path: Path, kind: Kind, config: Any, *, goes_on: bool, overwrite: bool) -> tuple[Changes, bool]:
    """What becomes of a run or study that is there, and whether it is gone on with.

    Raises:
        UsageError: nothing says what becomes of it, or it is not ours.
    """
    recipe = path / kind.recipe
    found = what_is_there(path, kind, goes_on=goes_on, overwrite=overwrite)

    def write() -> None:
        remove(path, [name for name in found if not goes_on or is_unfinished(name)], kind)
        write_whole(recipe, to_yaml(config).encode())

    # What is being removed has its own recipe until nothing is left of it; what is gone on with, until it is certain.
    if goes_on and found:
        return Changes(recipe, last=write), True
    return Changes(recipe, first=write), False


def is_unfinished(name: str) -> bool:
    """Whether a file of ours was left by a process that was killed while it wrote."""
    return re.fullmatch(r"\..+\.\d+|\.watchdog-.+|.+\.(new|resumed)", name) is not None


def what_is_there(path: Path, kind: Kind, *, goes_on: bool, overwrite: bool) -> list[str]:
    """The names in ``path`` that a run or study of ours has; none where there is none.

    Raises:
        UsageError: nothing says what becomes of it, or it is not ours.
    """
    found = present(path, kind)
    if all(is_unfinished(name) for name in found):
        return []
    if goes_on or overwrite:
        check_ours(path, kind, found)
        if not goes_on:
            check_removable(path, kind, found)
    else:
        raise UsageError(
            f"{path} holds a {kind.name} already ({', '.join(found)}): choose another {kind.name}_dir, set resume: "
            "auto to go on with it, or overwrite: true to replace it"
        )
    return found


def _say_rounding(path: Path, before: Mapping[str, Any], config: RunConfig) -> None:
    """Say which changed keys may change the course in its last bits."""
    changed = [
        f"{key} {value!r}, not {before[key]!r}"
        for key, value in dotted(to_dict(config))
        if (key in ROUNDS_OTHERWISE or key.partition(".")[0] in ROUNDS_OTHERWISE) and before.get(key, value) != value
    ]
    if changed:
        print(
            f"hpcsgd: {path} goes on with {'; '.join(changed)}: its figures may differ in rounding from those of a run "
            "that was not stopped",
            file=sys.stderr,
            flush=True,
        )


def check_same(path: Path, recipe: Path, config: Any, kind: str, free: Sequence[str]) -> dict[str, Any]:
    """Refuse to go on in ``path`` with another configuration than ``recipe``'s, but for keys and sections ``free``.

    A key that the recipe of an older version has not is taken to have had its default.

    Returns:
        The recipe by dotted keys.

    Raises:
        UsageError: the recipe cannot be read, or has a key of a newer version, or another value.
    """
    before = dict(dotted(read_recipe(recipe)))
    now = dict(dotted(to_dict(config)))
    whole = dict(dotted(_defaults(type(config)))) | before
    for key in dict.fromkeys((*now, *before)):
        if key in free or key.partition(".")[0] in free or whole.get(key) == now.get(key):
            continue
        if key not in now and not any(key.startswith(f"{known}.") or known.startswith(f"{key}.") for known in now):
            raise UsageError(
                f"{recipe} has the key {key}, which this version of hpcsgd does not know: the {kind} is of a newer "
                "one; go on with that"
            )
        raise UsageError(
            f"{path} holds a {kind} with {key} {whole.get(key)!r}, not {now.get(key)!r}: a {kind} is resumed with the "
            "recipe that it began with"
        )
    return before


def _defaults(cls: type) -> dict[str, Any]:
    """The defaults of a configuration as nested dicts of plain values."""
    kinds = typing.get_type_hints(cls)
    found: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        kind = kinds[field.name]
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            found[field.name] = _defaults(kind)
        elif field.default is not dataclasses.MISSING:
            found[field.name] = list(field.default) if isinstance(field.default, tuple) else field.default
    return found


def save_model(path: Path, state: dict[str, Any]) -> None:
    """Write a ``state_dict``; each tensor on its own, not with the flat buffer that it is a view of."""
    import io

    import torch

    content = io.BytesIO()
    torch.save({name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}, content)
    write_whole(path, content.getvalue())
