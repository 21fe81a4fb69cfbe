"""A stop that is asked for by a signal, in one process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.comm.stop import SIGNALS, StopRequest, StopSignals, listening


@pytest.fixture(autouse=True)
def _handlers_are_put_back() -> Iterator[None]:
    numbers = [*SIGNALS, signal.SIGINT]
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_agreed_on_at_a_set_step(number: signal.Signals) -> None:
    with listening(None) as signals:
        stop = StopRequest(SingleCommunicator(), 4, signals)
        assert [stop.agreed(step) for step in range(6)] == [False] * 6
        os.kill(os.getpid(), number)
        assert [stop.agreed(step) for step in range(6, 13)] == [False] * 6 + [True]


def test_a_signal_that_came_before_the_run_counts() -> None:
    signals = StopSignals()
    signals.listen()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        with listening(signals) as inner:
            assert inner is signals
            stop = StopRequest(SingleCommunicator(), 4, inner)
            assert [stop.agreed(step) for step in range(5)] == [False] * 4 + [True]
        # Who has listened before the run still does after it.
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signals.close()


def test_another_run_is_not_stopped_by_the_signal_of_the_one_before() -> None:
    with listening(None):
        os.kill(os.getpid(), signal.SIGUSR1)
    with listening(None) as signals:
        assert not signals.came


def test_a_thread_cannot_listen_and_does_not_try() -> None:
    failures: list[BaseException] = []

    def listen() -> None:
        try:
            with listening(None) as signals:
                assert not signals.came
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert not failures


def test_ctrl_c_asks_for_a_stop_once_and_ends_the_second_time() -> None:
    with listening(None) as signals:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)  # before there is anything to keep
        assert not signals.came
        with signals.heeding_interrupts():
            signal.raise_signal(signal.SIGINT)
            assert signals.came
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_what_nohup_lets_a_process_ignore_is_ignored(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with listening(None) as signals, signals.heeding_interrupts():
            signal.raise_signal(number)
            assert not signals.came
    finally:
        signal.signal(number, before)
