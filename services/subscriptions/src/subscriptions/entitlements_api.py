"""The door to entitlements: parse, call, answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from common import ids, wire
from common.db import Database, Tx
from common.rpc import Desk, transactional
from saldo.subscriptions.v1 import entitlement_pb2
from saldo.subscriptions.v1 import entitlement_service_pb2 as pb
from saldo.subscriptions.v1.entitlement_service_pb2_grpc import EntitlementServiceServicer
from subscriptions import clients, store
from subscriptions.convert.entitlement import entitlement_to_proto, grant_from_proto
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.entitlement import FeatureKind, check_fit
from subscriptions.usecases import entitlements

FEATURE_LENGTH_MAX: Final = 64
REASON_LENGTH_MAX: Final = 500


class EntitlementsApi(EntitlementServiceServicer):
    def __init__(self, database: Database, desk: Callable[[], Desk]) -> None:
        self.database = database
        self.desk = desk

    @transactional
    async def ListEntitlements(self, request: pb.ListEntitlementsRequest, tx: Tx) -> pb.ListEntitlementsResponse:
        page = wire.page(request)
        customer_id = _customer_id(request.customer_id)
        await store.customer(tx, customer_id)
        after = page.after[0] if page.after else ""
        found = await entitlements.entitlements_of(tx, customer_id, at=_time(request, tx))
        rest = [each for each in found if each.feature > after]
        return pb.ListEntitlementsResponse(
            entitlements=[entitlement_to_proto(each) for each in rest[: page.size]],
            next_page_token=wire.encode_page_token(rest[page.size - 1].feature) if len(rest) > page.size else "",
        )

    @transactional
    async def GetEntitlement(self, request: pb.GetEntitlementRequest, tx: Tx) -> entitlement_pb2.Entitlement:
        customer_id = _customer_id(request.customer_id)
        feature = _feature(request.feature)
        await store.customer(tx, customer_id)
        at = _time(request, tx)
        return entitlement_to_proto(await entitlements.entitlement_of(tx, customer_id, feature, at=at))

    async def SetEntitlementOverride(
        self, request: pb.SetEntitlementOverrideRequest, context: object
    ) -> entitlement_pb2.Entitlement:
        kind = await clients.get_feature_kind(self.desk(), _feature(request.feature))
        return await _Overriding(self.database, kind).SetEntitlementOverride(request, context)

    @transactional
    async def RemoveEntitlementOverride(
        self, request: pb.RemoveEntitlementOverrideRequest, tx: Tx
    ) -> entitlement_pb2.Entitlement:
        customer_id = _customer_id(request.customer_id)
        return entitlement_to_proto(await entitlements.remove_override(tx, customer_id, _feature(request.feature)))


@dataclass(frozen=True, slots=True)
class _Overriding:
    """The part of SetEntitlementOverride that is a transaction, once the catalog has said what feature it is."""

    database: Database
    kind: FeatureKind

    @transactional
    async def SetEntitlementOverride(
        self, request: pb.SetEntitlementOverrideRequest, tx: Tx
    ) -> entitlement_pb2.Entitlement:
        grant = grant_from_proto(request.grant, field="grant")
        check_fit(self.kind, grant, field="grant")
        overridden = await entitlements.set_override(
            tx,
            _customer_id(request.customer_id),
            request.feature,
            grant,
            end_time=(
                wire.parse_timestamp(request.end_time, field="end_time") if request.HasField("end_time") else None
            ),
            reason=wire.text(request.reason, field="reason", max_length=REASON_LENGTH_MAX),
        )
        return entitlement_to_proto(overridden)


def _time(request: pb.ListEntitlementsRequest | pb.GetEntitlementRequest, tx: Tx) -> datetime:
    if not request.HasField("effective_time"):
        return tx.now
    return wire.parse_timestamp(request.effective_time, field="effective_time")


def _customer_id(text: str) -> CustomerId:
    return CustomerId(ids.check(text, "cus", field="customer_id"))


def _feature(text: str) -> str:
    return wire.text(text, field="feature", max_length=FEATURE_LENGTH_MAX)
