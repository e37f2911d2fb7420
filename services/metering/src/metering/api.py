"""Metering's door: parse, call, answer."""

from __future__ import annotations

from datetime import timedelta

from common import ids, wire
from common.db import Database, Tx
from common.errors import InvalidArgument
from common.rpc import transactional
from metering import store, usecases
from metering.convert import (
    NAME_LENGTH_MAX,
    UNIT_LABEL_LENGTH_MAX,
    event_place,
    event_to_proto,
    meter_to_proto,
    place_token,
    reports_from_proto,
    results_to_proto,
    usage_queries_from_proto,
    usage_query_from_proto,
    usage_to_proto,
)
from metering.domain.meter import Aggregation, MeterId, check_code, check_unique_dimension
from saldo.metering.v1 import meter_pb2, usage_event_pb2
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceServicer


class MeteringApi(MeteringServiceServicer):
    def __init__(self, database: Database, *, ahead_max: timedelta) -> None:
        self.database = database
        self._ahead_max = ahead_max

    @transactional
    async def CreateMeter(self, request: pb.CreateMeterRequest, tx: Tx) -> meter_pb2.Meter:
        aggregation = Aggregation[wire.enum_name(meter_pb2.Meter.Aggregation, request.aggregation, field="aggregation")]
        meter = await usecases.create_meter(
            tx,
            code=check_code(request.code),
            display_name=wire.text(request.display_name, field="display_name", max_length=NAME_LENGTH_MAX),
            aggregation=aggregation,
            unit_label=wire.text(
                request.unit_label, field="unit_label", max_length=UNIT_LABEL_LENGTH_MAX, required=False
            ),
            unique_dimension=check_unique_dimension(request.unique_dimension, aggregation),
        )
        return meter_to_proto(meter)

    @transactional
    async def GetMeter(self, request: pb.GetMeterRequest, tx: Tx) -> meter_pb2.Meter:
        if bool(request.id) == bool(request.code):
            raise InvalidArgument("must be given, or a code instead", field="id")
        if request.code:
            return meter_to_proto(await store.meter_by_code(tx, check_code(request.code)))
        return meter_to_proto(await store.meter(tx, MeterId(ids.check(request.id, "meter"))))

    @transactional
    async def ListMeters(self, request: pb.ListMetersRequest, tx: Tx) -> pb.ListMetersResponse:
        page = wire.page(request)
        found = await store.list_meters(tx, after=page.after[0] if page.after else "", limit=page.size + 1)
        return pb.ListMetersResponse(
            meters=[meter_to_proto(meter) for meter in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].id) if len(found) > page.size else "",
        )

    @transactional
    async def IngestEvents(self, request: pb.IngestEventsRequest, tx: Tx) -> pb.IngestEventsResponse:
        results = await usecases.ingest_events(tx, reports_from_proto(request), ahead_max=self._ahead_max)
        return results_to_proto(results)

    @transactional
    async def QueryUsage(self, request: pb.QueryUsageRequest, tx: Tx) -> usage_event_pb2.Usage:
        query = usage_query_from_proto(request.query, field="query")
        [usage] = await usecases.query_usages(tx, [query])
        return usage_to_proto(usage)

    @transactional
    async def BatchQueryUsage(self, request: pb.BatchQueryUsageRequest, tx: Tx) -> pb.BatchQueryUsageResponse:
        usages = await usecases.query_usages(tx, usage_queries_from_proto(request))
        return pb.BatchQueryUsageResponse(usages=[usage_to_proto(usage) for usage in usages])

    @transactional
    async def ListEvents(self, request: pb.ListEventsRequest, tx: Tx) -> pb.ListEventsResponse:
        query = usage_query_from_proto(request.query, field="query")
        page = wire.page(request, keys=3)
        found = await usecases.list_events(tx, query, after=event_place(page), limit=page.size + 1)
        return pb.ListEventsResponse(
            events=[event_to_proto(event) for event in found[: page.size]],
            next_page_token=place_token(found[page.size - 1]) if len(found) > page.size else "",
        )
