"""Customers through the door: real PostgreSQL, real gRPC."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.type import postal_address_pb2

from common import ids
from common.testing import Suite, refused
from saldo.subscriptions.v1 import customer_pb2, events_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
BERLIN = postal_address_pb2.PostalAddress(region_code="DE", locality="Berlin")


async def test_a_customer_is_created_announced_and_found(suite: Suite, shop: Any) -> None:
    """By its id and by the seller's own key."""
    ada = await shop.customer(external_id="ada-1")
    assert ids.prefix_of(ada.id) == "cus"
    assert (ada.revision, ada.billing_profile.time_zone, ada.billing_profile.language_code) == (1, "UTC", "en")
    assert ada.billing_profile.collection_method == customer_pb2.BillingProfile.CHARGE_AUTOMATICALLY
    assert ada.billing_profile.delivery == customer_pb2.BillingProfile.EMAIL
    assert ada.state == customer_pb2.Customer.ACTIVE
    assert await shop.api.GetCustomer(pb.GetCustomerRequest(id=ada.id)) == ada
    assert await shop.api.GetCustomer(pb.GetCustomerRequest(external_id="ada-1")) == ada
    await suite.quiet()
    assert [event.customer.id for event in suite.announced(events_pb2.CustomerCreated)] == [ada.id]


@pytest.mark.own_services
async def test_what_is_announced_carries_no_personal_data(suite: Suite, shop: Any) -> None:
    """Events are kept by others for as long as they like; whoever may know asks GetCustomer."""
    ada = await shop.customer()
    await shop.api.UpdateCustomer(
        pb.UpdateCustomerRequest(id=ada.id, contact=customer_pb2.Contact(display_name="Ada Lovelace"))
    )
    await suite.quiet()
    [created] = suite.announced(events_pb2.CustomerCreated)
    [updated] = suite.announced(events_pb2.CustomerUpdated)
    assert not created.customer.HasField("contact")
    assert not updated.customer.HasField("contact")
    assert (updated.customer.revision, updated.customer.billing_profile) == (2, ada.billing_profile)
    for message in suite.bus.published("SUBSCRIPTIONS"):
        assert b"Ada" not in message.data
        assert b"example.com" not in message.data


async def test_an_update_replaces_the_parts_that_are_given(suite: Suite, shop: Any) -> None:
    """Each part as a whole; the others stay, and an update that says nothing new is none."""
    ada = await shop.customer()
    profile = customer_pb2.BillingProfile(
        currency="JPY",
        time_zone="Asia/Tokyo",
        language_code="ja",
        net_terms_days=30,
        collection_method=customer_pb2.BillingProfile.SEND_INVOICE,
        billing_day=31,
        delivery=customer_pb2.BillingProfile.NONE,
        purchase_order="PO-1",
    )
    moved = await shop.api.UpdateCustomer(pb.UpdateCustomerRequest(id=ada.id, billing_profile=profile))
    assert (moved.contact, moved.billing_profile, moved.revision) == (ada.contact, profile, 2)
    contact = customer_pb2.Contact(display_name="Ada", address=BERLIN)
    again = await shop.api.UpdateCustomer(pb.UpdateCustomerRequest(id=ada.id, contact=contact))
    assert (again.contact, again.billing_profile, again.revision) == (contact, profile, 3)
    assert await shop.api.UpdateCustomer(pb.UpdateCustomerRequest(id=ada.id, contact=contact)) == again
    await suite.quiet()
    assert [event.customer.revision for event in suite.announced(events_pb2.CustomerUpdated)] == [2, 3]


async def test_an_external_id_names_one_customer(shop: Any) -> None:
    """Usage may name the customer by it; customers without one do not collide."""
    await shop.customer(external_id="ada-1")
    with refused("EXTERNAL_ID_TAKEN", grpc.StatusCode.ALREADY_EXISTS) as refusal:
        await shop.customer(external_id="ada-1")
    assert refusal.metadata == {"external_id": "ada-1"}
    await shop.customer()
    await shop.customer()


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"external_id": "x" * 129}, "external_id", "INVALID_ARGUMENT"),
        ({"external_id": " x"}, "external_id", "INVALID_ARGUMENT"),
        ({"external_id": "cus_01h455vb4pex5vsknk084sn02q"}, "external_id", "INVALID_ARGUMENT"),
        ({"contact": {"display_name": "\x00"}}, "contact.display_name", "INVALID_ARGUMENT"),
        ({"contact": {"display_name": "x" * 201}}, "contact.display_name", "INVALID_ARGUMENT"),
        ({"contact": {"email": "nobody"}}, "contact.email", "INVALID_ARGUMENT"),
        ({"contact": {"email": "a b@example.com"}}, "contact.email", "INVALID_ARGUMENT"),
        ({"contact": {"address": {"region_code": "England"}}}, "contact.address.region_code", "INVALID_ARGUMENT"),
        ({"contact": {"address": {"locality": "a\nb"}}}, "contact.address.locality", "INVALID_ARGUMENT"),
        ({"contact": {"address": {"address_lines": ["x"] * 10}}}, "contact.address.address_lines", "INVALID_ARGUMENT"),
        ({"contact": {"address": {"recipients": [""]}}}, "contact.address.recipients[0]", "INVALID_ARGUMENT"),
        ({"billing_profile": {"currency": "XXX"}}, "billing_profile.currency", "UNKNOWN_CURRENCY"),
        ({"billing_profile": {"time_zone": "Mars/Olympus"}}, "billing_profile.time_zone", "UNKNOWN_TIME_ZONE"),
        ({"billing_profile": {"language_code": "??"}}, "billing_profile.language_code", "INVALID_ARGUMENT"),
        ({"billing_profile": {"net_terms_days": -1}}, "billing_profile.net_terms_days", "INVALID_ARGUMENT"),
        ({"billing_profile": {"collection_method": 9}}, "billing_profile.collection_method", "INVALID_ARGUMENT"),
        ({"billing_profile": {"billing_day": 32}}, "billing_profile.billing_day", "INVALID_ARGUMENT"),
        ({"billing_profile": {"delivery": 9}}, "billing_profile.delivery", "INVALID_ARGUMENT"),
        ({"billing_profile": {"purchase_order": "x" * 101}}, "billing_profile.purchase_order", "INVALID_ARGUMENT"),
        ({"request_id": "x" * 129}, "request_id", "INVALID_ARGUMENT"),
    ],
)
async def test_garbage_is_refused_by_field_and_nothing_is_stored(
    shop: Any, changes: dict[str, Any], field: str, reason: str
) -> None:
    """Whoever sends it must see at once what is wrong."""
    with refused(reason, grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await shop.customer(**changes)
    assert refusal.field == field
    assert not (await shop.api.ListCustomers(pb.ListCustomersRequest())).customers


async def test_what_is_required_is_required(shop: Any) -> None:
    """A customer without a name or a currency cannot be billed."""
    profile = customer_pb2.BillingProfile(currency="EUR")
    with refused("INVALID_ARGUMENT") as refusal:
        await shop.api.CreateCustomer(pb.CreateCustomerRequest(billing_profile=profile))
    assert refusal.field == "contact.display_name"
    contact = customer_pb2.Contact(display_name="Ada")
    with refused("UNKNOWN_CURRENCY") as refusal:
        await shop.api.CreateCustomer(pb.CreateCustomerRequest(contact=contact))
    assert refusal.field == "billing_profile.currency"
    created = await shop.api.CreateCustomer(pb.CreateCustomerRequest(contact=contact, billing_profile=profile))
    assert not created.contact.HasField("address")


async def test_a_repeated_request_creates_once(suite: Suite, shop: Any) -> None:
    """Callers repeat what they are not sure of; ten at once make one customer and one event."""
    answers = await asyncio.gather(*(shop.customer(request_id="r1") for _ in range(10)))
    assert len({answer.id for answer in answers}) == 1
    with refused("REQUEST_ID_REUSED", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.customer(request_id="r1", external_id="another")
    await suite.quiet()
    assert len(suite.announced(events_pb2.CustomerCreated)) == 1


async def test_many_customers_are_read_at_once(shop: Any) -> None:
    """Each once, in order of id; those that do not exist are named."""
    made = [(await shop.customer()).id for _ in range(3)]
    answer = await shop.api.BatchGetCustomers(pb.BatchGetCustomersRequest(ids=[*reversed(made), made[0]]))
    assert [customer.id for customer in answer.customers] == sorted(made)
    stranger = ids.mint("cus", datetime(2026, 1, 1, tzinfo=UTC))
    with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND) as refusal:
        await shop.api.BatchGetCustomers(pb.BatchGetCustomersRequest(ids=[*made, stranger]))
    assert refusal.metadata == {"ids": stranger}
    for wrong, field in (([], "ids"), ([made[0]] * 1001, "ids"), ([made[0], "cus_x"], "ids[1]")):
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await shop.api.BatchGetCustomers(pb.BatchGetCustomersRequest(ids=wrong))
        assert refusal.field == field


async def test_customers_are_listed_in_pages(shop: Any) -> None:
    """Every page, in order, once."""
    made = [(await shop.customer()).id for _ in range(5)]
    seen, token = [], ""
    for _ in range(3):
        page = await shop.api.ListCustomers(pb.ListCustomersRequest(page_size=2, page_token=token))
        seen += [customer.id for customer in page.customers]
        token = page.next_page_token
    assert (seen, token) == (made, "")
    with refused("INVALID_ARGUMENT") as refusal:
        await shop.api.ListCustomers(pb.ListCustomersRequest(page_token="nonsense"))
    assert refusal.field == "page_token"


async def test_a_customer_is_named_by_one_key(shop: Any) -> None:
    """By none or by two it is not clear who is meant."""
    ada = await shop.customer(external_id="ada-1")
    for request in (pb.GetCustomerRequest(), pb.GetCustomerRequest(id=ada.id, external_id="ada-1")):
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await shop.api.GetCustomer(request)
        assert refusal.field == "id"
    with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND) as refusal:
        await shop.api.GetCustomer(pb.GetCustomerRequest(external_id="eve"))
    assert refusal.metadata == {"external_id": "eve"}
