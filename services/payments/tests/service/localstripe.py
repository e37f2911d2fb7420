"""localstripe, an independent imitation of Stripe, as a process of its own, and an unreliable line to it.

It is licensed under the GPL and therefore never imported, only spoken to. What it lacks decides what can be shown:

- It ignores `Idempotency-Key`. That the same key captures once is shown against the simulated gateway only; here it is
  shown that the key is sent, and that it stays the same.
- It knows no filters when payment intents are listed, and refuses them. The line drops them, so that more comes back
  than was asked for: the adapter has to pick out its own in any case.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

START_SECONDS = 20
CALL_SECONDS = 10
FILTERS = ("created", "customer")
STATE = Path("/tmp/localstripe.pickle")  # where it puts its data, whatever it is told; nobody reads it again

Fault = Callable[["_Line"], bool]
"""What happens to a request instead of an answer; whether that was all."""


def answer_with(status: int, code: str = "") -> Fault:
    def fault(line: _Line) -> bool:
        line.answer(status, b'{"error": {"type": "api_error", "code": "%s"}}' % code.encode())
        return True

    return fault


def lose_the_answer(line: _Line) -> bool:
    line.forward()
    line.connection.shutdown(socket.SHUT_RDWR)
    return True


class LocalStripe:
    """The process and the line. `faults` strike the next requests that would charge somebody; `keys` are those seen."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "localstripe.log"
        self._port = _free_port()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "localstripe", "--from-scratch", "--port", str(self._port)],
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.faults: list[Fault] = []
        self.keys: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._line)
        self._serving = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._serving.start()
        self._await_ready()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._serving.join()
        self._server.server_close()
        self._process.terminate()
        try:
            self._process.wait(CALL_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        STATE.unlink(missing_ok=True)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=CALL_SECONDS)

    def _line(self, request: socket.socket, client: tuple[str, int], server: ThreadingHTTPServer) -> _Line:
        return _Line(self, request, client, server)

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return
            time.sleep(0.05)
        self.close()
        raise RuntimeError(f"localstripe did not start: {self._log.read_text()[-2000:]}")


class _Line(BaseHTTPRequestHandler):
    def __init__(
        self,
        stripe: LocalStripe,
        request: socket.socket,
        client: tuple[str, int],
        server: ThreadingHTTPServer,
    ) -> None:
        self._stripe = stripe
        super().__init__(request, client, server)

    def do_GET(self) -> None:
        self.answer(*self.forward())

    def do_POST(self) -> None:
        if self.path == "/v1/payment_intents":
            self._stripe.keys.append(self.headers.get("Idempotency-Key", ""))
            if self._stripe.faults and self._stripe.faults.pop(0)(self):
                return
        self.answer(*self.forward())

    def forward(self) -> tuple[int, bytes]:
        parts = urlsplit(self.path)
        query = [(name, value) for name, value in parse_qsl(parts.query) if name.partition("[")[0] not in FILTERS]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: self.headers[name] for name in ("Authorization", "Content-Type") if self.headers[name]}
        with contextlib.closing(self._stripe.connect()) as connection:
            connection.request(self.command, parts._replace(query=urlencode(query)).geturl(), body, headers)
            response = connection.getresponse()
            return response.status, response.read()

    def answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Said nowhere: the log of localstripe has it all."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def running(folder: Path) -> Iterator[LocalStripe]:
    stripe = LocalStripe(folder)
    try:
        yield stripe
    finally:
        stripe.close()
