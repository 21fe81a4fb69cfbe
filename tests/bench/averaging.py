"""Averaging a model over the ranks: ours, and what else one could do."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import nn

from hpcsgd.comm.backends import make_reducer
from hpcsgd.comm.flat import layout
from hpcsgd.comm.hashing import check_equal
from hpcsgd.comm.mpi import MpiCommunicator
from hpcsgd.comm.shared_memory import SharedMemory
from hpcsgd.comm.torch_group import start_process_group
from hpcsgd.config import CommConfig

Shape = tuple[int, ...]


def fully_connected_shapes(*widths: int) -> list[Shape]:
    """Weights and biases of a fully connected network."""
    pairs = zip(widths, widths[1:], strict=False)
    return [shape for inputs, outputs in pairs for shape in ((outputs, inputs), (outputs,))]


def resnet50_shapes() -> list[Shape]:
    """The 161 parameters of ResNet-50 for ImageNet (He 2016): 25.6 million elements, 102 MB."""

    def convolution(inputs: int, outputs: int, side: int) -> list[Shape]:
        return [(outputs, inputs, side, side), (outputs,), (outputs,)]  # with its BatchNorm

    shapes = convolution(3, 64, 7)
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            shapes += convolution(inputs, width, 1) + convolution(width, width, 3) + convolution(width, 4 * width, 1)
            if block == 0:
                shapes += convolution(inputs, 4 * width, 1)
            inputs = 4 * width
    return [*shapes, (1000, inputs), (1000,)]


class Averaging:
    """A call that turns every rank's model into the average, on a model that it finds as an optimizer leaves it."""

    steps = 1

    def __init__(
        self, name: str, call: Callable[[], None], refill: Callable[[], None], parameters: list[nn.Parameter]
    ) -> None:
        """``refill`` brings the rank's own values of ``parameters`` back before each ``call``."""
        self.name = name
        self._refill = refill
        self._call = call
        self._parameters = parameters

    def prepare(self) -> None:
        """Once untimed, and the rank's own values again."""
        self._refill()
        self._call()
        self._refill()

    def run(self) -> float:
        """One averaging."""
        begin = time.perf_counter()
        self._call()
        return time.perf_counter() - begin

    def rest(self) -> None:
        """Nothing goes on."""

    def check(self, expected: float) -> None:
        """Make sure that a call leaves every element as ``expected``."""
        self.prepare()
        self.run()
        assert all(bool((parameter == expected).all()) for parameter in self._parameters), self.name


def variants(comm: MpiCommunicator, shapes: list[Shape], *, peers: bool = True) -> list[Averaging]:
    """The ways of averaging a model of these ``shapes``, each checked to give the average. Collective.

    ``peers``: also what one would do with a tensor a parameter, and other packages.
    """
    from mpi4py import MPI

    world, share = comm.comm, 1 / comm.size
    slots, numel = layout([torch.empty(shape) for shape in shapes])
    own = torch.full((numel,), float(comm.rank + 1))
    memory = SharedMemory(4 * numel)
    flat = memory.tensor((numel,), torch.float32)
    parameters = [nn.Parameter(slot.view(flat)) for slot in slots]
    values = [parameter.data.view(-1) for parameter in parameters]
    packed = torch.empty(sum(len(value) for value in values))
    pieces = packed.split([len(value) for value in values])
    ways: dict[str, Literal["auto", "mpi", "shared"]] = {
        "ours": "auto",
        "ours, by MPI": "mpi",
        "ours, in memory": "shared",
    }
    reducers = {
        name: make_reducer(CommConfig(averaging=way), comm, flat.device, averaged=(flat, memory))
        for name, way in ways.items()
    }

    def alone() -> None:
        world.Allreduce(MPI.IN_PLACE, flat.numpy())

    def divided() -> None:
        world.Allreduce(MPI.IN_PLACE, flat.numpy())
        flat.mul_(share)

    def per_tensor() -> None:
        for value in values:
            world.Allreduce(MPI.IN_PLACE, value.numpy())
        torch._foreach_mul_(values, share)

    def pack() -> None:
        torch.cat(values, out=packed)
        world.Allreduce(MPI.IN_PLACE, packed.numpy())
        packed.mul_(share)
        torch._foreach_copy_(values, pieces)

    def refill() -> None:
        flat.copy_(own)

    def settle() -> None:
        flat.fill_(mean)

    calls: dict[str, Callable[[], None]] = {
        **{name: partial(reducer.average_, flat) for name, reducer in reducers.items()},
        "Allreduce, division": divided,
        "Allreduce alone": alone,
    }
    if peers:
        calls |= {"call per tensor": per_tensor, "pack and unpack": pack}
    mean = (comm.size + 1) / 2
    made = [Averaging(name, call, refill, parameters) for name, call in calls.items()]
    compare = Averaging("checksums", lambda: check_equal(comm, flat, "the models"), settle, parameters)
    if peers:
        made += [compare, _periodic_averager(comm, parameters, float(comm.rank + 1))]
    for variant in made:
        variant.check(mean * comm.size if variant.name == "Allreduce alone" else mean)
    return made


def _periodic_averager(comm: MpiCommunicator, parameters: list[nn.Parameter], own: float) -> Averaging:
    """torch's ``PeriodicModelAverager`` over Gloo on copies of ``parameters``, whose values are all ``own``."""
    from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager

    start_process_group(comm, torch.device("cpu"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # period 1: every call is to average
        averager = PeriodicModelAverager(period=1)
    copies = [nn.Parameter(parameter.detach().clone()) for parameter in parameters]
    for copy in copies:
        copy.grad = torch.zeros(1).expand_as(copy)  # it leaves out parameters without a gradient

    def refill() -> None:
        for copy in copies:
            copy.data.fill_(own)

    return Averaging("PeriodicModelAverager", lambda: averager.average_parameters(copies), refill, copies)
