"""Who may do what to a customer: by role, and by seller."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import grpc
from google.protobuf.message import Message

from common import ids
from common.caller import Role
from common.ids import SellerId
from common.testing import SANDBOX_START, Suite, refused
from saldo.subscriptions.v1 import customer_pb2
from saldo.subscriptions.v1 import customers_service_pb2 as customers_pb
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.customers_service_pb2_grpc import CustomersServiceStub

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
CONTACT_ID, EXEMPTION_ID = (ids.mint(prefix, datetime(2026, 1, 1, tzinfo=UTC)) for prefix in ("cont", "txex"))


def reads(ada: str) -> dict[str, Message]:
    return {
        "LookupCustomer": customers_pb.LookupCustomerRequest(key=ada),
        "ListDescendants": customers_pb.ListDescendantsRequest(id=ada),
        "ListPaidCustomers": customers_pb.ListPaidCustomersRequest(payer_ids=[ada]),
    }


def writes(ada: str, eve: str) -> dict[str, Message]:
    """Everything that can be done to `ada`."""
    person = customer_pb2.ContactPerson(display_name="Eve")
    known = customer_pb2.ContactPerson(id=CONTACT_ID, display_name="Eve")
    exemption = customer_pb2.TaxExemption(country="US", reason_code="RESALE")
    return {
        "SetCustomerParent": customers_pb.SetCustomerParentRequest(id=ada, parent_id=eve),
        "SetCustomerPayer": customers_pb.SetCustomerPayerRequest(id=ada, payer_id=eve),
        "AddCustomerAlias": customers_pb.AddCustomerAliasRequest(id=ada, alias="x"),
        "RemoveCustomerAlias": customers_pb.RemoveCustomerAliasRequest(id=ada, alias="x"),
        "AddContact": customers_pb.AddContactRequest(customer_id=ada, contact=person),
        "UpdateContact": customers_pb.UpdateContactRequest(customer_id=ada, contact=known),
        "RemoveContact": customers_pb.RemoveContactRequest(customer_id=ada, id=CONTACT_ID),
        "AddTaxExemption": customers_pb.AddTaxExemptionRequest(customer_id=ada, tax_exemption=exemption),
        "RemoveTaxExemption": customers_pb.RemoveTaxExemptionRequest(customer_id=ada, id=EXEMPTION_ID),
        "SetCustomFields": customers_pb.SetCustomFieldsRequest(id=ada, custom_fields={"a": "b"}),
        "MergeCustomers": customers_pb.MergeCustomersRequest(source_id=ada, target_id=eve),
    }


async def test_roles_and_tokens(suite: Suite, shop: Any) -> None:
    """Nobody without a token; viewers read everything and change nothing."""
    ada, eve = await shop.customer(), await shop.customer()
    contract = customers_pb.DESCRIPTOR.services_by_name["CustomersService"]
    changing = writes(ada.id, eve.id)
    assert reads(ada.id).keys() | changing.keys() == {method.name for method in contract.methods}
    anonymous = suite.raw_stub(CustomersServiceStub, "subscriptions", token="")
    viewer = suite.stub(CustomersServiceStub, "subscriptions", role=Role.VIEWER)
    for name, request in {**reads(ada.id), **changing}.items():
        with refused("UNAUTHENTICATED", grpc.StatusCode.UNAUTHENTICATED):
            await getattr(anonymous, name)(request)
    for name, request in reads(ada.id).items():
        assert await getattr(viewer, name)(request) == await getattr(shop.customers, name)(request)
    for name, request in changing.items():
        with refused("ROLE_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED):
            await getattr(viewer, name)(request)
    assert await shop.api.GetCustomer(pb.GetCustomerRequest(id=ada.id)) == ada


async def test_the_customers_of_another_seller_are_not_there(suite: Suite, shop: Any) -> None:
    """Neither to be read, nor to be changed, nor to be depended on; and its keys are in nobody's way."""
    ada, eve = await shop.customer(external_id="key"), await shop.customer()
    seller = SellerId(ids.mint(ids.SANDBOX, SANDBOX_START))
    stranger = suite.stub(CustomersServiceStub, "subscriptions", seller=seller)
    await shop.customers.SetCustomerPayer(customers_pb.SetCustomerPayerRequest(id=eve.id, payer_id=ada.id))
    paid = reads(ada.id)["ListPaidCustomers"]
    assert len((await shop.customers.ListPaidCustomers(paid)).paid_customers) == 1
    assert not (await stranger.ListPaidCustomers(paid)).paid_customers
    for name, request in {**reads(ada.id), **writes(ada.id, eve.id)}.items():
        if name == "ListPaidCustomers":
            continue  # whoever is not known pays for nobody
        with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
            await getattr(stranger, name)(request)
    other = suite.stub(type(shop.api), "subscriptions", seller=seller)
    own = await other.CreateCustomer(
        pb.CreateCustomerRequest(
            external_id="key",
            contact=customer_pb2.Contact(display_name="Own"),
            billing_profile=customer_pb2.BillingProfile(currency="EUR"),
        )
    )
    for name in ("SetCustomerParent", "SetCustomerPayer", "MergeCustomers"):
        with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
            await getattr(stranger, name)(writes(own.id, ada.id)[name])
    assert await shop.api.GetCustomer(pb.GetCustomerRequest(id=ada.id)) == ada
