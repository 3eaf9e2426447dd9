"""Waiting, giving up, and redirects: by the numbers of the standards."""

from __future__ import annotations

import random
import socket
import threading
import time
from datetime import UTC, datetime

import httpx
import numpy as np
import pytest
import requests

from gqs.archive import http
from gqs.errors import NetworkError

QUICK = http.Patience(first_wait_s=0.001, longest_wait_s=0.002, unreachable_s=0.5, tries=4)
HOSTS = ("data.sdss.org", "dr16.sdss.org")


def test_waits_double_up_to_a_limit_and_are_spread_over_their_whole_range() -> None:
    patience, chance = http.Patience(first_wait_s=0.5, longest_wait_s=4.0), random.Random(3)
    for tries, most in ((1, 0.5), (2, 1.0), (4, 4.0), (9, 4.0)):
        drawn = np.array([http.backoff(tries, patience, chance) for _ in range(4000)])
        # Uniform: mean most / 2, deviation most / sqrt(12); 5 sigma of 4,000 draws.
        assert abs(drawn.mean() - most / 2) < 5 * most / np.sqrt(12 * 4000)
        assert drawn.min() < 0.01 * most and 0.99 * most < drawn.max() <= most


def test_retry_after_in_seconds_and_as_a_date() -> None:
    now = datetime(1999, 12, 31, 23, 57, 59, tzinfo=UTC)
    assert http.retry_after("120") == 120.0
    assert http.retry_after("Fri, 31 Dec 1999 23:59:59 GMT", now) == 120.0  # RFC 9110, 10.2.3
    assert http.retry_after("Fri, 31 Dec 1999 23:00:00 GMT", now) == 0.0
    for nothing in (None, "", "soon", "-5", "1e9", "٣"):
        assert http.retry_after(nothing, now) is None


@pytest.mark.parametrize(
    ("location", "leads"),
    [
        ("/sas/b", "https://data.sdss.org/sas/b"),
        ("b", "https://data.sdss.org/sas/b"),
        ("https://dr16.sdss.org/x", "https://dr16.sdss.org/x"),
        ("https://DATA.sdss.org:443/x", "https://DATA.sdss.org:443/x"),
    ],
)
def test_redirects_to_listed_hosts_are_followed(location: str, leads: str) -> None:
    assert http.redirected("https://data.sdss.org/sas/a", location, HOSTS) == leads


@pytest.mark.parametrize(
    "location",
    [
        "https://elsewhere.org/sas/a",
        "https://data.sdss.org.elsewhere.org/",
        "https://data.sdss.org@elsewhere.org/",
        "http://data.sdss.org/sas/a",  # no longer encrypted
        "https://data.sdss.org:8443/",
        "https://127.0.0.1/",
        "http://[::1]/",
        "file:///etc/passwd",
        "ftp://data.sdss.org/a",
        "https://data.sdss.org:port/",
        "https://[data.sdss.org/",
    ],
)
def test_redirects_elsewhere_are_refused(location: str) -> None:
    with pytest.raises(NetworkError, match=r"data\.sdss\.org: redirects to"):
        http.redirected("https://data.sdss.org/sas/a", location, HOSTS)


def test_failures_of_two_libraries_have_the_same_words() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refused
        refusing = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for get in (httpx.get, requests.get):
            for url, said in ((refusing, "refuses"), ("http://no-such-host.invalid", "found")):
                with pytest.raises((httpx.HTTPError, requests.RequestException)) as raised:
                    get(url, timeout=5)
                words, reached = http.why(raised.value)
                assert said in words and not reached


def test_a_line_tries_again_and_then_gives_up() -> None:
    calls: list[float] = []

    def third_time() -> str:
        calls.append(time.monotonic())
        if len(calls) < 3:
            raise http.Failure("broke the connection off")
        return "whole"

    assert http.Line("here", QUICK).persist(third_time) == "whole"

    def never() -> None:
        calls.append(0.0)
        raise http.Failure("broke the connection off")

    calls.clear()
    with pytest.raises(NetworkError, match="here: broke the connection off, 4 times in a row"):
        http.Line("here", QUICK).persist(never)
    assert len(calls) == 4


def test_what_no_repetition_helps_is_not_told_to_go_on() -> None:
    def forbidden() -> None:
        raise http.Failure("answers with 403 Forbidden", again=False)

    with pytest.raises(NetworkError, match=r"here: answers with 403 .* will not help") as refusal:
        http.Line("here", QUICK).persist(forbidden)
    assert "goes on" not in str(refusal.value)


def test_progress_starts_the_count_anew() -> None:
    left = iter([True] * 20)

    def crawling() -> str:
        if next(left, False):
            raise http.Failure("broke the connection off", progress=True)
        return "whole"

    assert http.Line("here", QUICK).persist(crawling) == "whole"


def test_a_host_that_is_not_there_is_given_up_by_the_clock() -> None:
    def silent() -> None:
        time.sleep(0.2)
        raise http.Failure("does not answer", reached=False)

    begin = time.monotonic()
    with pytest.raises(http.UnreachableError, match="gone: does not answer"):
        http.Line("gone", http.Patience(unreachable_s=0.5, tries=99)).persist(silent)
    assert time.monotonic() - begin < 1.0


def test_only_the_time_spent_calling_counts_against_a_host() -> None:
    """A check of files, or the sleep between two looks at a job, is no silence of the server."""
    line = http.Line("here", http.Patience(connect_s=0.02, unreachable_s=0.1, first_wait_s=0.01))
    time.sleep(0.2)
    assert not line.overdue
    assert line.persist(lambda: "whole") == "whole"
    time.sleep(0.2)
    tries = iter([True, False])

    def once_away() -> str:
        if next(tries):
            raise http.Failure("refuses the connection", reached=False)
        return "whole"

    assert line.persist(once_away) == "whole"


def test_everybody_on_a_line_keeps_the_pause_that_one_was_asked_for() -> None:
    line, begin, ended = http.Line("busy", QUICK), time.monotonic(), []

    def busy_once() -> None:
        if not ended and threading.current_thread().name == "first":
            ended.append("asked")
            raise http.Failure("answers with 503", after_s=0.4)

    first = threading.Thread(target=line.persist, args=(busy_once,), name="first")
    first.start()
    time.sleep(0.05)
    line.persist(busy_once)
    assert time.monotonic() - begin >= 0.4
    first.join()


def test_a_pause_too_long_is_not_waited_for() -> None:
    def busy() -> None:
        raise http.Failure("answers with 503", after_s=7200.0)

    with pytest.raises(NetworkError, match="come back in 120 minutes"):
        http.Line("busy", QUICK).persist(busy)


def test_waiting_ends_when_the_work_does() -> None:
    stop = threading.Event()
    line = http.Line("busy", QUICK, stop)
    line.pause(60.0)
    threading.Timer(0.1, stop.set).start()
    with pytest.raises(http.Stopped):
        line.persist(lambda: None)
