"""Metering's door for usage thresholds: parse, call, answer."""

from __future__ import annotations

from common import ids, wire
from common.db import Database, Tx
from common.rpc import transactional
from metering import store, usecases_thresholds
from metering.convert.filters import filter_from_proto
from metering.convert.thresholds import (
    alert_place,
    alert_to_proto,
    alert_token,
    period_from_proto,
    threshold_id,
    threshold_to_proto,
    value_from_proto,
    warning_value_from_proto,
)
from metering.domain.meter import check_code
from saldo.metering.v1 import usage_threshold_pb2
from saldo.metering.v1 import usage_threshold_service_pb2 as pb
from saldo.metering.v1.usage_threshold_service_pb2_grpc import UsageThresholdServiceServicer


class ThresholdsApi(UsageThresholdServiceServicer):
    def __init__(self, database: Database) -> None:
        self.database = database

    @transactional
    async def CreateUsageThreshold(
        self, request: pb.CreateUsageThresholdRequest, tx: Tx
    ) -> usage_threshold_pb2.UsageThreshold:
        rhythm, interval = period_from_proto(request)
        threshold = await usecases_thresholds.create_threshold(
            tx,
            meter=check_code(request.meter, field="meter"),
            customer_id=_customer(request.customer_id),
            rhythm=rhythm,
            interval=interval,
            value=value_from_proto(request),
            warning_value=warning_value_from_proto(request),
            only=filter_from_proto(request.filter, field="filter"),
        )
        return threshold_to_proto(threshold)

    @transactional
    async def GetUsageThreshold(
        self, request: pb.GetUsageThresholdRequest, tx: Tx
    ) -> usage_threshold_pb2.UsageThreshold:
        return threshold_to_proto(await store.threshold(tx, threshold_id(request.id)))

    @transactional
    async def ListUsageThresholds(
        self, request: pb.ListUsageThresholdsRequest, tx: Tx
    ) -> pb.ListUsageThresholdsResponse:
        page = wire.page(request)
        found = await store.list_thresholds(
            tx,
            meter=check_code(request.meter, field="meter") if request.meter else "",
            customer_id=_customer(request.customer_id),
            after=page.after[0] if page.after else "",
            limit=page.size + 1,
        )
        return pb.ListUsageThresholdsResponse(
            usage_thresholds=[threshold_to_proto(threshold) for threshold in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].id) if len(found) > page.size else "",
        )

    @transactional
    async def ArchiveUsageThreshold(
        self, request: pb.ArchiveUsageThresholdRequest, tx: Tx
    ) -> usage_threshold_pb2.UsageThreshold:
        return threshold_to_proto(await usecases_thresholds.archive_threshold(tx, threshold_id(request.id)))

    @transactional
    async def ListUsageAlerts(self, request: pb.ListUsageAlertsRequest, tx: Tx) -> pb.ListUsageAlertsResponse:
        page = wire.page(request, keys=3)
        found = await store.list_alerts(
            tx,
            threshold_id=threshold_id(request.usage_threshold_id, field="usage_threshold_id")
            if request.usage_threshold_id
            else "",
            customer_id=_customer(request.customer_id),
            after=alert_place(page),
            limit=page.size + 1,
        )
        return pb.ListUsageAlertsResponse(
            usage_alerts=[alert_to_proto(alert) for alert in found[: page.size]],
            next_page_token=alert_token(found[page.size - 1]) if len(found) > page.size else "",
        )


def _customer(customer_id: str) -> str:
    """Empty for every one."""
    return ids.check(customer_id, "cus", field="customer_id") if customer_id else ""
