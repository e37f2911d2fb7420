"""Contacts, tax exemptions and custom fields of a customer, through the door."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.type import date_pb2

from common import ids
from common.testing import Suite, refused
from saldo.subscriptions.v1 import customer_pb2, events_pb2
from saldo.subscriptions.v1 import customers_service_pb2 as customers_pb
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
MINTED = datetime(2026, 1, 1, tzinfo=UTC)
STRANGER, NO_CONTACT, NO_EXEMPTION = (ids.mint(prefix, MINTED) for prefix in ("cus", "cont", "txex"))
ROLES = customer_pb2.ContactPerson.Role
EVE = customer_pb2.ContactPerson(
    display_name="Eve Adams", email="eve@example.org", phone="+49 30 123", roles=[ROLES.BILLING, ROLES.LEGAL]
)
RESALE = customer_pb2.TaxExemption(
    country="US",
    region="CA",
    reason_code="RESALE",
    certificate_number="R 1/2",
    start_date=date_pb2.Date(year=2026, month=1, day=1),
    end_date=date_pb2.Date(year=2027, month=1, day=1),
)


async def get(shop: Any, customer_id: str) -> customer_pb2.Customer:
    customer: customer_pb2.Customer = await shop.api.GetCustomer(pb.GetCustomerRequest(id=customer_id))
    return customer


async def add_contact(shop: Any, customer_id: str, **more: str) -> customer_pb2.ContactPerson:
    contact: customer_pb2.ContactPerson = await shop.customers.AddContact(
        customers_pb.AddContactRequest(customer_id=customer_id, contact=EVE, **more)
    )
    return contact


async def add_exemption(shop: Any, customer_id: str, **more: str) -> customer_pb2.TaxExemption:
    exemption: customer_pb2.TaxExemption = await shop.customers.AddTaxExemption(
        customers_pb.AddTaxExemptionRequest(customer_id=customer_id, tax_exemption=RESALE, **more)
    )
    return exemption


async def set_fields(shop: Any, customer_id: str, fields: dict[str, str], **more: str) -> customer_pb2.Customer:
    customer: customer_pb2.Customer = await shop.customers.SetCustomFields(
        customers_pb.SetCustomFieldsRequest(id=customer_id, custom_fields=fields, **more)
    )
    return customer


async def test_contacts_come_change_and_go(shop: Any) -> None:
    """In the order in which they came, each whole."""
    ada = (await shop.customer()).id
    eve, bob = await add_contact(shop, ada), await add_contact(shop, ada)
    assert ids.prefix_of(eve.id) == "cont"
    assert eve == customer_pb2.ContactPerson(
        id=eve.id, display_name=EVE.display_name, email=EVE.email, phone=EVE.phone, roles=EVE.roles
    )
    renamed = customer_pb2.ContactPerson(id=eve.id, display_name="Eva")
    answer = await shop.customers.UpdateContact(customers_pb.UpdateContactRequest(customer_id=ada, contact=renamed))
    assert answer == renamed
    customer = await get(shop, ada)
    assert (list(customer.contacts), customer.revision) == ([renamed, bob], 4)
    left = await shop.customers.RemoveContact(customers_pb.RemoveContactRequest(customer_id=ada, id=eve.id))
    assert (list(left.contacts), left.revision) == ([bob], 5)
    assert await get(shop, ada) == left


async def test_exemptions_come_and_go(shop: Any) -> None:
    """With what tax is computed by: where, why and when."""
    ada = (await shop.customer()).id
    first, second = await add_exemption(shop, ada), await add_exemption(shop, ada)
    expected = customer_pb2.TaxExemption(id=first.id)
    expected.MergeFrom(RESALE)
    assert (first, ids.prefix_of(first.id)) == (expected, "txex")
    assert list((await get(shop, ada)).tax_exemptions) == [first, second]
    left = await shop.customers.RemoveTaxExemption(customers_pb.RemoveTaxExemptionRequest(customer_id=ada, id=first.id))
    assert (list(left.tax_exemptions), left.revision) == ([second], 4)
    open_ended = customer_pb2.TaxExemption(country="DE", reason_code="VATEX-EU-143")
    added = await shop.customers.AddTaxExemption(
        customers_pb.AddTaxExemptionRequest(customer_id=ada, tax_exemption=open_ended)
    )
    assert not added.HasField("start_date")
    assert not added.HasField("end_date")


async def test_custom_fields_are_replaced_as_a_whole(shop: Any) -> None:
    """What is left out is gone, and the same again is no change."""
    ada = (await shop.customer()).id
    await set_fields(shop, ada, {"a": "1", "note": "two\nlines", "empty": ""})
    changed = await set_fields(shop, ada, {"a": "2"})
    assert (dict(changed.custom_fields), changed.revision) == ({"a": "2"}, 3)
    assert await set_fields(shop, ada, {"a": "2"}) == changed == await get(shop, ada)
    assert dict((await set_fields(shop, ada, {})).custom_fields) == {}


@pytest.mark.own_services
async def test_none_of_it_is_in_what_is_announced(suite: Suite, shop: Any) -> None:
    """That something changed is told; what is asked for by whoever may know."""
    ada = (await shop.customer()).id
    await add_contact(shop, ada)
    await add_exemption(shop, ada)
    await set_fields(shop, ada, {"secret": "plan 9"})
    await suite.quiet()
    events = suite.announced(events_pb2.CustomerUpdated)
    assert [event.customer.revision for event in events] == [2, 3, 4]
    for message in suite.bus.published("SUBSCRIPTIONS"):
        for word in (b"Eve", b"example.org", b"+49", b"R 1/2", b"secret", b"plan 9"):
            assert word not in message.data


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": NO_CONTACT}, "contact.id"),
        ({"display_name": ""}, "contact.display_name"),
        ({"display_name": "x" * 201}, "contact.display_name"),
        ({"email": "nobody"}, "contact.email"),
        ({"email": "x" * 250 + "@x.org"}, "contact.email"),
        ({"phone": "call me"}, "contact.phone"),
        ({"phone": "1" * 41}, "contact.phone"),
        ({"roles": [ROLES.BILLING, 99]}, "contact.roles[1]"),
        ({"roles": [0]}, "contact.roles[0]"),
        ({"roles": [ROLES.LEGAL, ROLES.LEGAL]}, "contact.roles"),
    ],
)
async def test_a_contact_that_nobody_can_reach_is_refused(shop: Any, changes: dict[str, Any], field: str) -> None:
    """By field, and nothing is stored."""
    ada = await shop.customer()
    person: dict[str, Any] = {"display_name": "Eve"}  # Any: fields of the message
    contact = customer_pb2.ContactPerson(**(person | changes))
    with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await shop.customers.AddContact(customers_pb.AddContactRequest(customer_id=ada.id, contact=contact))
    assert refusal.field == field
    assert await get(shop, ada.id) == ada


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": NO_EXEMPTION}, "tax_exemption.id"),
        ({"country": "U"}, "tax_exemption.country"),
        ({"region": "CALI"}, "tax_exemption.region"),
        ({"reason_code": "because"}, "tax_exemption.reason_code"),
        ({"certificate_number": "x" * 101}, "tax_exemption.certificate_number"),
        ({"certificate_number": "\x00"}, "tax_exemption.certificate_number"),
        ({"start_date": date_pb2.Date(year=2026)}, "tax_exemption.start_date"),
        ({"end_date": date_pb2.Date(year=2026, month=2, day=30)}, "tax_exemption.end_date"),
        ({"start_date": date_pb2.Date(year=2027, month=1, day=1)}, "tax_exemption.end_date"),
    ],
)
async def test_an_exemption_that_says_nothing_certain_is_refused(
    shop: Any, changes: dict[str, Any], field: str
) -> None:
    """By field, and nothing is stored."""
    ada = await shop.customer()
    said: dict[str, Any] = {
        "country": "US",
        "reason_code": "X",
        "end_date": date_pb2.Date(year=2027, month=1, day=1),
    }  # Any: fields of the message
    exemption = customer_pb2.TaxExemption(**(said | changes))
    with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await shop.customers.AddTaxExemption(
            customers_pb.AddTaxExemptionRequest(customer_id=ada.id, tax_exemption=exemption)
        )
    assert refusal.field == field
    assert await get(shop, ada.id) == ada


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({f"f{n}": "" for n in range(51)}, "custom_fields"),
        ({"Upper": ""}, "custom_fields"),
        ({"": ""}, "custom_fields"),
        ({"x" * 41: ""}, "custom_fields"),
        ({"a": "ok", "b": "x" * 501}, "custom_fields[b]"),
        ({"a": "\x00"}, "custom_fields[a]"),
    ],
)
async def test_custom_fields_have_bounds(shop: Any, fields: dict[str, str], field: str) -> None:
    """Whatever they mean, they are read and written with the customer."""
    ada = await shop.customer()
    with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await set_fields(shop, ada.id, fields)
    assert refusal.field == field
    assert await get(shop, ada.id) == ada


async def test_what_is_not_there_is_named(shop: Any) -> None:
    """Contacts and exemptions are those of the customer named, not of any; and ids have their prefix."""
    ada, bob = (await shop.customer()).id, (await shop.customer()).id
    eve, exemption = await add_contact(shop, bob), await add_exemption(shop, bob)
    api, pbs = shop.customers, customers_pb

    def person(contact_id: str) -> customer_pb2.ContactPerson:
        return customer_pb2.ContactPerson(id=contact_id, display_name="X")

    for found in (eve.id, NO_CONTACT):
        for call in (
            api.UpdateContact(pbs.UpdateContactRequest(customer_id=ada, contact=person(found))),
            api.RemoveContact(pbs.RemoveContactRequest(customer_id=ada, id=found)),
        ):
            with refused("CONTACT_NOT_FOUND", grpc.StatusCode.NOT_FOUND) as refusal:
                await call
            assert refusal.metadata == {"customer": ada, "contact": found}
    for found in (exemption.id, NO_EXEMPTION):
        with refused("TAX_EXEMPTION_NOT_FOUND", grpc.StatusCode.NOT_FOUND) as refusal:
            await api.RemoveTaxExemption(pbs.RemoveTaxExemptionRequest(customer_id=ada, id=found))
        assert refusal.metadata == {"customer": ada, "tax_exemption": found}
    for call, field in (
        (api.UpdateContact(pbs.UpdateContactRequest(customer_id=ada, contact=person(""))), "contact.id"),
        (api.RemoveContact(pbs.RemoveContactRequest(customer_id=ada, id=ada)), "id"),
        (api.RemoveTaxExemption(pbs.RemoveTaxExemptionRequest(customer_id=ada, id=eve.id)), "id"),
        (add_contact(shop, "x"), "customer_id"),
        (add_exemption(shop, "x"), "customer_id"),
        (set_fields(shop, "x", {}), "id"),
    ):
        with refused("INVALID_ARGUMENT") as refusal:
            await call
        assert refusal.field == field
    for call in (add_contact(shop, STRANGER), add_exemption(shop, STRANGER), set_fields(shop, STRANGER, {})):
        with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
            await call


async def test_of_everything_there_are_twenty_at_most(shop: Any) -> None:
    """Also of those that come at once."""
    ada = (await shop.customer()).id
    for add, reason in ((add_contact, "TOO_MANY_CONTACTS"), (add_exemption, "TOO_MANY_TAX_EXEMPTIONS")):
        answers = await asyncio.gather(*(add(shop, ada) for _ in range(22)), return_exceptions=True)
        assert sum(isinstance(each, grpc.aio.AioRpcError) for each in answers) == 2
        with refused(reason, grpc.StatusCode.FAILED_PRECONDITION) as refusal:
            await add(shop, ada)
        assert refusal.metadata == {"customer": ada, "maximum": "20"}
    customer = await get(shop, ada)
    assert (len(customer.contacts), len(customer.tax_exemptions)) == (20, 20)


async def test_a_repeated_request_adds_once(shop: Any) -> None:
    """Whoever loses the answer sends it again, and must not get a second one."""
    ada = (await shop.customer()).id
    for add in (add_contact, add_exemption):
        first = await add(shop, ada, request_id="r1")
        assert await add(shop, ada, request_id="r1") == first
    customer = await get(shop, ada)
    assert (len(customer.contacts), len(customer.tax_exemptions), customer.revision) == (1, 1, 3)
    await set_fields(shop, ada, {"a": "1"}, request_id="r1")
    with refused("REQUEST_ID_REUSED", grpc.StatusCode.FAILED_PRECONDITION):
        await set_fields(shop, ada, {"a": "2"}, request_id="r1")
