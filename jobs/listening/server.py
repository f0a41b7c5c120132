"""The listening test in a browser: a server on 127.0.0.1 with one page, behind a secret address.

Only who knows the token of the address gets anything. Requests that name another host (DNS rebinding) or
come from another site's page are refused. Addresses, headers and sizes are the same whichever side is
which.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import re
import secrets
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from jobs.listening.session import Session

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_LARGEST_BODY = 4096
_SILENCE_S = 30


class ListeningServer:
    """Serves a session until its last answer was given or the listener ends it.

    Args:
        session: open for answers.
        result: returns the lines to show at the end; called only then.
        port: 0 chooses a free one.
    """

    def __init__(self, session: Session, *, result: Callable[[], list[str]], port: int = 0) -> None:
        self.session = session
        self.result = result
        self.token = secrets.token_urlsafe(16)
        self.ended = threading.Event()
        # One answer at a time: a double click must not answer two trials.
        self.lock = threading.Lock()
        self.page, self.policy = _page()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.listening = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The address to open."""
        return f"http://127.0.0.1:{self.port}/{self.token}/"

    def __enter__(self) -> ListeningServer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()

    def state(self) -> dict[str, Any]:
        """Return what the page shows; the result only after the last answer."""
        session = self.session
        pending = session.pending
        state: dict[str, Any] = {
            "mode": session.mode,
            "trial": pending,
            "trials": session.num_trials,
            "buttons": session.buttons,
            "choices": session.choices,
        }
        if pending is None:
            state["result"] = self.result()
        return state


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Threads end with the process: one may be waiting for the next request of an idle browser.
    block_on_close = False
    listening: ListeningServer

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection in a thread, and remember it."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that browsers keep open."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _SILENCE_S
    server: _Server

    def version_string(self) -> str:
        """Name no versions."""
        return "sepdash"

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the terminal belongs to the command."""

    def do_GET(self) -> None:
        """Send the page, the state, or a sound."""
        path = self._allowed_path()
        if path is None:
            return
        listening = self.server.listening
        if path == "":
            self._send(listening.page, kind="text/html; charset=utf-8", policy=listening.policy)
        elif path == "state":
            self._send_json(listening.state())
        elif sound := re.fullmatch(r"sound/(\d{1,6})/([12x])", path):
            self._sound(int(sound[1]), sound[2])
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "not found")

    def do_POST(self) -> None:
        """Record an answer, or end the test."""
        path = self._allowed_path()
        if path is None:
            return
        body = self._body()
        if body is None:
            return
        listening = self.server.listening
        if path == "answer":
            self._answer(body)
        elif path == "end":
            self._send_json({})
            listening.ended.set()
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "not found")

    def _sound(self, number: int, which: str) -> None:
        listening = self.server.listening
        with listening.lock:
            try:
                if listening.session.pending != number:
                    raise ValueError("this trial is over; reload the page")
                data = listening.session.sound(which)
            except (ValueError, OSError) as error:
                self._refuse(HTTPStatus.CONFLICT, str(error))
                return
        self._send(data, kind="audio/wav")

    def _answer(self, body: dict[str, Any]) -> None:
        listening = self.server.listening
        try:
            number, choice, seconds = (
                int(body["trial"]),
                str(body["choice"]),
                float(body["seconds"]),
            )
            plays = {str(which): int(times) for which, times in body["plays"].items()}
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
            self._refuse(HTTPStatus.BAD_REQUEST, "malformed answer")
            return
        with listening.lock:
            try:
                listening.session.answer(number, choice, plays=plays, seconds=seconds)
            except (ValueError, OSError) as error:
                self._refuse(HTTPStatus.CONFLICT, str(error))
                return
        self._send_json(listening.state())

    def _allowed_path(self) -> str | None:
        """Return the path behind the token; None for a request that was refused."""
        host = self.headers.get("Host", "")
        origin = self.headers.get("Origin")
        if _hostname(host) not in _LOOPBACK:
            self._refuse(HTTPStatus.FORBIDDEN, "wrong host")
            return None
        if origin is not None and origin != f"http://{host}":
            self._refuse(HTTPStatus.FORBIDDEN, "wrong origin")
            return None
        token, slash, path = self.path.removeprefix("/").partition("/")
        expected = self.server.listening.token
        if not slash or not hmac.compare_digest(token.encode(), expected.encode()):
            self._refuse(HTTPStatus.NOT_FOUND, "not found")
            return None
        return path

    def _body(self) -> dict[str, Any] | None:
        """Return the JSON object of a request; None for one that was refused.

        A page of another site can't send this kind without asking first, and is not allowed to.
        """
        kind = self.headers.get("Content-Type", "")
        length = self.headers.get("Content-Length", "")
        if kind != "application/json" or not length.isdecimal() or int(length) > _LARGEST_BODY:
            self._refuse(HTTPStatus.BAD_REQUEST, "expected a small JSON object")
            return None
        try:
            value = json.loads(self.rfile.read(int(length)))
        except ValueError:
            value = None
        if not isinstance(value, dict):
            self._refuse(HTTPStatus.BAD_REQUEST, "expected a JSON object")
            return None
        return value

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        # What was not read of the request must not be taken for the next one.
        self.close_connection = True
        self._send(text.encode(), kind="text/plain; charset=utf-8", status=status)

    def _send_json(self, value: dict[str, Any]) -> None:
        self._send(json.dumps(value).encode(), kind="application/json")

    def _send(
        self, data: bytes, *, kind: str, status: HTTPStatus = HTTPStatus.OK, policy: str = "default-src 'none'"
    ) -> None:  # fmt: skip
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            "Content-Security-Policy": policy,
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Resource-Policy": "same-origin",
            **({"Connection": "close"} if self.close_connection else {}),
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _page() -> tuple[bytes, str]:
    """Return the page, and the policy that lets nothing run but its own script and style."""
    page = (files("jobs.listening") / "page.html").read_text(encoding="utf-8")
    hashes = {}
    for tag in ("script", "style"):
        found = re.search(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
        assert found is not None, tag
        digest = hashlib.sha256(found[1].encode()).digest()
        hashes[tag] = base64.b64encode(digest).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{hashes['script']}'; style-src 'sha256-{hashes['style']}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page.encode(), policy
