"""The energy that a machine counts: counters of joules that wrap, are set back, or are not there.

A node counts all that it draws (``/sys/cray/pm_counters`` of HPE Cray EX), or its processors and their memory (RAPL,
``/sys/class/powercap``, which many systems let root alone read). A GPU of NVIDIA's counts what its card draws.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PM_COUNTERS = Path("/sys/cray/pm_counters")
POWERCAP = Path("/sys/class/powercap")

MOST_WATTS = 20_000.0
SLACK_SECONDS = 1.0
"""No device or node draws more, and none counts later than that: a counter that would have moved on faster by having
wrapped was set back."""

MICRO = 1e-6


class Counter:
    """Joules since it was made, by a counter that only says how many there were since some time."""

    def __init__(self, read: Callable[[], float], range_joules: float = math.nan) -> None:
        """
        Args:
            read: gives what the counter says, in joules.
            range_joules: the counter begins at 0 again where it would come to this; NaN: it does not.
        """
        self._read = read
        self._range = range_joules
        self._last, self._then = read(), time.monotonic()
        self._joules = 0.0

    def take(self) -> float:
        """The joules so far; of a counter that was set back, those since then, as nobody saw the rest."""
        value, now = self._read(), time.monotonic()
        most = MOST_WATTS * (now - self._then + SLACK_SECONDS)
        grown = value - self._last
        for joules in (grown, grown + self._range, value):
            if 0 <= joules <= most:
                self._joules += joules
                break
        self._last, self._then = value, now
        return self._joules


def total(counters: Sequence[Counter]) -> Callable[[], float]:
    """Gives the joules of all of them; NaN as long as none has moved: some are there, and never do."""
    return lambda: sum(counter.take() for counter in counters) or math.nan


def node_energy(pm_counters: Path = PM_COUNTERS, powercap: Path = POWERCAP) -> tuple[str, Callable[[], float]] | None:
    """What counts the energy of this node, and what gives its joules from now on; None: nothing that may be read.

    Returns:
        ``node``, where all that the node draws is counted; or ``processors``, with the memory where that is counted.
    """
    try:
        whole = pm_counters / "energy"
        if whole.exists():
            return "node", total([Counter(lambda: float(whole.read_text().split()[0]))])
        zones = [path for path in sorted(powercap.glob("intel-rapl:*")) if _is_counted(path)]
        counters = [_zone(path) for path in zones]
    except (OSError, ValueError, IndexError):
        return None
    return ("processors", total(counters)) if counters else None


def node_energy_source() -> str | None:
    """What counts the energy of this node, as :func:`node_energy` says it."""
    found = node_energy()
    return None if found is None else found[0]


def _is_counted(zone: Path) -> bool:
    """Whether a zone of RAPL is a processor, or the memory of one: others are parts of these, or the sum of all."""
    name = (zone / "name").read_text().strip()
    return name.startswith("package") or name == "dram"


def _zone(path: Path) -> Counter:
    """The counter of a zone of RAPL."""
    most = path / "max_energy_range_uj"
    span = MICRO * float(most.read_text()) if most.exists() else math.nan
    return Counter(lambda: MICRO * float((path / "energy_uj").read_text()), span)


def gpu_readings(bus_address: str) -> dict[str, Callable[[], float]]:
    """What NVML (nvidia-ml-py) tells of the card at a place on the PCI bus, as ``00000000:3b:00.0``.

    Returns:
        By the names of the log's columns: the joules from now on, and the clock of its multiprocessors, hertz. What
        the card does not tell is left out.
    """
    try:
        import pynvml
    except ModuleNotFoundError:
        return {}
    try:
        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByPciBusId(bus_address)
    except pynvml.NVMLError:
        return {}

    def joules() -> float:
        return 1e-3 * float(pynvml.nvmlDeviceGetTotalEnergyConsumption(card))

    def hertz() -> float:
        return 1e6 * float(pynvml.nvmlDeviceGetClockInfo(card, pynvml.NVML_CLOCK_SM))

    found: dict[str, Callable[[], float]] = {}
    makers: dict[str, Callable[[], Callable[[], float]]] = {
        "energy_joules": lambda: total([Counter(joules)]),
        "clock_hertz": lambda: hertz,
    }
    for name, make in makers.items():
        try:
            found[name] = make()
            found[name]()
        except pynvml.NVMLError:
            found.pop(name, None)
    return found
