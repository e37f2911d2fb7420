"""The door to tax ids: parse, call, answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from common import ids, wire
from common.db import Database, Tx
from common.rpc import Desk, transactional
from saldo.subscriptions.v1 import tax_id_pb2
from saldo.subscriptions.v1 import tax_id_service_pb2 as pb
from saldo.subscriptions.v1.tax_id_service_pb2_grpc import TaxIdServiceServicer
from subscriptions import store
from subscriptions.convert.tax_id import tax_id_to_proto, tax_number
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.tax_id import TaxIdId
from subscriptions.store.tax_ids import list_tax_ids, tax_id
from subscriptions.tax_authorities import TaxAuthorities
from subscriptions.usecases import tax_ids


class TaxIdsApi(TaxIdServiceServicer):
    def __init__(self, database: Database, desk: Callable[[], Desk], authorities: TaxAuthorities) -> None:
        self.database = database
        self.desk = desk
        self.authorities = authorities

    @transactional
    async def AddTaxId(self, request: pb.AddTaxIdRequest, tx: Tx) -> tax_id_pb2.TaxId:
        customer_id = _customer_id(request.customer_id)
        number = tax_number(request.kind, request.value)
        return tax_id_to_proto(await tax_ids.add_tax_id(tx, customer_id, number))

    @transactional
    async def RemoveTaxId(self, request: pb.RemoveTaxIdRequest, tx: Tx) -> tax_id_pb2.TaxId:
        return tax_id_to_proto(await tax_ids.remove_tax_id(tx, _tax_id_id(request.id)))

    @transactional
    async def ListTaxIds(self, request: pb.ListTaxIdsRequest, tx: Tx) -> pb.ListTaxIdsResponse:
        page = wire.page(request)
        customer_id = _customer_id(request.customer_id)
        await store.customer(tx, customer_id)
        after = page.after[0] if page.after else ""
        found = await list_tax_ids(tx, customer_id, after=after, limit=page.size + 1)
        return pb.ListTaxIdsResponse(
            tax_ids=[tax_id_to_proto(each) for each in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].id) if len(found) > page.size else "",
        )

    async def VerifyTaxId(self, request: pb.VerifyTaxIdRequest, context: object) -> tax_id_pb2.TaxId:
        desk = self.desk()
        async with desk.transaction() as tx:
            found = await tax_id(tx, _tax_id_id(request.id))
            found.check_verifiable()
        is_valid = await tax_ids.ask(desk, self.authorities, found)
        return await _Verifying(self.database, is_valid).VerifyTaxId(request, context)


@dataclass(frozen=True, slots=True)
class _Verifying:
    """The part of VerifyTaxId that is a transaction, once the authority has been asked."""

    database: Database
    is_valid: bool | None

    @transactional
    async def VerifyTaxId(self, request: pb.VerifyTaxIdRequest, tx: Tx) -> tax_id_pb2.TaxId:
        verified = await tax_ids.record_answer(tx, _tax_id_id(request.id), self.is_valid, by_schedule=False)
        return tax_id_to_proto(verified)


def _customer_id(text: str) -> CustomerId:
    return CustomerId(ids.check(text, "cus", field="customer_id"))


def _tax_id_id(text: str) -> TaxIdId:
    return TaxIdId(ids.check(text, "txid", field="id"))
