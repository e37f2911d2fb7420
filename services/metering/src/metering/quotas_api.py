"""Metering's door for what customers may use: parse, call, answer."""

from __future__ import annotations

from common import wire
from common.caller import current_caller
from common.db import Database, Tx
from common.rpc import transactional
from metering import store, usecases_quotas
from metering.committing import Committing
from metering.convert.quotas import (
    access_to_proto,
    acquired_to_proto,
    customer_id,
    dimensions,
    feature_code,
    quantity,
    quantity_if_any,
    reservation_id,
    reservation_to_proto,
    time_to_live,
)
from metering.forwarding import Call
from metering.turns import TurnsByKey
from saldo.metering.v1 import quota_pb2
from saldo.metering.v1 import quota_service_pb2 as pb
from saldo.metering.v1.quota_service_pb2_grpc import QuotaServiceServicer


class QuotasApi(QuotaServiceServicer):
    def __init__(self, database: Database, *, committing: Committing) -> None:
        self.database = database
        self._committing = committing
        self._turns = TurnsByKey("acquisitions of quota of the customer")

    @transactional
    async def CheckEntitlement(self, request: pb.CheckEntitlementRequest, tx: Tx) -> pb.CheckEntitlementResponse:
        access = await usecases_quotas.check_entitlement(
            tx, customer_id(request.customer_id), feature_code(request.feature), quantity_if_any(request)
        )
        return access_to_proto(access)

    async def AcquireQuota(self, request: pb.AcquireQuotaRequest, context: object) -> pb.AcquireQuotaResponse:
        async with self._turns.one((current_caller.get().seller_id, request.customer_id)):
            return await self._AcquireQuota(request, context)

    @transactional
    async def _AcquireQuota(self, request: pb.AcquireQuotaRequest, tx: Tx) -> pb.AcquireQuotaResponse:
        reservation, access = await usecases_quotas.acquire_quota(
            tx,
            customer_id(request.customer_id),
            feature_code(request.feature),
            quantity(request.quantity),
            time_to_live=time_to_live(request.time_to_live_seconds),
        )
        return acquired_to_proto(reservation, access)

    async def CommitQuota(self, request: pb.CommitQuotaRequest, context: object) -> quota_pb2.QuotaReservation:
        # A repeat is answered here as it stood then, and finished, or found to be finished, once more.
        begun = await self._CommitQuota(request, context)
        return await self._committing.finish(request, begun, Call.of(context))

    @transactional
    async def ReleaseQuota(self, request: pb.ReleaseQuotaRequest, tx: Tx) -> quota_pb2.QuotaReservation:
        return reservation_to_proto(await usecases_quotas.release_quota(tx, reservation_id(request.id)))

    @transactional
    async def GetQuotaReservation(self, request: pb.GetQuotaReservationRequest, tx: Tx) -> quota_pb2.QuotaReservation:
        found = await store.reservation(tx, reservation_id(request.id))
        return reservation_to_proto(found.as_of(tx.now))

    @transactional
    async def ListQuotaReservations(
        self, request: pb.ListQuotaReservationsRequest, tx: Tx
    ) -> pb.ListQuotaReservationsResponse:
        page = wire.page(request)
        found = await store.list_reservations(
            tx,
            customer_id=customer_id(request.customer_id) if request.customer_id else "",
            under_way=request.under_way,
            after=page.after[0] if page.after else "",
            limit=page.size + 1,
        )
        return pb.ListQuotaReservationsResponse(
            reservations=[reservation_to_proto(each.as_of(tx.now)) for each in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].id) if len(found) > page.size else "",
        )

    @transactional
    async def _CommitQuota(self, request: pb.CommitQuotaRequest, tx: Tx) -> quota_pb2.QuotaReservation:
        begun = await usecases_quotas.begin_commit(
            tx, reservation_id(request.id), quantity_if_any(request), dimensions(request)
        )
        return reservation_to_proto(begun)
