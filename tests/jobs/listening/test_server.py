"""The server of the listening test: who gets in, what is told, and that nothing tells which is which."""

from __future__ import annotations

import http.client
import json
import re
from contextlib import ExitStack

import numpy as np
import pytest

from jobs.listening.audio import Stimulus
from jobs.listening.records import read_sessions
from jobs.listening.server import ListeningServer
from jobs.listening.session import Asked, open_session, prepare
from jobs.listening.sources import Sides
from tests.jobs.listening.sounds import HEARD, decoded


class Client:
    """Asks a server, as a browser would."""

    def __init__(self, server: ListeningServer) -> None:
        self.server = server
        self.base = f"/{server.token}/"

    def ask(self, method: str, path: str, *, body=None, whole=False, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        connection.request(method, path if whole else self.base + path, body=body, headers=headers)
        reply = connection.getresponse()
        data = reply.read()
        connection.close()
        return reply.status, dict(reply.getheaders()), data

    def state(self) -> dict:
        return json.loads(self.ask("GET", "state")[2])

    def answer(self, trial: int, choice: str = "1", **fields):
        body = {"trial": trial, "choice": choice, "plays": HEARD, "seconds": 2.5} | fields
        return self.ask("POST", "answer", body=body)


@pytest.fixture
def serve(opened):
    """Return a function that opens a session and a server, and returns its client."""
    with ExitStack() as stack:

        def start(*words, **options) -> Client:
            session = stack.enter_context(opened(*words, **options))
            server = ListeningServer(session, result=lambda: ["You hear a difference"])
            return Client(stack.enter_context(server))

        yield start


def test_a_whole_session_over_http(serve, tmp_path):
    client = serve(trials=6)
    assert client.state() == {
        "mode": "abx", "trial": 0, "trials": 6, "buttons": ["1", "2", "x"], "choices": ["1", "2"],
    }  # fmt: skip
    for number in range(6):
        sounds = {w: client.ask("GET", f"sound/{number}/{w}")[2] for w in "12x"}
        is_first = np.abs(decoded(sounds["1"]) - decoded(sounds["x"])).max() < 1e-5
        status, _, data = client.answer(number, "1" if is_first else "2")
        assert status == 200
        state = json.loads(data)
        assert ("result" in state) == (number == 5)
    assert state["result"] == ["You hear a difference"]
    assert not client.server.ended.is_set()
    assert client.ask("POST", "end", body={})[0] == 200
    # Set after the reply was sent: the process may end then.
    assert client.server.ended.wait(10)
    (record,) = read_sessions(tmp_path / "listening")
    assert record.tally().hits == 6
    assert record.answers[0].seconds == 2.5


def test_the_page_fetches_nothing_and_runs_only_its_own_script(serve):
    status, headers, page = serve().ask("GET", "")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    text = page.decode()
    assert re.findall(r"https?:|//[a-z]+\.", text) == []
    assert re.findall(r"\b(?:src|href)=\"(?!data:,)", text) == []
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Server"] == "sepdash"


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 404),
        ("/state", {}, 404),
        ("/wrong-token/state", {}, 404),
        ("/{token}", {}, 404),
        ("/{token}/nothing", {}, 404),
        ("/{token}/sound/0/y", {}, 404),
        ("/{token}/sound/0/../../state", {}, 404),
        ("/{token}/sound/5/1", {}, 409),
        ("/{token}/state", {"Host": "evil.example"}, 403),
        ("/{token}/state", {"Host": "127.0.0.1.evil.example:80"}, 403),
        ("/{token}/state", {"Host": "[::1"}, 403),
        ("/{token}/state", {"Origin": "http://evil.example"}, 403),
        ("/{token}/state", {"Origin": "null"}, 403),
        ("/{token}/state", {"Host": "localhost:9999"}, 200),
        ("/{token}/state", {"Host": "localhost:9", "Origin": "http://localhost:9"}, 200),
        ("/{token}/state", {"Host": "localhost:9", "Origin": "http://localhost:8"}, 403),
    ],
)
def test_only_who_knows_the_address_gets_in(serve, path, headers, status):
    client = serve()
    path = path.format(token=client.server.token)
    got, reply_headers, data = client.ask("GET", path, whole=True, **headers)
    assert got == status
    assert reply_headers["X-Content-Type-Options"] == "nosniff"
    if status in (403, 404):
        assert b"abx" not in data


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"body": b"{}", "Content_Type": "text/plain"}, 400),
        ({"body": b"[1]", "Content_Type": "application/json"}, 400),
        ({"body": b"{", "Content_Type": "application/json"}, 400),
        ({"body": b" " * 5000, "Content_Type": "application/json"}, 400),
        ({"body": {}}, 400),
        ({"body": {"trial": 0, "choice": "1", "plays": [], "seconds": 1}}, 400),
        ({"body": {"trial": "one", "choice": "1", "plays": HEARD, "seconds": 1}}, 400),
        ({"body": {"trial": 0, "choice": "1", "plays": HEARD, "seconds": 1}, "Origin": "http://evil.example"}, 403),
        ({"body": {"trial": 0, "choice": "0", "plays": HEARD, "seconds": 1}}, 409),
        ({"body": {"trial": 3, "choice": "1", "plays": HEARD, "seconds": 1}}, 409),
        ({"body": {"trial": 0, "choice": "1", "plays": {"1": 1}, "seconds": 1}}, 409),
    ],
)  # fmt: skip
def test_bad_answers_are_refused_and_change_nothing(serve, options, status):
    client = serve()
    assert client.ask("POST", "answer", **options)[0] == status
    assert client.state()["trial"] == 0
    assert client.answer(0)[0] == 200


def test_a_double_click_answers_one_trial(serve):
    client = serve()
    assert [client.answer(0)[0] for _ in range(2)] == [200, 409]
    assert client.state()["trial"] == 1


@pytest.mark.parametrize("mode", ["abx", "preference"])
def test_nothing_but_the_sounds_depends_on_which_side_is_which(mode, material, tmp_path):
    """The same test with A and B exchanged: every reply is the same bytes, but for the samples."""
    sides = material.sides
    exchanged = Sides(
        "another/name", "x",
        stimuli=tuple(Stimulus(item.item, item.b, b=item.a) for item in sides.stimuli),
    )  # fmt: skip
    recorded = []
    for number, one in enumerate((sides, exchanged)):
        made = prepare(one, excerpt_s=10)
        folder = tmp_path / f"home-{number}"
        session = open_session(folder, made, asked=Asked(mode, "ann", trials=4, seed="1"))
        with session, ListeningServer(session, result=list) as server:
            recorded.append(_replies(Client(server), session.buttons))
    (replies_a, sounds_a), (replies_b, sounds_b) = recorded
    assert replies_a == replies_b
    assert [data[:44] for data in sounds_a] == [data[:44] for data in sounds_b]
    assert [len(data) for data in sounds_a] == [len(data) for data in sounds_b]
    # The guard guards: the samples do differ.
    assert all(one != two for one, two in zip(sounds_a, sounds_b, strict=True))
    for text in ("left", "right", "another", "item0"):
        assert all(text.encode() not in data for _, _, data in replies_a[1:])


def _replies(client: Client, buttons) -> tuple[list, list[bytes]]:
    replies, sounds = [client.ask("GET", ""), client.ask("GET", "state")], []
    for number in range(4):
        for which in buttons:
            status, headers, data = client.ask("GET", f"sound/{number}/{which}")
            sounds.append(data)
            replies.append((status, headers, b""))
        replies.append(client.answer(number, "1"))
    return [
        (status, {k: v for k, v in headers.items() if k != "Date"}, data)
        for status, headers, data in replies
    ], sounds


def test_leaving_ends_connections_that_a_browser_keeps_open(opened):
    with opened() as session:
        with ListeningServer(session, result=list) as server:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request("GET", f"/{server.token}/state")
            assert connection.getresponse().read()
        connection.sock.settimeout(10)
        assert connection.sock.recv(1) == b""
        connection.close()
