"""A fixed sample of ``make soak``: every row of both tables, each at another phase and rank."""

from __future__ import annotations

import pytest

from tests.soak.cells import damage_cells, joint_cells, process_cells, resume_cells
from tests.soak.run import Soak, fixed_sample

KINDS = {
    "SIGKILL": {"recovered"},
    "SIGSTOP": {"recovered"},
    "USR1": {"recovered"},
    "exception": {"recovered"},
    "NaN": {"recovered"},
    "flipped bit": {"recovered", "not detectable"},
    "full disk": {"recovered"},
    "truncated checkpoint": {"recovered"},
    "truncated log": {"ended cleanly"},
    "two jobs": {"refused"},
}
"""The rows of the fault table, and what may become of a cell."""


@pytest.fixture(scope="module")
def soak(tmp_path_factory: pytest.TempPathFactory) -> Soak:
    """The sample, run."""
    soak = Soak(tmp_path_factory.mktemp("soak"))
    soak.run(fixed_sample())
    return soak


def test_nothing_is_silent_hung_or_lost(soak: Soak) -> None:
    assert soak.bad() == []


def test_runs_that_were_stopped_or_killed_end_with_the_same_bits(soak: Soak) -> None:
    assert [stop["from"] for stop in soak.stops] == [stop["stop"] for stop in soak.stops]
    assert [outcome.verdict for outcome in soak.kills] == ["recovered"] * len(soak.kills)


@pytest.mark.parametrize("kind", KINDS)
def test_every_fault_is_met_as_promised(soak: Soak, kind: str) -> None:
    verdicts = {outcome.verdict for outcome in soak.faults if outcome.cell.fault.kind == kind}
    assert verdicts and verdicts <= KINDS[kind], soak.report()


def test_a_stopped_rank_is_named(soak: Soak) -> None:
    stopped = [outcome for outcome in soak.faults if outcome.cell.fault.kind == "SIGSTOP"]
    assert stopped and all(f"did not come: [{o.cell.fault.rank}]" in o.said for o in stopped)


def test_a_flip_in_a_local_step_is_reported_as_what_it_is(soak: Soak) -> None:
    """No redundancy, no detection: it may not be counted as harmless."""
    (flip,) = [outcome for outcome in soak.faults if outcome.cell.undetectable]
    assert flip.verdict == "not detectable" and "averagings" in flip.cell.undetectable


def test_the_report_shows_every_row(soak: Soak) -> None:
    report = soak.report()
    assert all(f"| {kind} |" in report for kind in KINDS)
    assert "silent 0, hung 0" in report


def test_every_cell_has_a_name_of_its_own() -> None:
    cells = [*resume_cells(), *process_cells(), *joint_cells(), *damage_cells()]
    assert len({cell.name for cell in cells}) == len(cells)
    assert {cell.fault.kind for cell in cells} == {*KINDS, "kill -9"}
