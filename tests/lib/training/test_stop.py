"""Requests to stop are counted, and everything is as before afterwards."""

from __future__ import annotations

import os
import signal

import pytest

from lib.training.stop import StopSignals


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_the_first_request_decides_the_exit_code(number: int, exit_code: int) -> None:
    heard = []
    with StopSignals(on_request=heard.append) as stop:
        assert not stop.requested() and stop.exit_code == 0
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested()
    assert (stop.count, stop.exit_code, heard) == (2, exit_code, [number, signal.SIGTERM])


def test_handlers_are_as_before_afterwards() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with StopSignals():
        assert all(signal.getsignal(number) != handler for number, handler in zip(numbers, before, strict=True))
    assert [signal.getsignal(number) for number in numbers] == before


def test_under_nohup_a_lost_terminal_is_no_request() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_end_of_the_parent_is_a_request() -> None:
    assert not StopSignals(parent=os.getppid()).requested()
    orphan = StopSignals(parent=os.getppid() + 1)
    assert orphan.requested() and (orphan.count, orphan.exit_code) == (1, 143)
