"""What a data set is, in a few plain values: whether a run goes on with its own data, and all ranks have the same."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcsgd.comm.communicator import Communicator
from hpcsgd.errors import UsageError, name_ranks

Identity = dict[str, Any]
"""``samples`` by split, ``classes`` (see :func:`known_classes`), and a ``checksum`` of everything."""

_MOST_NAMES = 8192  # bytes of the names of classes that are kept: an attribute of HDF5 has 64 kB at most
_BYTES = 1 << 24  # of an array that is no single stretch of memory, copied at once
_SHOWN = 3


def known_classes(names: Sequence[str], number: int) -> list[str] | int | str:
    """The names of the classes; their number where they have none, or with a checksum where they are very many."""
    if not names:
        return number
    whole = "\0".join(names).encode(errors="surrogateescape")
    return list(names) if len(whole) <= _MOST_NAMES else f"{number} (names {zlib.crc32(whole):08x})"


def checksum(arrays: Sequence[NDArray[Any]], start: int = 0, *, floats: bool = False) -> int:
    """CRC-32 over the values of arrays, one after another, little-endian: the same on every machine.

    Args:
        arrays: of any shape and type.
        start: the checksum of what comes before.
        floats: whether floating-point numbers count. Where they were made, not read, their last bits may depend on the
            machine.
    """
    found = start
    for array in arrays:
        if (array.dtype.kind == "f" and not floats) or array.size == 0:
            continue
        rows = max(1, _BYTES * len(array) // array.nbytes)
        little = array.dtype.newbyteorder("<")
        for first in range(0, len(array), rows):
            found = zlib.crc32(np.ascontiguousarray(array[first : first + rows], little).data, found)
    return found


def files_checksum(samples: Sequence[tuple[Path, int]], root: Path) -> int:
    """CRC-32 over names, labels and content of files: what is decoded may depend on the decoder's version.

    Raises:
        UsageError: one cannot be read.
    """
    found = 0
    for file, label in samples:
        try:
            found = zlib.crc32(f"{file.relative_to(root)}\0{label}\0".encode(errors="surrogateescape"), found)
            found = zlib.crc32(file.read_bytes(), found)
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror or error}") from error
    return found


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What is different in ``now``, in words; empty: nothing."""
    said = []
    old, new = before.get("samples", {}), now.get("samples", {})
    for split in dict.fromkeys((*old, *new)):
        if old.get(split, 0) != new.get(split, 0):
            said.append(f"{split} has {new.get(split, 0)} samples, not {old.get(split, 0)}")
    if before.get("classes") != now.get("classes"):
        said.append(_class_difference(before.get("classes"), now.get("classes")))
    if not said and before.get("checksum") != now.get("checksum"):
        said.append("the content is another of the same size (by its checksum)")
    return "; ".join(said)


def _class_difference(before: Any, now: Any) -> str:
    """How the classes differ."""
    if not (isinstance(before, list) and isinstance(now, list)):
        counts = (len(value) if isinstance(value, list) else value for value in (now, before))
        return "there are {} classes, not {}".format(*counts)
    gone, come = ([name for name in a if name not in b] for a, b in ((before, now), (now, before)))
    if not gone and not come:
        return "the classes come in another order"
    parts = [f"{word} {_named(names)}" for word, names in (("has the new", come), ("lacks the", gone)) if names]
    return f"train {' and '.join(parts)}"


def _named(names: Sequence[str]) -> str:
    """``class 'a'``, ``classes 'a', 'b', ...``."""
    shown = ", ".join(map(repr, names[:_SHOWN])) + ", ..." * (len(names) > _SHOWN)
    return f"class{'es' * (len(names) > 1)} {shown}"


def check_same_data(before: Any, now: Mapping[str, Any], where: str) -> None:
    """Refuse to go on with other data.

    Args:
        before: what is kept of the data; None: nothing, as of runs of older versions.
        now: of the data at hand.
        where: what keeps it, the subject of the message.

    Raises:
        UsageError: they differ.
    """
    if before is None:
        return
    if not (isinstance(before, Mapping) and isinstance(before.get("samples"), Mapping)):
        raise UsageError(f"what {where} says of its data cannot be read: begin anew")
    if said := differences(before, now):
        raise UsageError(
            f"{where} was made with other data than this: here, {said}; give it its data back, or begin anew"
        )


def check_equal_data(comm: Communicator, identity: Identity, node: str) -> None:
    """See that all ranks have read the same data. Collective.

    Raises:
        UsageError: on all ranks, naming those that differ from rank 0, their nodes, and how.
    """
    found = comm.allgather_object((identity, node))
    reference = found[0][0]
    odd = [rank for rank, (other, _) in enumerate(found) if other != reference]
    if odd:
        nodes = ", ".join(dict.fromkeys(found[rank][1] for rank in odd))
        raise UsageError(
            f"{name_ranks(odd)} (on {nodes}) read other data than rank 0 (on {found[0][1]}): "
            f"{differences(reference, found[odd[0]][0])}; bring the same files to every node"
        )
