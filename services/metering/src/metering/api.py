"""Metering's door: parse, call, answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from common import ids, wire
from common.db import Database, Tx
from common.errors import InvalidArgument
from common.rpc import transactional
from metering import store, usecases_meters, usecases_usages
from metering.convert.meters import (
    definition_from_proto,
    display_name,
    meter_to_proto,
    unit_label,
    update_from_proto,
    version_after,
    version_to_proto,
)
from metering.convert.unmatched import unmatched_usage_to_proto
from metering.convert.usages import (
    event_place,
    event_to_proto,
    place_token,
    usage_queries_from_proto,
    usage_query_from_proto,
    usage_to_proto,
)
from metering.domain.meter import MeterId, check_accepts_days, check_code
from metering.forwarding import Call
from metering.ingesting import Ingesting
from metering.store import UsageStore
from saldo.metering.v1 import meter_pb2, usage_event_pb2
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceServicer

BATCHES_UNDER_WAY: Final = 16
"""On one stream."""


class MeteringApi(MeteringServiceServicer):
    def __init__(self, database: Database, *, ingesting: Ingesting, counting: UsageStore) -> None:
        self.database = database
        self._ingesting = ingesting
        self._counting = counting

    @transactional
    async def CreateMeter(self, request: pb.CreateMeterRequest, tx: Tx) -> meter_pb2.Meter:
        meter = await usecases_meters.create_meter(
            tx,
            code=check_code(request.code),
            display_name=display_name(request.display_name),
            definition=definition_from_proto(request),
            unit_label=unit_label(request.unit_label),
            accepts_days=check_accepts_days(request.accepts_days),
        )
        return meter_to_proto(meter, meter.in_effect(tx.now))

    @transactional
    async def GetMeter(self, request: pb.GetMeterRequest, tx: Tx) -> meter_pb2.Meter:
        if bool(request.id) == bool(request.code):
            raise InvalidArgument("must be given, or a code instead", field="id")
        if request.code:
            meter = await store.meter_by_code(tx, check_code(request.code))
        else:
            meter = await store.meter(tx, _meter_id(request.id))
        return meter_to_proto(meter, meter.in_effect(tx.now))

    @transactional
    async def ListMeters(self, request: pb.ListMetersRequest, tx: Tx) -> pb.ListMetersResponse:
        page = wire.page(request)
        found = await store.list_meters(tx, after=page.after[0] if page.after else "", limit=page.size + 1)
        return pb.ListMetersResponse(
            meters=[meter_to_proto(meter, meter.in_effect(tx.now)) for meter in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].id) if len(found) > page.size else "",
        )

    @transactional
    async def UpdateMeter(self, request: pb.UpdateMeterRequest, tx: Tx) -> meter_pb2.Meter:
        meter = await usecases_meters.update_meter(tx, _meter_id(request.id), update_from_proto(request))
        return meter_to_proto(meter, meter.in_effect(tx.now))

    @transactional
    async def ListMeterVersions(self, request: pb.ListMeterVersionsRequest, tx: Tx) -> pb.ListMeterVersionsResponse:
        meter = await store.meter(tx, _meter_id(request.id))
        page = wire.page(request)
        found = meter.versions[version_after(page) :]
        return pb.ListMeterVersionsResponse(
            versions=[version_to_proto(meter, version) for version in found[: page.size]],
            next_page_token=wire.encode_page_token(str(found[page.size - 1].number)) if len(found) > page.size else "",
        )

    async def IngestEvents(self, request: pb.IngestEventsRequest, context: object) -> pb.IngestEventsResponse:
        return await self._ingesting.ingest(request, Call.of(context))

    async def StreamEvents(
        self, requests: AsyncIterator[pb.StreamEventsRequest], context: object
    ) -> AsyncIterator[pb.StreamEventsResponse]:
        call = Call.of(context)
        under_way: asyncio.Queue[asyncio.Task[pb.IngestEventsResponse] | None] = asyncio.Queue(BATCHES_UNDER_WAY)

        async def read() -> None:
            try:
                async for request in requests:
                    await under_way.put(asyncio.create_task(self._ingesting.ingest(request.batch, call)))
            finally:
                await under_way.put(None)

        reading = asyncio.create_task(read())
        try:
            while (batch := await under_way.get()) is not None:
                yield pb.StreamEventsResponse(batch=await batch)
            await reading
        finally:
            reading.cancel()
            left: list[asyncio.Task[Any]] = [reading]  # Any: of the one nothing, of the others answers
            while not under_way.empty():
                batch = under_way.get_nowait()
                if batch is not None:
                    batch.cancel()
                    left.append(batch)
            # Whoever reads the requests ends before the call does.
            await asyncio.gather(*left, return_exceptions=True)

    @transactional
    async def QueryUsage(self, request: pb.QueryUsageRequest, tx: Tx) -> usage_event_pb2.Usage:
        query = usage_query_from_proto(request.query, field="query")
        [usage] = await usecases_usages.query_usages(tx, [query], counting=self._counting, complete=False)
        return usage_to_proto(usage)

    @transactional
    async def BatchQueryUsage(self, request: pb.BatchQueryUsageRequest, tx: Tx) -> pb.BatchQueryUsageResponse:
        queries = usage_queries_from_proto(request)
        usages = await usecases_usages.query_usages(tx, queries, counting=self._counting, complete=False)
        return pb.BatchQueryUsageResponse(usages=[usage_to_proto(usage) for usage in usages])

    @transactional
    async def ListEvents(self, request: pb.ListEventsRequest, tx: Tx) -> pb.ListEventsResponse:
        query = usage_query_from_proto(request.query, field="query")
        page = wire.page(request, keys=3)
        found = await usecases_usages.list_events(
            tx, query, after=event_place(page), limit=page.size + 1, counting=self._counting
        )
        return pb.ListEventsResponse(
            events=[event_to_proto(event) for event in found[: page.size]],
            next_page_token=place_token(found[page.size - 1]) if len(found) > page.size else "",
        )

    @transactional
    async def ListUnmatchedUsage(self, request: pb.ListUnmatchedUsageRequest, tx: Tx) -> pb.ListUnmatchedUsageResponse:
        page = wire.page(request, keys=2)
        found, last = await store.list_unmatched(tx, after=page.after, limit=page.size)
        return pb.ListUnmatchedUsageResponse(
            unmatched_usages=[unmatched_usage_to_proto(each) for each in found],
            next_page_token=wire.encode_page_token(*last) if last else "",
        )


def _meter_id(text: str) -> MeterId:
    return MeterId(ids.check(text, "meter"))
