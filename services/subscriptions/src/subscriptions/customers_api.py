"""Answers `saldo.subscriptions.v1.CustomersService`: parse, call, answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from common import ids, wire
from common.db import Database, Tx
from common.errors import InvalidArgument
from common.rpc import transactional
from saldo.subscriptions.v1 import customer_pb2
from saldo.subscriptions.v1 import customers_service_pb2 as pb
from saldo.subscriptions.v1.customers_service_pb2_grpc import CustomersServiceServicer
from subscriptions import store
from subscriptions.convert.customer import customer_to_proto
from subscriptions.convert.customer_parts import (
    contact_person_from_proto,
    contact_person_to_proto,
    custom_fields_from_proto,
    key,
    own_key,
    tax_exemption_from_proto,
    tax_exemption_to_proto,
)
from subscriptions.domain.contact_person import ContactId
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.tax_exemption import TaxExemptionId
from subscriptions.usecases import customers

CUSTOMERS_PER_CALL: Final = 1_000


class CustomersApi(CustomersServiceServicer):
    def __init__(self, database: Database) -> None:
        self.database = database

    @transactional
    async def LookupCustomer(self, request: pb.LookupCustomerRequest, tx: Tx) -> customer_pb2.Customer:
        return customer_to_proto(await store.customer_by_key(tx, key(request.key, field="key")))

    @transactional
    async def SetCustomerParent(self, request: pb.SetCustomerParentRequest, tx: Tx) -> customer_pb2.Customer:
        parent_id = _customer_id(request.parent_id, field="parent_id") if request.parent_id else None
        return customer_to_proto(await customers.set_parent(tx, _customer_id(request.id, field="id"), parent_id))

    @transactional
    async def ListDescendants(self, request: pb.ListDescendantsRequest, tx: Tx) -> pb.ListDescendantsResponse:
        page = wire.page(request)
        customer = await store.customer(tx, _customer_id(request.id, field="id"))
        after = page.after[0] if page.after else ""
        found = await store.descendants(tx, customer.id, after=after, limit=page.size + 1)
        return pb.ListDescendantsResponse(
            descendants=[
                pb.Descendant(customer=customer_to_proto(each), depth=depth) for each, depth in found[: page.size]
            ],
            next_page_token=(wire.encode_page_token(found[page.size - 1][0].id) if len(found) > page.size else ""),
        )

    @transactional
    async def SetCustomerPayer(self, request: pb.SetCustomerPayerRequest, tx: Tx) -> customer_pb2.Customer:
        payer_id = _customer_id(request.payer_id, field="payer_id") if request.payer_id else None
        return customer_to_proto(await customers.set_payer(tx, _customer_id(request.id, field="id"), payer_id))

    @transactional
    async def ListPaidCustomers(self, request: pb.ListPaidCustomersRequest, tx: Tx) -> pb.ListPaidCustomersResponse:
        page = wire.page(request, keys=2)
        if not (request.payer_ids or request.customer_ids):
            raise InvalidArgument("must name somebody, or customer_ids must", field="payer_ids")
        found = await store.list_paid_customers(
            tx,
            payer_ids=_customer_ids(request.payer_ids, field="payer_ids"),
            customer_ids=_customer_ids(request.customer_ids, field="customer_ids"),
            after=page.after,
            limit=page.size + 1,
        )
        shown = found[: page.size]
        return pb.ListPaidCustomersResponse(
            paid_customers=[pb.PaidCustomer(customer_id=each, payer_id=payer_id) for each, payer_id in shown],
            next_page_token=wire.encode_page_token(*shown[-1]) if len(found) > page.size else "",
        )

    @transactional
    async def AddCustomerAlias(self, request: pb.AddCustomerAliasRequest, tx: Tx) -> customer_pb2.Customer:
        alias = own_key(request.alias, field="alias", required=True)
        return customer_to_proto(await customers.add_alias(tx, _customer_id(request.id, field="id"), alias))

    @transactional
    async def RemoveCustomerAlias(self, request: pb.RemoveCustomerAliasRequest, tx: Tx) -> customer_pb2.Customer:
        alias = key(request.alias, field="alias")
        return customer_to_proto(await customers.remove_alias(tx, _customer_id(request.id, field="id"), alias))

    @transactional
    async def AddContact(self, request: pb.AddContactRequest, tx: Tx) -> customer_pb2.ContactPerson:
        customer_id = _customer_id(request.customer_id, field="customer_id")
        _check_new(request.contact.id, field="contact.id")
        contact = contact_person_from_proto(request.contact, contact_id=tx.new_id("cont"))
        await customers.add_contact(tx, customer_id, contact)
        return contact_person_to_proto(contact)

    @transactional
    async def UpdateContact(self, request: pb.UpdateContactRequest, tx: Tx) -> customer_pb2.ContactPerson:
        customer_id = _customer_id(request.customer_id, field="customer_id")
        contact_id = ids.check(request.contact.id, "cont", field="contact.id")
        contact = contact_person_from_proto(request.contact, contact_id=contact_id)
        await customers.update_contact(tx, customer_id, contact)
        return contact_person_to_proto(contact)

    @transactional
    async def RemoveContact(self, request: pb.RemoveContactRequest, tx: Tx) -> customer_pb2.Customer:
        customer_id = _customer_id(request.customer_id, field="customer_id")
        contact_id = ContactId(ids.check(request.id, "cont", field="id"))
        return customer_to_proto(await customers.remove_contact(tx, customer_id, contact_id))

    @transactional
    async def AddTaxExemption(self, request: pb.AddTaxExemptionRequest, tx: Tx) -> customer_pb2.TaxExemption:
        customer_id = _customer_id(request.customer_id, field="customer_id")
        _check_new(request.tax_exemption.id, field="tax_exemption.id")
        exemption = tax_exemption_from_proto(request.tax_exemption, exemption_id=tx.new_id("txex"))
        await customers.add_tax_exemption(tx, customer_id, exemption)
        return tax_exemption_to_proto(exemption)

    @transactional
    async def RemoveTaxExemption(self, request: pb.RemoveTaxExemptionRequest, tx: Tx) -> customer_pb2.Customer:
        customer_id = _customer_id(request.customer_id, field="customer_id")
        exemption_id = TaxExemptionId(ids.check(request.id, "txex", field="id"))
        return customer_to_proto(await customers.remove_tax_exemption(tx, customer_id, exemption_id))

    @transactional
    async def SetCustomFields(self, request: pb.SetCustomFieldsRequest, tx: Tx) -> customer_pb2.Customer:
        customer_id = _customer_id(request.id, field="id")
        fields = custom_fields_from_proto(request.custom_fields)
        return customer_to_proto(await customers.set_custom_fields(tx, customer_id, fields))

    @transactional
    async def MergeCustomers(self, request: pb.MergeCustomersRequest, tx: Tx) -> customer_pb2.Customer:
        target = await customers.merge_customers(
            tx,
            _customer_id(request.source_id, field="source_id"),
            _customer_id(request.target_id, field="target_id"),
        )
        return customer_to_proto(target)


def _customer_ids(texts: Sequence[str], *, field: str) -> list[CustomerId]:
    if len(texts) > CUSTOMERS_PER_CALL:
        raise InvalidArgument(f"must be at most {CUSTOMERS_PER_CALL}", field=field)
    return [_customer_id(each, field=f"{field}[{n}]") for n, each in enumerate(texts)]


def _customer_id(text: str, *, field: str) -> CustomerId:
    return CustomerId(ids.check(text, "cus", field=field))


def _check_new(given_id: str, *, field: str) -> None:
    if given_id:
        raise InvalidArgument("must be empty: what is added gets an id of its own", field=field)
