"""Counters of energy as machines have them, made up in a folder: they wrap, are set back, or are not there."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hpcsgd.record import energy, utilisation
from hpcsgd.record.energy import Counter, gpu_readings, node_energy
from hpcsgd.record.frames import energy_per_sample
from hpcsgd.record.reader import load_run
from hpcsgd.run.log import NODE_ENERGY, RANK_NAMES, summarise_ranks
from tests.single.analysis.fake_runs import FakeRun, constant


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second goes by between two readings."""
    now = iter(range(10**6))
    monkeypatch.setattr(energy.time, "monotonic", lambda: float(next(now)))


@pytest.mark.parametrize(
    ("readings", "span", "joules"),
    [
        ([100.0, 300.0, 350.0], math.nan, [200.0, 250.0]),
        # It wraps at 65,536 J.
        ([65_500.0, 100.0], 65_536.0, [136.0]),
        # It was set back to 0: by a wrap it would have had to draw 45 kW.
        ([20_000.0, 50.0, 150.0], 65_536.0, [50.0, 150.0]),
        ([20_000.0, 50.0, 150.0], math.nan, [50.0, 150.0]),
        # It was set to something else: nobody knows what was drawn.
        ([100.0, 9e9, 9e9 + 20], math.nan, [0.0, 20.0]),
        ([7.0, 7.0], 65_536.0, [0.0]),
    ],
)
def test_a_counter_counts_on(readings: Sequence[float], span: float, joules: Sequence[float]) -> None:
    values = iter(readings)
    counter = Counter(lambda: next(values), span)
    assert [counter.take() for _ in joules] == joules


def make_zone(folder: Path, zone: str, name: str, microjoules: int, most: int = 65_536_000_000) -> None:
    path = folder / zone
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text(f"{most}\n")


def test_processors_and_their_memory_are_counted_once(tmp_path: Path) -> None:
    power = tmp_path / "powercap"
    for zone, name in (("0", "package-0"), ("0:0", "core"), ("0:1", "dram"), ("1", "package-1"), ("2", "psys")):
        make_zone(power, f"intel-rapl:{zone}", name, 65_530_000_000 if zone == "0" else 1_000_000)
    make_zone(power, "intel-rapl-mmio:0", "package-0", 1_000_000)
    found = node_energy(tmp_path / "none", power)
    assert found is not None and found[0] == "processors"
    assert math.isnan(found[1]())
    for zone in ("0", "0:0", "0:1", "1", "2"):
        (power / f"intel-rapl:{zone}" / "energy_uj").write_text("65532000000\n" if zone == "0" else "3000000\n")
    assert found[1]() == pytest.approx(6.0)
    # The first package comes to its range of 65,536 J, and 1 J further.
    (power / "intel-rapl:0" / "energy_uj").write_text("1000000\n")
    assert found[1]() == pytest.approx(6.0 + 5.0)


def test_a_node_that_counts_all_of_itself_is_asked_for_that(tmp_path: Path) -> None:
    make_zone(tmp_path / "powercap", "intel-rapl:0", "package-0", 1)
    counters = tmp_path / "pm_counters"
    counters.mkdir()
    (counters / "energy").write_text("27549854 J 1466461123456789 us\n")
    found = node_energy(counters, tmp_path / "powercap")
    assert found is not None and found[0] == "node"
    (counters / "energy").write_text("27550154 J 1466461123556789 us\n")
    assert found[1]() == 300.0


def test_what_is_not_there_or_may_not_be_read_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert node_energy(tmp_path, tmp_path) is None
    make_zone(tmp_path, "intel-rapl:0", "package-0", 1)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    os.mkdir(tmp_path / "intel-rapl:0" / "energy_uj")
    assert node_energy(tmp_path / "none", tmp_path) is None


class NVMLError(Exception):
    """As NVML's own."""


def nvml(**answers: object) -> SimpleNamespace:
    """A module as nvidia-ml-py's."""
    usual = {"nvmlInit": lambda: None, "nvmlDeviceGetHandleByPciBusId": lambda address: address, "NVML_CLOCK_SM": 1}
    return SimpleNamespace(NVMLError=NVMLError, **(usual | answers))


def test_a_card_tells_its_energy_and_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([5_000_000, 5_000_000, 5_350_000])
    told = nvml(
        nvmlDeviceGetTotalEnergyConsumption=lambda card: next(drawn), nvmlDeviceGetClockInfo=lambda card, kind: 1410
    )
    monkeypatch.setitem(sys.modules, "pynvml", told)
    found = gpu_readings("00000000:3b:00.0")
    assert found["energy_joules"]() == pytest.approx(350.0) and found["clock_hertz"]() == 1.41e9


def test_a_card_that_does_not_tell_is_asked_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise NVMLError("Not Supported")

    told = nvml(nvmlDeviceGetTotalEnergyConsumption=refuses, nvmlDeviceGetClockInfo=lambda card, kind: 1410)
    monkeypatch.setitem(sys.modules, "pynvml", told)
    assert list(gpu_readings("00000000:3b:00.0")) == ["clock_hertz"]
    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlInit=refuses))
    assert gpu_readings("") == {}
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_readings("") == {}


def test_a_node_is_told_of_by_one_of_its_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utilisation, "node_energy", lambda: ("processors", lambda: 5.0))
    cpu = torch.device("cpu")
    assert list(utilisation.find_gauges(cpu, 1, node=False)) == ["utilisation"]
    assert utilisation.find_gauges(cpu, 1, node=True)["node_energy_joules"]() == 5.0


def test_statistics_over_ranks_are_those_of_the_ranks_that_tell_of_a_node() -> None:
    everyone = np.zeros((2, 4, len(RANK_NAMES)))
    everyone[:, :, NODE_ENERGY] = [[np.nan] * 4, [6.0, np.nan, 2.0, np.nan]]
    found = summarise_ranks(everyone)[:, :, NODE_ENERGY]
    np.testing.assert_array_equal(found, [[np.nan] * 3, [2.0, 4.0, 6.0]])


SPANS = {"forward_seconds": constant(0.5, 10, 4)}


@pytest.mark.parametrize(
    ("facts", "joules", "who"),
    [
        # 4 ranks, 32 samples each in half a second: 256 samples a second; 2 nodes, and as they are named 2 GPUs.
        ({"node_watts": 512.0, "provenance": {"node_energy": "node"}, "watts": 256.0}, 4.0, "nodes"),
        ({"node_watts": 512.0, "provenance": {"node_energy": "processors"}}, 4.0, "processors"),
        ({"node_watts": 512.0, "watts": 256.0, "resumed": (5,)}, 6.0, "GPUs and processors"),
        ({"watts": 256.0}, 2.0, "GPUs"),
        ({"watts": 256.0, "labels": [0, 2]}, 2.0, "GPUs"),
        ({"watts": 256.0, "labels": "summary"}, 2.0, "GPUs"),
        ({}, math.nan, ""),
    ],
)
def test_joules_a_sample(tmp_path: Path, facts: dict[str, object], joules: float, who: str) -> None:
    made = FakeRun(SPANS, ["none"] * 10, blocks=[0, 0, 1, 1], **facts)  # type: ignore[arg-type]
    found = energy_per_sample(load_run(made.write(tmp_path / "run")))
    assert found == (pytest.approx(joules, nan_ok=True), who)
