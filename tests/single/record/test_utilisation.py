"""How busy a device is: shares of its time, from a thread that ends."""

from __future__ import annotations

import math
import threading
import time

import pytest
import torch

from hpcsgd.comm.abort import abort_on_failure
from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.record import utilisation
from hpcsgd.record.utilisation import Sampler, cpu_share

CPU = torch.device("cpu")


def test_cpu_time_is_shared_by_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = {"perf_counter": iter([10.0, 12.0, 13.0]), "process_time": iter([1.0, 4.0, 4.0])}
    for name, values in clocks.items():
        monkeypatch.setattr(time, name, lambda values=values: next(values))
    measure = cpu_share(2)
    assert measure() == 0.75
    assert measure() == 0.0


def test_the_latest_sample_is_kept_until_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = threading.Event()
    values = iter([0.25, 0.5])

    def measure() -> float:
        value = next(values)
        if value == 0.5:
            taken.set()
            sampler._ended.set()
        return value

    monkeypatch.setattr(utilisation, "cpu_share", lambda _threads: measure)
    sampler = Sampler(0.01, CPU, 1)
    assert taken.wait(60)
    sampler.close()
    sampler.close()
    assert sampler.latest.utilisation == 0.5
    assert not sampler._thread.is_alive()


def test_none_is_taken_where_none_is_asked_for() -> None:
    sampler = Sampler(0, CPU, 1)
    assert not sampler._thread.is_alive()
    sampler.close()
    assert math.isnan(sampler.latest.utilisation)


class NVMLError(Exception):
    """As NVML's own: nothing but an exception."""


class Aborts(SingleCommunicator):
    """One of two ranks, which notes that it ended the job."""

    size = 2
    ended = False

    def abort(self, code: int) -> None:
        self.ended = True


@pytest.mark.parametrize("error", [ModuleNotFoundError("pynvml is not installed"), NVMLError("Not Supported")])
def test_a_sample_that_cannot_be_taken_is_said_and_ends_no_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def measure() -> float:
        raise error

    monkeypatch.setattr(utilisation, "cpu_share", lambda _threads: measure)
    comm = Aborts()
    with abort_on_failure(comm):
        sampler = Sampler(0.01, CPU, 1)
        sampler._thread.join(60)
        sampler.close()
    assert not comm.ended and math.isnan(sampler.latest.utilisation)
    assert f"utilisation is not sampled: {error}" in capsys.readouterr().err


@pytest.mark.gpu
def test_a_gpu_is_asked_by_nvml() -> None:
    assert 0 <= utilisation.gpu_share(torch.device("cuda", 0))() <= 1
