"""The page in a real browser: keys, switching in place, blindness, the end."""

from __future__ import annotations

import pytest

from jobs.listening.records import read_sessions
from jobs.listening.server import ListeningServer
from tests.jobs.listening.chromium import Chromium


@pytest.fixture
def browser(tmp_path):
    with Chromium(tmp_path / "profile") as opened:
        yield opened


@pytest.fixture
def serve(opened):
    """Return a function that serves a session and opens its page."""
    servers = []

    def start(browser: Chromium, mode: str, *, trials: int) -> ListeningServer:
        session = opened(mode, trials=trials).__enter__()
        server = ListeningServer(session, result=lambda: ["You hear a difference: all"]).__enter__()
        servers.append(server)
        browser.call("Page.navigate", url=server.url)
        browser.until("document.getElementById('title')?.textContent.startsWith('Trial 1 of')")
        return server

    yield start
    for server in servers:
        server.__exit__()
        server.session.__exit__(None, None, None)


def hear(browser: Chromium, *keys: str) -> None:
    for key in keys:
        browser.press(key)
        browser.until(f"playing !== null && playing.which === '{key}'")


def title(browser: Chromium) -> str:
    return browser.evaluate("document.getElementById('title').textContent")


@pytest.mark.slow
def test_a_session_by_keys_alone(browser, serve, tmp_path):
    server = serve(browser, "abx", trials=2)
    hear(browser, "1", "2", "x")
    # One start for all: what plays goes on at the same position, and only its gain is up.
    start = browser.evaluate("playing.start")
    hear(browser, "1")
    assert browser.evaluate("playing.start") == start
    browser.until(
        "playing.gains['1'].gain.value > 0.99 && playing.gains['2'].gain.value < 0.01 && playing.gains.x.gain.value < 0.01"
    )
    browser.until("context.currentTime - playing.start > 0.5")  # it goes round
    browser.press(" ")
    assert browser.evaluate("playing") is None
    browser.press(" ")
    browser.until("playing !== null && playing.which === '1'")
    assert browser.evaluate("document.getElementById('confirm').disabled")
    browser.press("Enter")
    assert title(browser) == "Trial 1 of 2"
    browser.press("ArrowRight")
    assert (
        browser.evaluate("document.getElementById('answer-2').getAttribute('aria-pressed')")
        == "true"
    )
    browser.press("Enter")
    browser.until("document.getElementById('title').textContent === 'Trial 2 of 2'")
    assert browser.evaluate("playing") is None
    hear(browser, "1", "2", "x")
    browser.press("ArrowLeft")
    browser.press("Enter")
    browser.until("document.getElementById('result').textContent === 'You hear a difference: all'")
    assert server.ended.wait(10)
    (record,) = read_sessions(tmp_path / "listening")
    assert [answer.plays["1"] for answer in record.answers] == [3, 1]
    first = server.session._trials[0]
    assert record.answers[0].answer == first.side("2")
    _nothing_from_elsewhere(browser, server)


@pytest.mark.slow
def test_preference_by_mouse_and_a_stop(browser, serve, tmp_path):
    server = serve(browser, "preference", trials=3)
    for which in "12":
        browser.click(f"sound-{which}")
        browser.until(f"playing !== null && playing.which === '{which}'")
    browser.press(" ")  # after a click, space still stops
    assert browser.evaluate("playing") is None
    browser.click("answer-0")
    browser.click("confirm")
    browser.until("document.getElementById('title').textContent === 'Trial 2 of 3'")
    browser.click("end")
    browser.until("document.getElementById('title').textContent === 'Stopped'")
    assert server.ended.wait(10)
    assert [answer.answer for answer in read_sessions(tmp_path / "listening")[0].answers] == [
        "none"
    ]
    _nothing_from_elsewhere(browser, server)


@pytest.mark.slow
def test_a_server_that_is_gone_is_said(browser, serve):
    server = serve(browser, "abx", trials=2)
    server.__exit__()
    browser.press("1")
    browser.until(
        "document.getElementById('problem').textContent.startsWith('The listening test is not running')"
    )


def _nothing_from_elsewhere(browser: Chromium, server: ListeningServer) -> None:
    """No request to another address, no blocked one, no error of the script."""
    browser.evaluate("1")
    urls = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert len(urls) > 4
    assert [url for url in urls if not url.startswith((server.url, "data:"))] == []
    names = {"Log.entryAdded", "Runtime.exceptionThrown"}
    assert [event for event in browser.events if event["method"] in names] == []
