"""Memory of a rank that the other ranks of its node read and write where it lies.

It is a file without a name (``memfd_create``): it takes nothing of ``/dev/shm``, whose size many containers limit, and
nothing of it is left when the processes that hold it have ended, in whatever way. Others open it by ``/proc``. It is
freed with the last tensor that is a view of it, so that a model may outlive the run whose learner it was.
"""

from __future__ import annotations

import mmap
import os
import weakref
from typing import NamedTuple

import torch
from torch import Tensor

from hpcsgd.errors import reason

ALIGNMENT_BYTES = 64
NOTE_BYTES = 64
"""After the memory proper: notes for the owner, and from byte TOKEN on what shows that others see the same memory."""
TOKEN = 32


class Address(NamedTuple):
    """Where the memory of a rank is."""

    process: int
    file: int
    num_bytes: int
    token: bytes


class SharedMemory:
    """Zeros.

    Attributes:
        address: by which other processes of the node :func:`reach` it.
        content: [bytes], uint8, with the notes at the end.
    """

    def __init__(self, num_bytes: int) -> None:
        """
        Raises:
            OSError: there is no such memory here, or not so much.
        """
        if not hasattr(os, "memfd_create"):
            raise OSError("this system has no memory that processes can share without a name (memfd_create)")
        whole = -(-num_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES + NOTE_BYTES
        file = os.memfd_create("hpcsgd")
        # The file stays open, for those who come later.
        weakref.finalize(self, os.close, file)
        os.ftruncate(file, whole)
        self.content = _map(file, whole)
        token = os.urandom(NOTE_BYTES - TOKEN)
        notes_of(self.content)[TOKEN:].copy_(torch.tensor(list(token), dtype=torch.uint8))
        self.address = Address(os.getpid(), file, whole, token)

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Its beginning as a tensor."""
        count = torch.Size(shape).numel()
        return self.content[: count * dtype.itemsize].view(dtype).view(shape)

    def find(self, flat: Tensor) -> int | None:
        """The byte at which the 1-d contiguous ``flat`` begins; None: it lies elsewhere."""
        if flat.untyped_storage().data_ptr() != self.content.data_ptr():
            return None
        return int(flat.storage_offset()) * flat.element_size()


def make_shared(num_bytes: int) -> SharedMemory | str:
    """Memory that the ranks of a node can share, or why there is none."""
    try:
        return SharedMemory(num_bytes)
    except OSError as error:
        return reason(error)


def notes_of(content: Tensor) -> Tensor:
    """The notes at the end of a memory, [NOTE_BYTES], uint8."""
    return content[-NOTE_BYTES:]


def reach(address: Address) -> Tensor:
    """The content of another process's memory, itself and no copy; freed with the last view of it.

    Raises:
        OSError: it cannot be reached, as from another container.
    """
    file = os.open(f"/proc/{address.process}/fd/{address.file}", os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.fstat(file).st_size < address.num_bytes:
            raise OSError("a process of that number is another one here: do the ranks run in several containers?")
        content = _map(file, address.num_bytes)
    finally:
        os.close(file)
    if bytes(notes_of(content)[TOKEN:].tolist()) != address.token:
        raise OSError("a process of that number is another one here: do the ranks run in several containers?")
    return content


def _map(file: int, num_bytes: int) -> Tensor:
    """All of ``file`` as bytes; the tensor holds the mapping."""
    return torch.frombuffer(mmap.mmap(file, num_bytes), dtype=torch.uint8)
