"""Compile the device guard, once for each version of torch and of its source, and load it."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

SOURCE = Path(__file__).with_name("guard.cpp")
CACHE_VARIABLE = "HPCSGD_PRETEND_GPU_CACHE"
"""Names the directory where what was compiled is kept; unset, a directory of this user's for temporary files."""

RECORD = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int, ctypes.c_int64)
CAPTURING = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int64)
PINNED = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)


class Listener(ctypes.Structure):
    """What the guard calls: see ``guard.cpp``."""

    _fields_ = [("record", RECORD), ("block", RECORD), ("capturing", CAPTURING), ("pinned", PINNED)]


class Guard:
    """The current device and stream of the calling thread."""

    def __init__(self, library: Path) -> None:
        """Load ``library``, before torch is."""
        assert "torch" not in sys.modules, "the guard must be there before torch is imported"
        self._native = ctypes.CDLL(str(library))
        self._native.pretend_get_stream.restype = ctypes.c_int64
        self._native.pretend_set_stream.argtypes = [ctypes.c_int, ctypes.c_int64]
        self._listener: Listener | None = None
        self.num_devices: int = self._native.pretend_num_devices()

    @property
    def device(self) -> int:
        """The current device."""
        return int(self._native.pretend_get_device())

    @device.setter
    def device(self, index: int) -> None:
        self._native.pretend_set_device(index)

    def stream(self, device: int) -> int:
        """The number of the current stream of ``device``; 0 is the default one."""
        return int(self._native.pretend_get_stream(device))

    def set_stream(self, device: int, stream: int) -> None:
        """Make ``stream`` the current one of ``device``."""
        self._native.pretend_set_stream(device, stream)

    def listen(
        self,
        record: Callable[[int, int, int], None],
        block: Callable[[int, int, int], None],
        capturing: Callable[[int, int], int],
        pinned: Callable[[int, int], None],
    ) -> None:
        """Let torch's own events, questions about captures and pinned memory be told.

        Args:
            record: event, device and stream: the event is recorded in the stream.
            block: the same: the stream waits for the event.
            capturing: device and stream: whether it is captured.
            pinned: address and bytes of memory that is pinned.
        """
        self._listener = Listener(RECORD(record), RECORD(block), CAPTURING(capturing), PINNED(pinned))
        self._native.pretend_listen(ctypes.byref(self._listener))


def compiler() -> str:
    """The C++ compiler."""
    return os.environ.get("CXX", "g++")


def compiled() -> Path:
    """The library of the guard, compiled if it is not there yet: seconds."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None and spec.origin is not None
    torch = Path(spec.origin).parent
    key = hashlib.sha256(SOURCE.read_bytes() + (torch / "version.py").read_bytes()).hexdigest()[:16]
    default = Path(tempfile.gettempdir()) / f"hpcsgd-pretend-gpu-{os.getuid()}"
    cache = Path(os.environ.get(CACHE_VARIABLE, default))
    library = cache / f"guard-{key}.so"
    if not library.exists():
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = library.with_suffix(f".{os.getpid()}")
        options = ["-std=c++20", "-O1", "-shared", "-fPIC", f"-I{torch}/include", f"-Wl,-rpath,{torch}/lib"]
        libraries = [f"-L{torch}/lib", "-lc10", "-ltorch_cpu"]
        subprocess.run([compiler(), *options, str(SOURCE), "-o", str(unfinished), *libraries], check=True)
        unfinished.replace(library)
    return library
