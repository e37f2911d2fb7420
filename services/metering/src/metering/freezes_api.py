"""Metering's door for what is kept of usage: parse, call, answer."""

from __future__ import annotations

from typing import Final

from common import ids, wire
from common.db import Database, Tx
from common.errors import InvalidArgument
from common.rpc import transactional
from metering import store, usecases_freezes
from metering.convert.freezes import (
    frozen_usage_id,
    frozen_usage_to_proto,
    late_usage_to_proto,
    told_usage_from_proto,
    verification_to_proto,
)
from metering.convert.usages import usage_query_from_proto
from metering.domain.meter import check_code
from metering.store import UsageStore
from saldo.metering.v1 import freeze_service_pb2 as pb
from saldo.metering.v1 import frozen_usage_pb2
from saldo.metering.v1.freeze_service_pb2_grpc import FreezeServiceServicer

LATE_USAGES_PER_PAGE_MAX: Final = 100
"""Each of them is counted."""


class FreezesApi(FreezeServiceServicer):
    def __init__(self, database: Database, *, counting: UsageStore) -> None:
        self.database = database
        self._counting = counting

    @transactional
    async def FreezeUsage(self, request: pb.FreezeUsageRequest, tx: Tx) -> frozen_usage_pb2.FrozenUsage:
        frozen = await usecases_freezes.freeze_usage(
            tx,
            usage_query_from_proto(request.query, field="query"),
            replaces=frozen_usage_id(request.replaces, field="replaces") if request.replaces else None,
            counting=self._counting,
        )
        return frozen_usage_to_proto(frozen)

    @transactional
    async def GetFrozenUsage(self, request: pb.GetFrozenUsageRequest, tx: Tx) -> frozen_usage_pb2.FrozenUsage:
        return frozen_usage_to_proto(await store.frozen_usage(tx, frozen_usage_id(request.id)))

    @transactional
    async def ListFrozenUsages(self, request: pb.ListFrozenUsagesRequest, tx: Tx) -> pb.ListFrozenUsagesResponse:
        page = wire.page(request)
        found = await store.list_frozen_usages(
            tx,
            customer_id=ids.check(request.customer_id, "cus", field="customer_id") if request.customer_id else "",
            meter=check_code(request.meter, field="meter") if request.meter else "",
            after=page.after[0] if page.after else "",
            limit=page.size + 1,
        )
        return pb.ListFrozenUsagesResponse(
            frozen_usages=[frozen_usage_to_proto(frozen) for frozen in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].id) if len(found) > page.size else "",
        )

    @transactional
    async def GetLateUsage(self, request: pb.GetLateUsageRequest, tx: Tx) -> frozen_usage_pb2.LateUsage:
        late = await usecases_freezes.late_usage(tx, frozen_usage_id(request.id), counting=self._counting)
        return late_usage_to_proto(late)

    @transactional
    async def ListLateUsages(self, request: pb.ListLateUsagesRequest, tx: Tx) -> pb.ListLateUsagesResponse:
        page = wire.page(request, maximum=LATE_USAGES_PER_PAGE_MAX)
        frozen = await store.list_overtaken(tx, after=page.after[0] if page.after else "", limit=page.size + 1)
        late = await usecases_freezes.late_usages(tx, frozen[: page.size], counting=self._counting)
        return pb.ListLateUsagesResponse(
            late_usages=[late_usage_to_proto(each) for each in late],
            next_page_token=wire.encode_page_token(frozen[page.size - 1].id) if len(frozen) > page.size else "",
        )

    @transactional
    async def VerifyDigest(self, request: pb.VerifyDigestRequest, tx: Tx) -> pb.VerifyDigestResponse:
        if not request.frozen_usage_id:
            told = told_usage_from_proto(request)
            found = await usecases_freezes.verify_digest(tx, told, digest=request.digest, counting=self._counting)
            return verification_to_proto(found)
        if request.HasField("query") or request.digest:
            message = "must be empty where a query and a digest are given"
            raise InvalidArgument(message, field="frozen_usage_id")
        frozen_id = frozen_usage_id(request.frozen_usage_id, field="frozen_usage_id")
        return verification_to_proto(await usecases_freezes.verify_frozen_usage(tx, frozen_id, counting=self._counting))
