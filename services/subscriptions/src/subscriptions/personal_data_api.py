"""The door to what a person may ask for: to know what is kept, and to be forgotten."""

from __future__ import annotations

from common import ids
from common.auth import Audience
from common.caller import Role
from common.db import Database, Tx
from common.rpc import open_to, transactional
from saldo.subscriptions.v1 import customer_pb2
from saldo.subscriptions.v1 import personal_data_service_pb2 as pb
from saldo.subscriptions.v1.personal_data_service_pb2_grpc import PersonalDataServiceServicer
from subscriptions.convert.customer import customer_to_proto
from subscriptions.convert.personal_data import CONTENT_TYPE, export_document
from subscriptions.domain.customer import CustomerId
from subscriptions.usecases import personal_data

RESPONSIBLE = Audience(frozenset({Role.OWNER, Role.INTEGRATOR}))


class PersonalDataApi(PersonalDataServiceServicer):
    def __init__(self, database: Database) -> None:
        self.database = database

    @open_to(RESPONSIBLE)
    @transactional
    async def ErasePersonalData(self, request: pb.ErasePersonalDataRequest, tx: Tx) -> customer_pb2.Customer:
        return customer_to_proto(await personal_data.erase_personal_data(tx, _customer_id(request.customer_id)))

    @open_to(RESPONSIBLE)
    @transactional
    async def ExportPersonalData(self, request: pb.ExportPersonalDataRequest, tx: Tx) -> pb.ExportPersonalDataResponse:
        own, *merged = await personal_data.kept_of(tx, _customer_id(request.customer_id))
        return pb.ExportPersonalDataResponse(document=export_document(own, merged), content_type=CONTENT_TYPE)


def _customer_id(text: str) -> CustomerId:
    return CustomerId(ids.check(text, "cus", field="customer_id"))
