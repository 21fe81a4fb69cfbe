"""Compute that takes as long as on a device that is not there, by real waiting, and gives real gradients."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.comm.emulated import emulated_nodes, sleep_until
from hpcsgd.comm.topology import Topology, arrange
from hpcsgd.config import RunConfig
from hpcsgd.errors import UsageError
from hpcsgd.study.machine import Slowness

BACKWARD = 2 / 3
"""Part of a step's passes that is the backward one: it has two products of matrices where the forward pass has one."""


class EmulatedCompute:
    """Makes the passes of this rank's steps last."""

    def __init__(self, config: RunConfig, rank: int) -> None:
        """Of ``rank``, as the recipe's section ``emulate.compute`` says."""
        section = config.emulate.compute
        self.config = section
        self._slowness = Slowness(
            config.seed,
            rank,
            lasting=section.slow_factor if rank in section.slow_ranks else 1.0,
            spread=section.spread,
            correlated_spread=section.correlated_spread,
            correlation=section.correlation,
        )
        # Gradients come in the last of the parts that a batch is computed in.
        self._last_part = BACKWARD / config.accumulation_steps
        self._begin = self._seconds = 0.0

    def seconds(self, step: int, num_samples: int) -> float:
        """How long the passes of a step last, with so many samples of this rank."""
        usual = self.config.step_seconds + self.config.sample_seconds * num_samples
        return usual * self._slowness.factor(step) * (1 + self.config.drift * step)

    @contextmanager
    def passes(self, step: int, num_samples: int, lap: Callable[[str], None]) -> Iterator[None]:
        """The body takes the passes of a step; ``lap`` is told of the ends of the forward and the backward one."""
        self._begin, self._seconds = time.perf_counter(), self.seconds(step, num_samples)
        self._wait(1 - BACKWARD)
        lap("forward")
        yield
        self._wait(1.0)
        lap("backward")

    def wait_for_gradient(self, part: float) -> None:
        """Within the passes: wait until this part of the gradient, from its end on, would be there."""
        self._wait(1 - self._last_part * (1 - part))

    def _wait(self, part: float) -> None:
        """Wait until this part of the step's passes would be done."""
        sleep_until(self._begin + part * self._seconds)


def emulated_compute(config: RunConfig, rank: int) -> EmulatedCompute | None:
    """What makes the passes of ``rank`` last; None: nothing does."""
    return EmulatedCompute(config, rank) if config.emulate.compute.is_on else None


def emulated_places(config: RunConfig, comm: Communicator, places: list[Topology], on_gpu: bool) -> list[Topology]:
    """The places of all ranks on the emulated nodes; ``places``, where no network is emulated. Collective.

    Raises:
        UsageError: they train on GPUs, whose queues do not wait with the host.
    """

    def refuse_gpus() -> None:
        if config.emulate.is_on and on_gpu:
            raise UsageError("emulate is given, but the device is a GPU, whose times are its own: set device: cpu")

    if config.emulate.is_on:
        agree(comm, refuse_gpus)
    if not config.emulate.network.is_on:
        return places
    nodes = emulated_nodes(config.emulate.network, comm.size)
    return arrange([f"emulated-{node}" for node in nodes], config.algorithm.block_size)
