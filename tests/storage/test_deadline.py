"""The time that a call is given, as all below it see it."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelstore import deadline
from modelstore.exceptions import DeadlineExceededError, InvalidArgumentError
from modelstore.storage import guard


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, as the module sees it; sleeping moves it on."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.append(now.pop() + seconds))
    return now


def test_without_a_deadline_there_is_none(clock: list[float]) -> None:
    """Nothing is left, nothing exceeded, and limits and pauses are what was asked for."""
    with deadline.within(None):
        assert deadline.remaining() is None
        assert deadline.exceeded() is None
        assert deadline.at_most(7.5) == 7.5
        deadline.pause(3600)
    assert clock == [4600.0]


def test_time_runs_out(clock: list[float]) -> None:
    """What is left shrinks, limits shrink with it, and at its end the error says what was given and was being done."""
    with deadline.within(10):
        assert deadline.remaining() == 10
        clock[0] += 6
        assert deadline.remaining() == 4
        assert (deadline.at_most(30), deadline.at_most(3)) == (4, 3)
        assert deadline.exceeded() is None
        clock[0] += 4
        for ask in (deadline.remaining, lambda doing, key: deadline.at_most(30, doing, key)):
            with pytest.raises(DeadlineExceededError, match="10 s.* while reading a/b") as caught:
                ask("reading a/b", "a/b")
            assert (caught.value.seconds, caught.value.key) == (10, "a/b")
        error = deadline.exceeded("listing", "a/")
        assert isinstance(error, DeadlineExceededError)
        assert "listing" in str(error)
    assert deadline.remaining() is None


def test_the_earliest_deadline_counts(clock: list[float]) -> None:
    """A call within another can take less time, not more; afterwards the outer deadline holds again."""
    with deadline.within(10):
        with deadline.within(3):
            assert deadline.remaining() == 3
        with deadline.within(60):
            assert deadline.remaining() == 10
        with deadline.within(None):
            assert deadline.remaining() == 10
        clock[0] += 1
        assert deadline.remaining() == 9


def test_the_deadline_ends_with_an_error_too(clock: list[float]) -> None:
    """An error that leaves the context takes the deadline with it."""
    with pytest.raises(ZeroDivisionError), deadline.within(10):
        raise ZeroDivisionError
    assert deadline.remaining() is None


@pytest.mark.parametrize("seconds", [0, -1, 0.0, math.nan, True, "10", [1]])
def test_what_is_no_time_is_refused(seconds: object) -> None:
    """A timeout is a number above 0."""
    with pytest.raises(InvalidArgumentError, match="timeout") as caught, deadline.within(seconds):  # type: ignore[arg-type]
        pass
    assert caught.value.argument == "timeout"


def test_for_ever_is_no_deadline(clock: list[float]) -> None:
    """An infinite timeout, which no socket would take, is none, and lifts no other."""
    with deadline.within(math.inf):
        assert deadline.remaining() is None
    with deadline.within(5), deadline.within(math.inf):
        assert deadline.remaining() == 5


@pytest.mark.parametrize("seconds", [threading.TIMEOUT_MAX * 10, 10**400])
def test_longer_than_a_thread_can_wait_is_no_deadline(seconds: float) -> None:
    """Centuries are for ever, instead of an error of the system's."""
    with deadline.within(seconds):
        assert guard.in_time(lambda: 7) == 7
        assert deadline.remaining() is None


def test_a_pause_ends_before_the_deadline(clock: list[float]) -> None:
    """A pause that would last longer is not begun: the time is better spent on saying so."""
    with deadline.within(10):
        deadline.pause(4)
        assert clock == [1004.0]
        with pytest.raises(DeadlineExceededError):
            deadline.pause(6)
        assert clock == [1004.0]
        deadline.pause(5.9)


def test_tidying_up_has_time_of_its_own(clock: list[float]) -> None:
    """After a deadline is over, `afresh` gives what must still be done some time, and no more."""
    with deadline.within(1):
        clock[0] += 2
        with deadline.afresh(5):
            assert deadline.remaining() == 5
            with deadline.within(60):
                assert deadline.remaining() == 5
        with pytest.raises(DeadlineExceededError):
            deadline.remaining()


def test_threads_take_it_along_where_they_are_told() -> None:
    """Another thread has the deadline under `carried` alone, and keeps none afterwards."""
    with ThreadPoolExecutor(1) as pool, deadline.within(60):
        assert pool.submit(deadline.remaining).result() is None
        left = pool.submit(deadline.carried(deadline.remaining)).result()
        assert left is not None
        assert 0 < left <= 60
        assert pool.submit(deadline.remaining).result() is None
        assert deadline.carried(lambda a, b: a - b)(5, b=3) == 2


def test_threads_do_not_share_it() -> None:
    """Calls in two threads have their own deadlines, at the same time."""
    both = threading.Barrier(2)

    def left(seconds: float) -> float:
        with deadline.within(seconds):
            both.wait()
            found = deadline.remaining()
            both.wait()
        assert found is not None
        return found

    with ThreadPoolExecutor(2) as pool:
        short, long = pool.map(left, [50, 5000])
    assert 0 < short <= 50
    assert 4000 < long <= 5000
