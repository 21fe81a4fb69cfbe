"""The ways a run ends by one message, without a traceback, and with an exit code of its own."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def name_ranks(ranks: Sequence[int]) -> str:
    """``rank 2``, ``ranks 0, 3``."""
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def nearest(word: str, choices: Iterable[str], otherwise: str, cutoff: float = 0.6) -> str:
    """``did you mean CHOICE?``, or what to say ``otherwise`` where none of the ``choices`` is near the ``word``."""
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=cutoff)
    return f"did you mean {near[0]}?" if near else otherwise


def suggestion(word: str, choices: Iterable[str], cutoff: float = 0.6) -> str:
    """``; did you mean CHOICE?``, to end a message with; empty where none of the ``choices`` is near the ``word``."""
    hint = nearest(word, choices, "", cutoff)
    return f"; {hint}" if hint else ""


class JointError(Exception):
    """Raised by all ranks at the same point, so that none is left waiting; ``exit_code`` is the command's."""

    exit_code = 1


class UsageError(JointError, ValueError):
    """A bad recipe, option, path or data file: something that the user can mend.

    The text says what is wrong, where, and the nearest valid choice.
    """

    exit_code = 2


class LaunchError(UsageError):
    """Processes were started together and do not see each other: each raises it, and one alone has to say it."""

    def __init__(self, text: str, *, tells: bool = True) -> None:
        """``tells``: this process is the one that says it."""
        super().__init__(text)
        self.tells = tells


class RanksLostError(Exception):
    """Other ranks have died. Each survivor raises it where it learns of it: not all at the same point."""


class DivergedError(JointError):
    """A loss, gradient or parameter is no longer finite; the text names rank and step."""


class ReplicasDifferError(JointError):
    """Ranks that must hold the same parameters do not: a flipped bit, or a defect; the text names the ranks."""


class CheckpointError(JointError):
    """A checkpoint could not be written; those before it are whole."""


class Preempted(JointError):
    """The run was asked to stop, has kept its state, and can be resumed."""

    exit_code = 75


class LoneError(Exception):
    """What one rank alone has met: it says so in one line, and ends the job; ``exit_code`` is the command's."""

    exit_code = 1


class DiskError(LoneError):
    """A rank cannot write one of the run's files. What the text names is left readable."""


class DataError(LoneError):
    """A user's data is not what it was, in the midst of the training."""

    exit_code = 2


class StartError(LoneError):
    """A library does not start on a rank, while others may wait for it in its own start."""

    exit_code = 2


class KernelError(LoneError):
    """The recipe asks for kernels that torch has not for this model."""

    exit_code = 2


@contextmanager
def told_as(path: Path) -> Iterator[None]:
    """Inside, a failure to write is one of ``path``; h5py and torch raise ``RuntimeError`` for some of them.

    Raises:
        DiskError: the body raised ``OSError`` or ``RuntimeError``.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise DiskError(f"cannot write {path}: {reason(error)}; what was kept before is whole") from error


NO_MEMORY = (
    *("out of memory", "not enough memory", "can't allocate memory", "Cannot allocate memory"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "HIPBLAS_STATUS_ALLOC_FAILED"),
)
NO_MEMORY_PERHAPS = (
    *("CUBLAS_STATUS_NOT_INITIALIZED", "HIPBLAS_STATUS_NOT_INITIALIZED", "unable to find an engine"),
    *("Unable to find a valid cuDNN algorithm", "unhandled cuda error"),
)
"""What the libraries of a GPU say when they find no memory for themselves, but for other reasons too."""


def is_out_of_memory(error: BaseException, *, tried: bool = False) -> bool:
    """Whether the device or the host had not enough memory: torch says so in words, numpy by ``MemoryError``.

    ``tried``: of what is tried near the limit of memory, also where libraries of a GPU say no more than that they fail.
    """
    said = NO_MEMORY + NO_MEMORY_PERHAPS if tried else NO_MEMORY
    return isinstance(error, MemoryError) or any(words in str(error) for words in said)


def reason(error: BaseException) -> str:
    """Why a file cannot be read or written, in a few words: the system's own, also where HDF5 has wrapped them."""
    wrapped = re.search(r"errno = (\d+)", str(error))
    number = int(wrapped[1]) if wrapped else getattr(error, "errno", None)
    return os.strerror(number) if number else " ".join(str(error).split()) or type(error).__name__
