"""Emulated compute: steps last at least as long as they are asked to, and every word of the run says so."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from hpcsgd.comm.topology import arrange
from hpcsgd.config import EmulateConfig, LogConfig, ModelConfig, RunConfig
from hpcsgd.config.emulate import EmulatedComputeConfig, EmulatedNetworkConfig
from hpcsgd.errors import UsageError
from hpcsgd.record import load_run
from hpcsgd.record.summary import summarise
from hpcsgd.run.emulated import EmulatedCompute, emulated_places
from hpcsgd.train import run
from tests.single.comm.counting import CountingCommunicator
from tests.single.comm.test_gradients import Recorder, make_buckets
from tests.single.test_train import DATA

TIMES = EmulatedComputeConfig(0.006, 0.001, spread=0.2, slow_ranks=(1,), slow_factor=2.0)


def config_of(compute: EmulatedComputeConfig = TIMES, **changes: object) -> RunConfig:
    return RunConfig(local_batch_size=4, emulate=EmulateConfig(compute=compute), **changes)  # type: ignore[arg-type]


def test_passes_last_a_third_forward_and_the_rest_backward() -> None:
    compute = EmulatedCompute(config_of(), rank=0)
    laps = [("", time.perf_counter())]
    with compute.passes(3, 4, lambda name: laps.append((name, time.perf_counter()))):
        there = [time.perf_counter()]
        for part in (0.25, 1.0):
            compute.wait_for_gradient(part)
            there.append(time.perf_counter())
    asked = compute.seconds(3, 4)
    assert asked == EmulatedCompute(config_of(), rank=0).seconds(3, 4) != compute.seconds(4, 4)
    assert [name for name, _ in laps] == ["", "forward", "backward"]
    start = laps[0][1]
    for (_, moment), part in zip(laps, (0, 1 / 3, 1), strict=True):
        assert moment - start >= part * asked
    for moment, part in zip(there, (1 / 3, 1 / 2, 1), strict=True):
        assert moment - start >= part * asked


def test_slow_ranks_and_samples_take_longer() -> None:
    plain = config_of(EmulatedComputeConfig(0.006, 0.001, slow_ranks=(1,), slow_factor=2.0))
    assert [EmulatedCompute(plain, rank).seconds(0, 4) for rank in (0, 1)] == pytest.approx([0.010, 0.020])
    assert EmulatedCompute(plain, 0).seconds(9, 0) == 0.006
    drifting = config_of(EmulatedComputeConfig(0.006, 0.001, drift=0.1))
    assert [EmulatedCompute(drifting, 0).seconds(step, 4) for step in (0, 10)] == pytest.approx([0.010, 0.020])


def test_buckets_are_launched_when_their_gradients_would_be_there() -> None:
    """Those of the last of the parts that a batch is computed in, too."""
    net, buckets = make_buckets()
    recorder, parts = Recorder(buckets), []
    recorder.pace = parts.append
    recorder.arm(2)
    net.backward(3, 2, 1, 0)
    assert parts == []
    net.backward(3, 2, 1, 0)
    sizes = torch.tensor([part.numel() for part in buckets.parts], dtype=torch.float64)
    assert parts == (sizes.cumsum(0) / buckets.flat.numel()).tolist()
    assert recorder.launched == [0, 1, 2, 3]
    compute = EmulatedCompute(config_of(accumulation_steps=2), rank=0)
    begin = time.perf_counter()
    with compute.passes(0, 4, lambda name: None):
        compute.wait_for_gradient(0.5)
        assert time.perf_counter() - begin >= (1 - 1 / 3 / 2) * compute.seconds(0, 4)


def test_emulated_nodes_are_places() -> None:
    places = arrange(["here"] * 4)
    comm = CountingCommunicator(4)
    network = EmulateConfig(EmulatedNetworkConfig(1e-4, ranks_per_node=2))
    on = RunConfig(local_batch_size=4, emulate=network)
    found = emulated_places(on, comm, places, on_gpu=False)
    assert [place.node for place in found] == ["emulated-0", "emulated-0", "emulated-1", "emulated-1"]
    assert [place.block for place in found] == [0, 0, 1, 1]
    assert emulated_places(config_of(), comm, places, on_gpu=False) is places
    with pytest.raises(UsageError, match="the device is a GPU"):
        emulated_places(config_of(), comm, places, on_gpu=True)


def test_a_run_on_emulated_devices_says_so_and_trains_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes: dict[str, object] = {
        "data": DATA,
        "model": ModelConfig(widths=(4,)),
        "max_steps": 3,
        "threads": 1,
        "progress": "lines",
    }
    changes["log"] = LogConfig(flush_steps=1)
    for name, compute in (("real", EmulatedComputeConfig()), ("emulated", TIMES)):
        run(config_of(compute, run_dir=str(tmp_path / name), **changes))
        line = capsys.readouterr().err.partition(" samples/s")
        assert line[1] and ("emulated" in line[0]) == (name == "emulated")
    real, emulated = (load_run(tmp_path / name) for name in ("real", "emulated"))
    assert emulated.iterations["loss"].tolist() == real.iterations["loss"].tolist()
    models = [torch.load(tmp_path / name / "model.pt") for name in ("real", "emulated")]
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])
    rows = emulated.iterations
    expected = [EmulatedCompute(config_of(), 0).seconds(step, 4) for step in range(3)]
    assert (rows["forward_seconds"] >= [seconds / 3 for seconds in expected]).all()
    assert (rows["forward_seconds"] + rows["backward_seconds"] >= expected).all()
    told = "compute (step_seconds 0.006, sample_seconds 0.001, spread 0.2, slow_ranks 1, slow_factor 2)"
    assert f"emulated          {told}\n" in summarise(emulated)
    assert real.emulated == "" and "emulated" not in summarise(real).replace(str(tmp_path), "")
