"""Knows how usage is sent: in batches, as it happens, late, or more than once; and what became of each row."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from saldo.metering.v1 import metering_service_pb2, usage_event_pb2
from tools.client import Client
from tools.demo.example import UsageRow
from tools.demo.requests import usage_event

BATCH_SIZE: Final = 2_000
REJECTIONS_MAX: Final = 100


@dataclass(slots=True)
class Sent:
    """What became of the rows so far."""

    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    rejections: list[str] = field(default_factory=list)
    """The first of them, each with its place and the reason."""


class Outgoing:
    """The rows that have not been sent, in the order in which they are to be."""

    def __init__(self, rows: Iterable[UsageRow]) -> None:
        self._waiting = deque(rows)
        self._repeats: list[UsageRow] = []
        self.sent = Sent()

    def is_waiting(self, *, before: datetime) -> bool:
        return bool(self._repeats) or (bool(self._waiting) and self._waiting[0].send_time < before)

    @property
    def left_count(self) -> int:
        return len(self._waiting)

    async def send(self, client: Client, *, before: datetime) -> None:
        """Send what is to be sent before an instant. Repeats come with the next batch, as from a nervous sender."""
        batch, self._repeats = self._repeats, []
        while self._waiting and self._waiting[0].send_time < before:
            row = self._waiting.popleft()
            batch.append(row)
            self._repeats += [row] * (row.repeat - 1)
        for start in range(0, len(batch), BATCH_SIZE):
            await self._send(client, batch[start : start + BATCH_SIZE])

    async def _send(self, client: Client, rows: Sequence[UsageRow]) -> None:
        request = metering_service_pb2.IngestEventsRequest(events=[usage_event(row) for row in rows])
        answer = await client.metering.IngestEvents(request)
        # Of a customer that was created a moment ago metering may not have heard: its usage counts all the same.
        self.sent.accepted += answer.accepted_count + answer.unmatched_count
        self.sent.duplicate += answer.duplicate_count
        self.sent.rejected += answer.rejected_count
        for row, result in zip(rows, answer.results, strict=True):
            if result.outcome == usage_event_pb2.EventResult.REJECTED and len(self.sent.rejections) < REJECTIONS_MAX:
                self.sent.rejections.append(f"{row.place}: {result.reason} {result.field}: {result.message}")
