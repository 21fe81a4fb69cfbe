"""Sum or average a flat tensor over ranks, in place and in chunks.

Chunks keep the sum in cache: for 102 MB on 2 ranks one call takes two to four times as long as chunks of 2 MB.
GPU buffers pass through two pinned host buffers on a stream of their own, so that the copy of one chunk overlaps the
allreduce of another.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hpcsgd.comm.communicator import Array, Communicator
from hpcsgd.comm.guard import FiniteGuard


class FlatReducer:
    """Sums and averages flat tensors over the ranks of a communicator: the same bits on all of them.

    Attributes:
        comm: the ranks.
        name: the way that sums go.
        queued: a sum is put in the GPU's queue, and the host does not wait for it.
        seconds: what each way took that was tried at the start; empty where there was no choice.
    """

    name: str = "mpi"

    def __init__(self, comm: Communicator, chunk_bytes: int, *, staged: bool, cuda_aware: bool = False) -> None:
        """
        Args:
            comm: the ranks.
            chunk_bytes: size of a chunk.
            staged: go through host buffers (tensors on a GPU that MPI cannot read).
            cuda_aware: hand tensors on a GPU to MPI itself.
        """
        self.comm = comm
        self.chunk_bytes = chunk_bytes
        self.staged = staged
        self.cuda_aware = cuda_aware
        # One rank has nothing to wait for.
        self.queued = comm.size == 1
        self.guard: FiniteGuard | None = None
        self.seconds: dict[str, float] = {}
        self._stages: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        self._stream: torch.cuda.Stream | None = None

    def average_(self, flat: Tensor) -> None:
        """Replace the 1-d contiguous ``flat`` by its mean over the ranks."""
        self._reduce_guarded(flat, 1.0 / self.comm.size, "what was to be averaged is")

    def sum_(self, flat: Tensor) -> None:
        """Replace the 1-d contiguous ``flat`` by its sum over the ranks."""
        self._reduce_guarded(flat, 1.0, "what was to be summed is")

    def _reduce_guarded(self, flat: Tensor, scale: float, what: str) -> None:
        """Reduce ``flat``, where there are several ranks, and see that what goes in is finite on all of them."""
        if self.comm.size == 1 or not flat.numel():
            return
        finish_on_stream(flat, self.reduce_(flat, scale, mark(flat), self.guard))
        self.look_after(flat, what)

    def look_after(self, flat: Tensor, what: str) -> None:
        """See that what went into the reduced ``flat`` was finite on all ranks; ``what`` is subject and verb.

        Raises:
            DivergedError: on all ranks, it was not.
        """
        if self.guard is not None and not self.queued:
            # In a queue, the losses and the guard's own notes tell, when they are read.
            heads = flat[:: self._chunk_numel(flat)]
            self.guard.after(heads.sum(), what, among_all=self.comm.size == self.guard.comm.size)

    def reduce_(
        self, flat: Tensor, scale: float, ready: torch.cuda.Event | None, guard: FiniteGuard | None = None
    ) -> torch.cuda.Event | None:
        """Replace ``flat`` by ``scale`` times its sum over the ranks.

        Args:
            flat: 1-d, contiguous.
            scale: 1 leaves the sum.
            ready: when the GPU has computed ``flat``, from :func:`mark`; None on a CPU.
            guard: looks at each chunk just before it is summed, which then finds it in cache.

        Returns:
            when the result is in ``flat``, for :func:`finish_on_stream`; None: it is there.
        """
        chunks = self.cut(flat.detach())
        if self.staged:
            return self._reduce_staged(chunks, scale, ready, guard)
        if self.cuda_aware:
            return self._reduce_on_gpu(flat, chunks, scale, ready, guard)
        for chunk in chunks:
            if guard is not None:
                guard.before(chunk)
            self._sum_on_host(chunk.numpy(), scale)
        return None

    def allgather(self, message: Tensor) -> Tensor:
        """The ranks' messages, uint8 [n] on the device of all, as [size, n] there, in rank order."""
        return torch.from_numpy(self.comm.allgather(message.cpu().numpy())).to(message.device)

    def alltoall(self, messages: Tensor) -> Tensor:
        """Of ``messages``, uint8 [size, n], each row goes to its rank; row j of the result comes from rank j."""
        return torch.from_numpy(self.comm.alltoall(messages.cpu().numpy())).to(messages.device)

    def take_up(self, name: str | None) -> None:
        """Go on in the way ``name`` of an earlier start, where several were tried: others may add in another order."""

    def close(self) -> None:
        """End what sums: nothing here."""

    def cut(self, flat: Tensor) -> tuple[Tensor, ...]:
        """The chunks of the 1-d ``flat``, as views of it."""
        numel = self._chunk_numel(flat)
        return flat.split(numel) if flat.numel() > numel else (flat,)

    def _chunk_numel(self, flat: Tensor) -> int:
        """Elements of a chunk of ``flat``."""
        return max(1, self.chunk_bytes // flat.element_size())

    def _sum_on_host(self, values: Array, scale: float) -> None:
        """Replace host ``values`` by ``scale`` times their sum, while they are in cache."""
        self.comm.sum_(values)
        if scale != 1:
            values *= scale

    def _reduce_on_gpu(
        self,
        flat: Tensor,
        chunks: tuple[Tensor, ...],
        scale: float,
        ready: torch.cuda.Event | None,
        guard: FiniteGuard | None,
    ) -> torch.cuda.Event | None:
        """Let MPI sum where the chunks are. It asks no stream: all that is queued for them must be done before."""
        finish_on_stream(flat, ready)
        if guard is not None:
            for chunk in chunks:
                guard.before(chunk)
        wait_until_computed(flat)
        for chunk in chunks:
            self.comm.sum_(chunk)  # type: ignore[arg-type]
        if scale == 1:
            return None
        flat.detach().mul_(scale)
        return mark(flat)

    def _reduce_staged(
        self, chunks: tuple[Tensor, ...], scale: float, ready: torch.cuda.Event | None, guard: FiniteGuard | None
    ) -> torch.cuda.Event | None:
        """Copy out, sum on the host and copy back, two chunks in flight."""
        stages = self._host_stages(chunks[0])
        if ready is not None and self._stream is None:
            self._stream = torch.cuda.Stream(chunks[0].device)
        with torch.cuda.stream(self._stream):
            if ready is not None and self._stream is not None:
                self._stream.wait_event(ready)
            copied = _copy_out(chunks[0], stages[0])
            for index, chunk in enumerate(chunks):
                stage = stages[index % 2][: chunk.numel()]
                if copied is not None:
                    copied.synchronize()
                if index + 1 < len(chunks):
                    # Both copies of a stage are on one stream: this one waits for the copy back before.
                    copied = _copy_out(chunks[index + 1], stages[(index + 1) % 2])
                if guard is not None:
                    guard.before(stage)
                self._sum_on_host(stage.numpy(), scale)
                chunk.copy_(stage, non_blocking=True)
            return mark(chunks[0])

    def _host_stages(self, chunk: Tensor) -> list[Tensor]:
        """Two host buffers for chunks of this kind, made at first use and grown when needed."""
        key = (chunk.dtype, chunk.device)
        stages = self._stages.get(key)
        if stages is None or stages[0].numel() < chunk.numel():
            pinned = chunk.device.type == "cuda"
            stages = [torch.empty(chunk.numel(), dtype=chunk.dtype, pin_memory=pinned) for _ in range(2)]
            self._stages[key] = stages
        return stages


def mark(tensor: Tensor) -> torch.cuda.Event | None:
    """An event behind all that is queued on the tensor's device so far; None on a CPU, where nothing is queued."""
    if tensor.device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(tensor.device))
    return event


def wait_until_computed(tensor: Tensor) -> None:
    """Let the host wait until the device has computed ``tensor``."""
    ready = mark(tensor)
    if ready is not None:
        ready.synchronize()


def finish_on_stream(tensor: Tensor, done: torch.cuda.Event | None) -> None:
    """Let the device's current stream wait for ``done``."""
    if done is not None:
        torch.cuda.current_stream(tensor.device).wait_event(done)


def _copy_out(chunk: Tensor, stage: Tensor) -> torch.cuda.Event | None:
    """Copy a chunk to its host buffer; return what to wait for."""
    stage[: chunk.numel()].copy_(chunk, non_blocking=True)
    return mark(chunk)
