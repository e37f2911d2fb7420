"""Knows what every service answers about itself: `OperationsService`, the one contract of the chassis."""

from __future__ import annotations

from datetime import timedelta

from common import clock, wire
from common.auth import PLATFORM, PLATFORM_AND_OWNER
from common.caller import EVERY_SELLER, current_caller, service_caller
from common.clock import NotASandbox
from common.clocks import Agenda, Clocks
from common.consumer import Consumers, DeadLetterNotFound
from common.db import Database, Tx
from common.errors import InvalidArgument, NotFound
from common.ids import SellerId, is_sandbox
from common.jobs import Jobs
from common.relay import Relay
from common.rpc import open_to, transactional
from saldo.operations.v1 import operations_service_pb2 as pb
from saldo.operations.v1.operations_service_pb2_grpc import OperationsServiceServicer

REPLAY_MAX = 100_000
HOLD_MAX = timedelta(seconds=30)
TEXT_LENGTH_MAX = 500


class RequestNotFound(NotFound):
    """Nothing is on record for this request_id: it was never carried out, or too long ago."""


class OperationsApi(OperationsServiceServicer):
    def __init__(self, database: Database, *, relay: Relay, consumers: Consumers, jobs: Jobs, clocks: Clocks) -> None:
        self.database = database
        self._relay = relay
        self._consumers = consumers
        self._jobs = jobs
        self._clocks = clocks

    @open_to(PLATFORM)
    async def GetServiceState(self, request: pb.GetServiceStateRequest, context: object) -> pb.ServiceState:
        return await self.state()

    async def state(self) -> pb.ServiceState:
        """How the service is, for whoever asks: an operator, or the metrics."""
        backlog = await self._consumers.backlog()
        due = await self._jobs.due_count()
        everybody = service_caller(self.database.service, EVERY_SELLER)
        async with self.database.transaction(everybody, only_reads=True) as tx:
            row = await tx.driver.fetchrow(
                "SELECT (SELECT count(*) FROM outbox_waiting) AS waiting,"
                " coalesce((SELECT extract(epoch FROM clock_timestamp() - create_time) FROM outbox"
                " WHERE position = (SELECT min(position) FROM outbox_waiting)), 0)::bigint AS age,"
                " (SELECT count(*) FROM dead_letters WHERE discard_time IS NULL) AS dead"
            )
        assert row is not None
        return pb.ServiceState(
            service=self.database.service,
            outbox_count=row["waiting"],
            outbox_age_seconds=row["age"],
            consumer_backlog=backlog,
            dead_letter_count=row["dead"],
            due_count=due,
        )

    @open_to(PLATFORM_AND_OWNER)
    async def GetClock(self, request: pb.GetClockRequest, context: object) -> pb.SandboxClock:
        seller_id = _sandbox()
        # Read before the outbox: what is published in between then shows there or in the next reading's progress.
        backlog = await self._consumers.backlog()
        return _clock(seller_id, await self._clocks.read(seller_id), backlog)

    @open_to(PLATFORM_AND_OWNER)
    async def AdvanceClock(self, request: pb.AdvanceClockRequest, context: object) -> pb.SandboxClock:
        time = wire.parse_timestamp(request.time, field="time")
        seller_id = _sandbox()
        backlog = await self._consumers.backlog()
        hold_until = clock.wall() + HOLD_MAX if request.hold else None
        return _clock(seller_id, await self._clocks.move(seller_id, time, hold_until=hold_until), backlog)

    @open_to(PLATFORM)
    @transactional
    async def ListDeadLetters(self, request: pb.ListDeadLettersRequest, tx: Tx) -> pb.ListDeadLettersResponse:
        page = wire.page(request, keys=2)
        rows = await tx.driver.fetch(
            "SELECT id, seller_id, subject, headers, payload, error, attempts, create_time FROM dead_letters"
            " WHERE discard_time IS NULL AND ($1::text IS NULL OR (create_time::text, id) > ($1, $2))"
            " ORDER BY create_time::text, id LIMIT $3",
            page.after[0] if page.after else None,
            page.after[1] if page.after else None,
            page.size + 1,
        )
        answer = pb.ListDeadLettersResponse()
        for row in rows[: page.size]:
            letter = answer.dead_letters.add(
                id=row["id"],
                seller_id=row["seller_id"],
                subject=row["subject"],
                payload=row["payload"],
                error=row["error"],
                attempts=row["attempts"],
                create_time=wire.timestamp(row["create_time"]),
            )
            letter.headers.update(row["headers"])
        if len(rows) > page.size:
            last = rows[page.size - 1]
            created: str = await tx.driver.fetchval("SELECT $1::timestamptz::text", last["create_time"])
            answer.next_page_token = wire.encode_page_token(created, last["id"])
        return answer

    @open_to(PLATFORM)
    async def RequeueDeadLetter(
        self, request: pb.RequeueDeadLetterRequest, context: object
    ) -> pb.RequeueDeadLetterResponse:
        dead_letter_id = _dead_letter_id(request.id)
        if dead_letter_id.startswith("job:"):
            await self._requeue_job(dead_letter_id)
        else:
            await self._consumers.handle_again(dead_letter_id)
        return pb.RequeueDeadLetterResponse()

    async def _requeue_job(self, dead_letter_id: str) -> None:
        async with self.database.transaction(current_caller.get()) as tx:
            found = await tx.driver.fetchval(
                "DELETE FROM dead_letters WHERE id = $1 AND discard_time IS NULL RETURNING true", dead_letter_id
            )
            if not found:
                raise DeadLetterNotFound(f"there is no dead letter {dead_letter_id}", id=dead_letter_id)
            await tx.driver.execute("DELETE FROM job_failures WHERE 'job:' || job || ':' || id = $1", dead_letter_id)

    @open_to(PLATFORM)
    @transactional
    async def DiscardDeadLetter(self, request: pb.DiscardDeadLetterRequest, tx: Tx) -> pb.DiscardDeadLetterResponse:
        reason = wire.text(request.reason, field="reason", max_length=500)
        found = await tx.driver.fetchval(
            "UPDATE dead_letters SET discard_time = $2, discard_reason = $3"
            " WHERE id = $1 AND discard_time IS NULL RETURNING true",
            _dead_letter_id(request.id),
            clock.wall(),
            reason,
        )
        if not found:
            raise DeadLetterNotFound(f"there is no dead letter {request.id}", id=request.id)
        return pb.DiscardDeadLetterResponse()

    @open_to(PLATFORM)
    async def ReplayEvents(self, request: pb.ReplayEventsRequest, context: object) -> pb.ReplayEventsResponse:
        first, last = request.from_position, request.through_position
        since = None
        if request.HasField("since_time"):
            since = wire.parse_timestamp(request.since_time, field="since_time")
            if first or last:
                raise InvalidArgument("must be absent where positions are given", field="since_time")
        elif not 0 < first <= last <= first + REPLAY_MAX:
            raise InvalidArgument(f"must be from_position up to {REPLAY_MAX} more", field="through_position")
        async with self.database.session() as connection:
            if since is not None:
                found = await self._relay.first_since(connection, since)
                if found is None:
                    return pb.ReplayEventsResponse()
                first, last = found, found + REPLAY_MAX
            count = await self._relay.replay(connection, first, last)
            behind = await self._relay.first_behind(connection, last)
        return pb.ReplayEventsResponse(event_count=count, next_position=behind or 0)

    @open_to(PLATFORM_AND_OWNER)
    @transactional
    async def GetRequestRecord(self, request: pb.GetRequestRecordRequest, tx: Tx) -> pb.RequestRecord:
        row = await tx.driver.fetchrow(
            "SELECT digest, create_time FROM requests WHERE seller_id = $1 AND method = $2 AND request_id = $3",
            tx.seller_id,
            wire.text(request.method, field="method", max_length=TEXT_LENGTH_MAX).rpartition("/")[2],
            wire.text(request.request_id, field="request_id", max_length=TEXT_LENGTH_MAX),
        )
        if row is None:
            raise RequestNotFound(f"nothing is on record for {request.request_id}", request_id=request.request_id)
        return pb.RequestRecord(
            method=request.method,
            request_id=request.request_id,
            digest=row["digest"].hex(),
            create_time=wire.timestamp(row["create_time"]),
        )


def _dead_letter_id(text: str) -> str:
    return wire.text(text, field="id", max_length=TEXT_LENGTH_MAX)


def _sandbox() -> SellerId:
    """Whose clock the caller may read and move."""
    seller_id = current_caller.get().seller_id
    if not is_sandbox(seller_id):
        raise NotASandbox("only a sandbox has a clock of its own", seller=seller_id)
    return seller_id


def _clock(seller_id: SellerId, agenda: Agenda, backlog: int) -> pb.SandboxClock:
    answer = pb.SandboxClock(
        seller_id=seller_id,
        time=wire.timestamp(agenda.time),
        quiet=not (agenda.due_count or agenda.running_count or agenda.waiting_count or backlog),
        progress=agenda.progress,
        failing_count=agenda.failing_count,
    )
    if agenda.next_due_time is not None:
        answer.next_due_time.CopyFrom(wire.timestamp(agenda.next_due_time))
    return answer
