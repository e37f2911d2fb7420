"""Answers `saldo.metering.v1.MeteringService`."""

from __future__ import annotations

from datetime import timedelta

from common import wire
from common.db import Database, Tx
from common.rpc import transactional
from metering import convert, usecases
from saldo.metering.v1 import meter_pb2, usage_event_pb2
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceServicer


class MeteringApi(MeteringServiceServicer):
    def __init__(self, database: Database, *, ahead_max: timedelta) -> None:
        self.database = database
        self._ahead_max = ahead_max

    @transactional
    async def CreateMeter(self, request: pb.CreateMeterRequest, tx: Tx) -> meter_pb2.Meter:
        return convert.meter_to_proto(await usecases.create_meter(tx, convert.parse_new_meter(request)))

    @transactional
    async def GetMeter(self, request: pb.GetMeterRequest, tx: Tx) -> meter_pb2.Meter:
        return convert.meter_to_proto(await usecases.get_meter(tx, convert.parse_meter_key(request)))

    @transactional
    async def ListMeters(self, request: pb.ListMetersRequest, tx: Tx) -> pb.ListMetersResponse:
        return convert.meters_to_proto(await usecases.list_meters(tx, wire.page(request)))

    @transactional
    async def IngestEvents(self, request: pb.IngestEventsRequest, tx: Tx) -> pb.IngestEventsResponse:
        reports = convert.parse_reports(request)
        return convert.results_to_proto(await usecases.ingest_events(tx, reports, ahead_max=self._ahead_max))

    @transactional
    async def QueryUsage(self, request: pb.QueryUsageRequest, tx: Tx) -> usage_event_pb2.Usage:
        query = convert.parse_usage_query(request.query, field="query")
        [usage] = await usecases.query_usages(tx, [query])
        return convert.usage_to_proto(usage)

    @transactional
    async def BatchQueryUsage(self, request: pb.BatchQueryUsageRequest, tx: Tx) -> pb.BatchQueryUsageResponse:
        usages = await usecases.query_usages(tx, convert.parse_usage_queries(request))
        return pb.BatchQueryUsageResponse(usages=[convert.usage_to_proto(usage) for usage in usages])

    @transactional
    async def ListEvents(self, request: pb.ListEventsRequest, tx: Tx) -> pb.ListEventsResponse:
        query = convert.parse_usage_query(request.query, field="query")
        return convert.events_to_proto(await usecases.list_events(tx, query, convert.parse_events_page(request)))
