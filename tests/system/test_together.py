"""Work in several threads: all of it ends, whatever one piece does."""

import os
import signal
import threading
import time

import pytest

from bot.system.together import run_together


def test_results_are_returned_in_the_order_of_the_functions() -> None:
    def late() -> str:
        time.sleep(0.1)
        return "late"

    assert run_together([late, lambda: "soon"], lambda: None) == ["late", "soon"]


def test_an_error_is_raised_when_the_others_have_ended() -> None:
    ended: list[str] = []

    def fails() -> None:
        raise ValueError("it fails")

    def goes_on() -> None:
        time.sleep(0.2)
        ended.append("the other")

    with pytest.raises(ValueError, match="it fails"):
        run_together([fails, goes_on], lambda: None)
    assert ended == ["the other"]


def test_ctrl_c_stops_all() -> None:
    over = threading.Event()
    ended: list[int] = []

    def waits(number: int) -> None:
        assert over.wait(10)
        ended.append(number)

    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        run_together([lambda: waits(1), lambda: waits(2)], over.set)
    assert sorted(ended) == [1, 2]
