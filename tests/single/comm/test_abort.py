"""One rank's failure ends the job."""

from __future__ import annotations

import threading

import pytest

from hpcsgd.comm.abort import abort_on_failure
from hpcsgd.comm.gradients import told_as_start
from hpcsgd.errors import UsageError
from tests.single.comm.counting import CountingCommunicator


def aborts(comm: CountingCommunicator) -> list[str]:
    return [call.name for call in comm.take()]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("broken"), 1),
        (SystemExit(3), 3),
        (SystemExit(0), 1),
        (SystemExit("text"), 1),
        (SystemExit(None), 1),
    ],
)
def test_any_exception_ends_all_ranks(error: BaseException, code: int, capfd: pytest.CaptureFixture[str]) -> None:
    comm = CountingCommunicator(size=3, rank=2)
    with abort_on_failure(comm):
        raise error
    assert aborts(comm) == [f"abort {code}"]
    text = capfd.readouterr().err
    assert "rank 2 of 3 failed" in text
    assert "Traceback" in text and type(error).__name__ in text


def test_ctrl_c_ends_all_ranks_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    comm = CountingCommunicator(size=3, rank=2)
    with abort_on_failure(comm):
        raise KeyboardInterrupt
    assert aborts(comm) == ["abort 130"]
    assert capfd.readouterr().err == ""


def test_what_one_rank_alone_has_met_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    comm = CountingCommunicator(size=3, rank=2)
    with abort_on_failure(comm), told_as_start("Gloo", "GLOO_*"):
        raise RuntimeError("[c10d] no route to host\n  its own stack")
    assert aborts(comm) == ["abort 2"]
    said = capfd.readouterr().err
    assert said.startswith("hpcsgd: rank 2: Gloo does not start on ") and "no route to host; see the variables" in said
    assert said.count("\n") == 1


def test_an_exception_in_a_thread_ends_all_ranks(capfd: pytest.CaptureFixture[str]) -> None:
    comm = CountingCommunicator(size=3, rank=1)
    hook = threading.excepthook
    with abort_on_failure(comm):
        thread = threading.Thread(target=lambda: [][0])
        thread.start()
        thread.join()
    assert aborts(comm) == ["abort 1"]
    assert "IndexError" in capfd.readouterr().err
    assert threading.excepthook is hook


def test_a_users_mistake_passes() -> None:
    comm = CountingCommunicator()
    with pytest.raises(UsageError), abort_on_failure(comm):
        raise UsageError("no such recipe")
    assert aborts(comm) == []


def test_one_rank_fails_as_python_does() -> None:
    comm = CountingCommunicator(size=1)
    with pytest.raises(RuntimeError), abort_on_failure(comm):
        raise RuntimeError("broken")
    assert aborts(comm) == []
