"""CIFAR-10 and CIFAR-100 files: the binary version and the Python version."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpcsgd.data.arrays import ArraySplit, as_labels, labelled
from hpcsgd.data.contents import not_expected
from hpcsgd.data.idx import read_bytes
from hpcsgd.errors import UsageError

IMAGE_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]


def read_binary(path: Path, num_label_bytes: int) -> _Batch:
    """Read one file of the binary version: records of label bytes and 3072 pixels.

    Args:
        path: the file.
        num_label_bytes: 1 for CIFAR-10; 2 for CIFAR-100, whose coarse label is left out.

    Returns:
        Images uint8 [N, 3, 32, 32] and labels int64 [N].

    Raises:
        UsageError: the file is unreadable, empty, or not a whole number of records.
    """
    content = read_bytes(path)
    record = num_label_bytes + _PIXELS
    if not content or len(content) % record:
        raise UsageError(
            f"{path} is truncated or not of this format: {len(content)} bytes, expected a multiple of {record}"
            + not_expected(content)
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, record)
    images = np.ascontiguousarray(rows[:, num_label_bytes:]).reshape(-1, *IMAGE_SHAPE)
    return images, rows[:, num_label_bytes - 1].astype(np.int64)


def read_python(path: Path, label_key: Literal["labels", "fine_labels"]) -> _Batch:
    """Read one file of the Python version: a pickled dictionary with ``data`` [N, 3072] and a list of labels.

    Only the reconstruction of numpy arrays is admitted, so the pickle can run no code.

    Args:
        path: the file.
        label_key: ``labels`` for CIFAR-10, ``fine_labels`` for CIFAR-100.

    Returns:
        Images uint8 [N, 3, 32, 32] and labels int64 [N].

    Raises:
        UsageError: the file is unreadable, truncated, asks for anything but arrays, or lacks or misshapes an entry.
    """
    table = _unpickle(path)
    data = table.get(b"data", table.get("data"))
    labels = table.get(label_key.encode(), table.get(label_key))
    if not isinstance(data, np.ndarray) or labels is None:
        raise UsageError(f"{path} has no entries data and {label_key}: it has {sorted(map(str, table))}")
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != _PIXELS:
        raise UsageError(f"{path}: data is {data.dtype} {data.shape}, expected uint8 (N, {_PIXELS})")
    numbers = np.asarray(labels)
    if numbers.shape != data.shape[:1]:
        raise UsageError(f"{path}: {data.shape[0]} images, but {label_key} is {numbers.dtype} {numbers.shape}")
    return np.ascontiguousarray(data).reshape(-1, *IMAGE_SHAPE), as_labels(numbers, f"{path}: {label_key}")


def read_split(paths: Sequence[Path], read: Callable[[Path], _Batch]) -> ArraySplit:
    """One split from its batches, in order, each a file that ``read`` reads.

    Raises:
        UsageError: a file is unsound, or shorter than the others.
    """
    batches = [read(path) for path in paths]
    for path, (_, labels) in zip(paths, batches, strict=True):
        # The binary version has no header: a file cut at the end of a record shows only beside its siblings.
        if len(labels) != len(batches[0][1]):
            raise UsageError(f"{path} has {len(labels)} samples, but {paths[0]} has {len(batches[0][1])}")
    images, targets = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return labelled(images, targets)


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles builtin containers and numpy arrays, and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        # Old numpy pickles say numpy.core; the function is the same one.
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        if (module, name) == ("_codecs", "encode"):
            return _encode_latin1
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    """What Python 3 writes into protocol-2 pickles for bytes: ``_codecs.encode`` with the one encoding it uses."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding}")
    return text.encode("latin1")


def _unpickle(path: Path) -> dict[Any, Any]:
    """The dictionary that the pickle ``path`` holds."""
    content = read_bytes(path)
    try:
        table = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise UsageError(
            f"{path} is not a CIFAR batch in the Python version, or truncated: {error}" + not_expected(content)
        ) from None
    if not isinstance(table, dict):
        raise UsageError(f"{path} holds a {type(table).__name__}, expected a dictionary")
    return table
