"""Knows what a client remembers: every command that was answered and every usage event that was acknowledged.

One JSON object per line, written as the answers come in. A client that was killed in the middle of a line has not
been told more than the lines before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from google.protobuf.message import Message

from saldo.metering.v1 import metering_service_pb2, usage_event_pb2

ACCEPTED: Final = "ACCEPTED"
OUTCOME: Final = usage_event_pb2.EventResult.Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One answer. A command has `method`, `request_id` and `digest`; a usage event has all the others."""

    seller_id: str
    method: str
    request_id: str = ""
    digest: str = ""
    outcome: str = ""
    source: str = ""
    id: str = ""
    customer: str = ""
    meter: str = ""
    time_ns: int = 0
    value: str = ""
    backfill: str = ""
    """The id of the one that it was loaded into."""

    @property
    def is_usage(self) -> bool:
        return bool(self.outcome)


class Journal:
    """Written by one client on behalf of one seller; `record` is what `tools.client.Client` calls."""

    def __init__(self, path: Path, *, seller_id: str) -> None:
        self._path = path
        self._seller_id = seller_id
        self._known = _lines(path)
        self._file = path.open("a", encoding="utf-8")
        if not _ends_with_a_line(path):
            self._file.write("\n")

    def record(self, method: str, request: Message, response: Message) -> None:
        if isinstance(request, metering_service_pb2.IngestEventsRequest):
            assert isinstance(response, metering_service_pb2.IngestEventsResponse)
            for event, result in zip(request.events, response.results, strict=True):
                self._write(
                    method=method,
                    outcome=OUTCOME.Name(result.outcome),
                    source=event.source,
                    id=event.id,
                    customer=event.customer,
                    meter=event.meter,
                    time_ns=event.time.seconds * 1_000_000_000 + event.time.nanos,
                    value=event.value.value if event.HasField("value") else "1",
                    backfill=request.backfill_id,
                )
        elif getattr(request, "request_id", ""):
            digest = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()
            self._write(method=method, request_id=getattr(request, "request_id"), digest=digest)  # noqa: B009
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, **fields: object) -> None:
        line = json.dumps({"seller_id": self._seller_id, **fields}) + "\n"
        # To be told the same again says nothing new, except that something was accepted: that must never come twice.
        if line not in self._known or fields.get("outcome") == ACCEPTED:
            self._file.write(line)
            self._known.add(line)


def read_journal(path: Path) -> Iterator[Entry]:
    """Every whole line; nothing when there is no such file."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            entry = _entry(line)
            if entry is not None:
                yield entry


def _entry(line: str) -> Entry | None:
    try:
        found: dict[str, Any] = json.loads(line)  # Any: checked by Entry's constructor
        return Entry(**found)
    except (json.JSONDecodeError, TypeError):
        return None  # the line under way when its writer was killed


def _lines(path: Path) -> set[str]:
    if not path.exists():
        return set()
    with path.open(encoding="utf-8") as file:
        return set(file)


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size == 0:
            return True
        file.seek(size - 1)
        return file.read(1) == b"\n"
