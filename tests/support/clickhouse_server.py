"""Serves ClickHouse's engine as a server would: `python -m tests.support.clickhouse_server` says on which port.

The engine lives in a process of its own, where there can be only one: it takes what is sent to ClickHouse's HTTP
interface, and answers as that does, as far as its client for Python asks.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import chdb

MEMORY_BYTES_MAX: Final = 1 << 30
QUERY_BYTES: Final = 256 << 10
"""As long as a statement may be that says nothing else."""


class Engine:
    """One question after the other."""

    def __init__(self) -> None:
        self._connection = chdb.connect(":memory:")
        self._turn = threading.Lock()
        # What is compiled is compiled for many rows, and here there are few.
        self._connection.query(
            f"SET max_memory_usage = {MEMORY_BYTES_MAX}, max_threads = 1, compile_expressions = 0,"
            " compile_aggregate_expressions = 0, compile_sort_description = 0"
        )
        self._settings: dict[str, bytes] = {}

    def ask(self, sql: str, shape: str, *, bytes_max: int = QUERY_BYTES) -> bytes:
        with self._turn:
            self._connection.query(f"SET max_query_size = {bytes_max}")
            # A thousand, that every client asks for and that never change.
            if "system.settings" not in sql:
                return bytes(self._connection.query(sql, shape).bytes())
            if sql not in self._settings:
                self._settings[sql] = bytes(self._connection.query(sql, shape).bytes())
            return self._settings[sql]

    def insert(self, sql: str, block: bytes) -> None:
        """The engine reads what is inserted from a file."""
        before, _, shape = sql.rpartition("FORMAT")
        with tempfile.NamedTemporaryFile(suffix=".block") as file:
            file.write(block)
            file.flush()
            self.ask(f"{before} FROM INFILE '{Path(file.name)}' FORMAT {shape}", "TabSeparated")


class Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: Engine

    def do_GET(self) -> None:
        self._answer(HTTPStatus.OK, b"Ok.\n", "TabSeparated")

    def do_POST(self) -> None:
        asked = {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()}
        body = self._body()
        try:
            if "query" in asked:
                self.engine.insert(asked["query"], body)
                self._answer(HTTPStatus.OK, b"", "TabSeparated")
                return
            sql, _, shape = body.decode().rpartition("FORMAT ")
            if not sql or "\n" in shape.strip() or " " in shape.strip():
                sql, shape = body.decode(), asked.get("default_format", "TabSeparated")
            bytes_max = int(asked.get("max_query_size", QUERY_BYTES))
            self._answer(HTTPStatus.OK, self.engine.ask(sql, shape.strip(), bytes_max=bytes_max), shape.strip())
        except RuntimeError as error:
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, str(error).encode(), "TabSeparated", failed=True)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, code: HTTPStatus, content: bytes, shape: str, *, failed: bool = False) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-ClickHouse-Format", shape)
        self.send_header("X-ClickHouse-Timezone", "UTC")
        if failed:
            self.send_header("X-ClickHouse-Exception-Code", "1")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # Any: as the base class has it
        """Nobody reads it."""


def main() -> None:
    Requests.engine = Engine()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()  # until whoever started it is gone


if __name__ == "__main__":
    main()
