"""Standard streams that never end a command: their reader may leave, they may be closed, full, or of few letters.

A training must not die of a line of progress that nobody reads. What cannot be written is dropped; a command whose
output got lost on a full disk says so at its end.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

ANY_CHARACTER = "hpcsgd.any_character"
"""Name of the error handler: bytes of file names stay as they are, other letters that there are not become escapes."""


class Patient(io.FileIO):
    """A file descriptor that takes all that is written to it; what goes wrong first is kept in ``failure``."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write, or drop where that cannot be done; gives how many bytes are dealt with."""
        if self.failure is None:
            try:
                while (count := super().write(data)) is None:
                    # The descriptor is shared with somebody who made it non-blocking.
                    select.select([], [self], [])
                return count
            except OSError as error:
                self.failure = error
        return len(memoryview(data).cast("B"))


def command(function: Callable[[], int]) -> int:
    """Call the function of a command whose process this is, with safe streams; gives its exit code.

    Ctrl-C ends it as it ends any program, without a traceback.
    """
    make_safe()
    try:
        return finish(function())
    except KeyboardInterrupt:
        # By the signal, not by a code: the shell then ends the loop or script around it too.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        raise


def make_safe() -> None:
    """Let this process's standard streams be safe from now on; those that are not the interpreter's own stay."""
    codecs.register_error(ANY_CHARACTER, _any_character)
    _open_all()
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or (stream is getattr(sys, f"__{name}__") and not is_safe(stream)):
            setattr(sys, name, _safe(stream, 1 if name == "stdout" else 2))


@contextlib.contextmanager
def safe() -> Iterator[None]:
    """Inside, the streams are safe."""
    before = sys.stdout, sys.stderr
    make_safe()
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def is_safe(stream: Any) -> bool:
    """Whether :func:`make_safe` has made ``stream``."""
    return _patient(stream) is not None


def is_lost() -> bool:
    """Whether what is printed gets lost: its reader has left, or the disk is full."""
    patient = _patient(sys.stdout)
    return patient is not None and patient.failure is not None


def finish(code: int) -> int:
    """Write out what is left; gives the exit code, 1 in place of 0 where output is lost that somebody waits for."""
    sys.stdout.flush()
    patient = _patient(sys.stdout)
    failure = patient.failure if patient is not None else None
    if failure is None or failure.errno == errno.EPIPE:
        return code
    print(f"hpcsgd: cannot write the output: {failure.strerror}", file=sys.stderr, flush=True)
    return code or 1


def _patient(stream: Any) -> Patient | None:
    """What a safe stream writes to."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, Patient) else None


def _open_all() -> None:
    """Give each of the three descriptors that is closed nothing to read or write.

    Else the next file that is opened would get its number, and what a library prints would go into the log.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _safe(stream: Any, number: int) -> io.TextIOWrapper:
    """A safe stream in place of ``stream``, or of none."""
    lines, encoding = number == 2, "utf-8"
    if stream is not None:
        with contextlib.suppress(OSError):
            stream.flush()
        lines, encoding = stream.line_buffering or stream.write_through, stream.encoding
    buffer = io.BufferedWriter(Patient(number, "wb", closefd=False))
    return io.TextIOWrapper(buffer, encoding, ANY_CHARACTER, line_buffering=lines)


def _any_character(error: UnicodeError) -> tuple[str | bytes, int]:
    """The error handler."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return codecs.backslashreplace_errors(error)
