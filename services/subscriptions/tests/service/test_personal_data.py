"""Personal data through the door and in the tables: sealed from the first moment, handed out, and erased for good."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from google.type import postal_address_pb2

from common.caller import Role
from common.testing import Suite, refused
from common.vault import new_master_key
from saldo.subscriptions.v1 import customer_pb2, customers_service_pb2, events_pb2, tax_id_pb2
from saldo.subscriptions.v1 import personal_data_service_pb2 as pb
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions_pb
from saldo.subscriptions.v1 import tax_id_service_pb2 as tax_pb
from saldo.subscriptions.v1.personal_data_service_pb2_grpc import PersonalDataServiceStub
from saldo.subscriptions.v1.subscriptions_service_pb2_grpc import SubscriptionsServiceStub
from saldo.subscriptions.v1.tax_id_service_pb2_grpc import TaxIdServiceStub

pytestmark = pytest.mark.own_services

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
CONTACT = customer_pb2.Contact(
    display_name="Zwetlana Qvist",
    email="zwetlana@qvist.example",
    address=postal_address_pb2.PostalAddress(
        region_code="DK", locality="Ærøskøbing", address_lines=["Vesterbrogade 77"], recipients=["Zw. Qvist"]
    ),
)
PERSON = customer_pb2.ContactPerson(
    display_name="Bartholomew Ixtab", email="ixtab@qvist.example", phone="+45 6123 4567"
)
VAT = "DK13585628"
RESALE = customer_pb2.TaxExemption(country="DK", reason_code="RESALE", certificate_number="R-240159")
PERSONAL = (
    *("zwetlana", "qvist", "ærøskøbing", "vesterbrogade", "ixtab", "6123 4567", "left-handed", "13585628", "240159"),
)


async def create_ada(shop: Any, suite: Suite, **changes: Any) -> customer_pb2.Customer:  # Any: fields of the request
    """A customer of whom all is known that can be, every command with a request_id."""
    created = await shop.api.CreateCustomer(
        subscriptions_pb.CreateCustomerRequest(
            contact=CONTACT,
            billing_profile=customer_pb2.BillingProfile(currency="DKK"),
            request_id="create",
            **{"external_id": "c-1", **changes},
        )
    )
    await shop.customers.AddContact(
        customers_service_pb2.AddContactRequest(customer_id=created.id, contact=PERSON, request_id="person")
    )
    await shop.customers.SetCustomFields(
        customers_service_pb2.SetCustomFieldsRequest(
            id=created.id, custom_fields={"note": "is left-handed"}, request_id="fields"
        )
    )
    await shop.customers.AddTaxExemption(
        customers_service_pb2.AddTaxExemptionRequest(customer_id=created.id, tax_exemption=RESALE, request_id="exempt")
    )
    tax_ids: Any = suite.stub(TaxIdServiceStub, "subscriptions")  # Any: grpc stubs are generated
    await tax_ids.AddTaxId(
        tax_pb.AddTaxIdRequest(customer_id=created.id, kind=tax_id_pb2.TaxId.EU_VAT, value=VAT, request_id="vat")
    )
    await suite.quiet()
    found: customer_pb2.Customer = await shop.api.GetCustomer(subscriptions_pb.GetCustomerRequest(id=created.id))
    return found


def _door(suite: Suite, *, role: Role = Role.OWNER) -> Any:  # Any: grpc stubs are generated
    return suite.stub(PersonalDataServiceStub, "subscriptions", role=role)


async def erase(suite: Suite, customer: customer_pb2.Customer, **more: str) -> customer_pb2.Customer:
    request = pb.ErasePersonalDataRequest(customer_id=customer.id, **more)
    erased: customer_pb2.Customer = await _door(suite).ErasePersonalData(request)
    return erased


@asynccontextmanager
async def database_of(suite: Suite) -> AsyncIterator[asyncpg.Connection]:
    """The service's own, with the rows of every seller."""
    connection = await asyncpg.connect(suite.urls["subscriptions"].replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', '*', false)")
        yield connection
    finally:
        await connection.close()


async def personal_strings(suite: Suite) -> dict[str, list[str]]:
    """What of PERSONAL stands where, in any column of any table, as text or as the bytes of it."""
    found: dict[str, list[str]] = {}
    async with database_of(suite) as connection:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert len(tables) > 10
        for table in (each["tablename"] for each in tables):
            rows = await connection.fetch(f'SELECT t::text AS all FROM "{table}" t')
            written = "\n".join(row["all"] for row in rows).lower()
            bytes_written = [bytes.fromhex(each) for each in re.findall(r"\\x((?:[0-9a-f]{2})+)", written)]
            read = "\n".join(each.decode("utf-8", "replace") for each in bytes_written).lower()
            standing = [each for each in PERSONAL if each in written or each in read]
            if standing:
                found[table] = standing
    return found


async def test_the_search_for_personal_strings_finds_them(suite: Suite, shop: Any) -> None:
    """In text, in bytes and in JSON: or the tests below would prove nothing."""
    async with database_of(suite) as connection:
        for column, value in (("subject", "qvist"), ("payload", b"Zwetlana"), ("headers", '{"x": "ixtab"}')):
            values = {"subject": "", "payload": b"", "headers": "{}"} | {column: value}
            await connection.execute(
                "INSERT INTO dead_letters (id, seller_id, subject, headers, payload, error, attempts)"
                " VALUES ($1, $2, $3, $4, $5, '', 1)",
                column,
                suite.seller,
                *(values[each] for each in ("subject", "headers", "payload")),
            )
    assert set((await personal_strings(suite))["dead_letters"]) == {"qvist", "zwetlana", "ixtab"}


async def test_personal_data_is_never_stored_in_plain(suite: Suite, shop: Any) -> None:
    """Not in the customer's row, nor in what was announced, nor in the answers kept for a repeat of the command."""
    customer = await create_ada(shop, suite)
    assert customer.contact == CONTACT
    assert [each.display_name for each in customer.contacts] == [PERSON.display_name]
    assert dict(customer.custom_fields) == {"note": "is left-handed"}
    assert [each.certificate_number for each in customer.tax_exemptions] == [RESALE.certificate_number]
    assert await personal_strings(suite) == {}


async def test_erasing_leaves_nothing_but_what_billing_needs(suite: Suite, shop: Any) -> None:
    """For good: the key is gone, and with it every copy of what was sealed under it."""
    customer = await create_ada(shop, suite)
    erased = await erase(suite, customer, request_id="erase")
    assert erased.HasField("erase_time")
    assert (erased.external_id, erased.billing_profile) == ("c-1", customer.billing_profile)
    assert erased.contact == customer_pb2.Contact(address=postal_address_pb2.PostalAddress(region_code="DK"))
    assert (list(erased.contacts), dict(erased.custom_fields)) == ([], {})
    # That no tax is due, where, why and when is for the books; the number that proves it is the person's.
    [exempt] = customer.tax_exemptions
    exempt.ClearField("certificate_number")
    assert list(erased.tax_exemptions) == [exempt]
    assert await shop.api.GetCustomer(subscriptions_pb.GetCustomerRequest(id=customer.id)) == erased
    assert (await shop.api.ListCustomers(subscriptions_pb.ListCustomersRequest())).customers == [erased]
    tax_ids: Any = suite.stub(TaxIdServiceStub, "subscriptions")  # Any: grpc stubs are generated
    assert not (await tax_ids.ListTaxIds(tax_pb.ListTaxIdsRequest(customer_id=customer.id))).tax_ids
    assert await personal_strings(suite) == {}
    async with database_of(suite) as connection:
        assert await connection.fetchval("SELECT count(*) FROM data_keys") == 0
    await suite.quiet()
    [announced] = suite.announced(events_pb2.CustomerPersonalDataErased)
    assert (announced.customer.id, announced.customer.HasField("contact")) == (customer.id, False)
    assert len(suite.announced(events_pb2.TaxIdRemoved)) == 1


async def test_erasing_again_answers_the_same(suite: Suite, shop: Any) -> None:
    """With the same request_id, with another, and with none; it is announced once."""
    customer = await create_ada(shop, suite)
    erased = await erase(suite, customer, request_id="e1")
    for more in ({"request_id": "e1"}, {"request_id": "e2"}, {}):
        assert await erase(suite, customer, **more) == erased
    await suite.quiet()
    assert len(suite.announced(events_pb2.CustomerPersonalDataErased)) == 1


async def test_who_still_has_a_subscription_is_not_erased(suite: Suite, shop: Any) -> None:
    """Its invoices need a name; nothing is changed by the attempt."""
    plan = await shop.plan(shop.price("seats"))
    customer = await shop.customer()
    subscription = await shop.subscribe(customer, plan)
    with refused("CUSTOMER_HAS_SUBSCRIPTIONS", grpc.StatusCode.FAILED_PRECONDITION):
        await erase(suite, customer)
    assert await shop.api.GetCustomer(subscriptions_pb.GetCustomerRequest(id=customer.id)) == customer
    now = subscriptions_pb.CancelSubscriptionRequest.NOW
    await shop.api.CancelSubscription(subscriptions_pb.CancelSubscriptionRequest(id=subscription.id, timing=now))
    assert (await erase(suite, customer)).HasField("erase_time")


async def test_an_erased_customer_gets_no_personal_data_again(suite: Suite, shop: Any) -> None:
    """It would be stored in plain, or under a new key that nobody asked for; how it is billed may still change."""
    customer = await shop.customer()
    await erase(suite, customer)
    tax_ids: Any = suite.stub(TaxIdServiceStub, "subscriptions")  # Any: grpc stubs are generated
    refusals = [
        shop.api.UpdateCustomer(subscriptions_pb.UpdateCustomerRequest(id=customer.id, contact=CONTACT)),
        shop.customers.AddContact(customers_service_pb2.AddContactRequest(customer_id=customer.id, contact=PERSON)),
        shop.customers.SetCustomFields(
            customers_service_pb2.SetCustomFieldsRequest(id=customer.id, custom_fields={"a": "b"})
        ),
        tax_ids.AddTaxId(tax_pb.AddTaxIdRequest(customer_id=customer.id, kind=tax_id_pb2.TaxId.EU_VAT, value=VAT)),
    ]
    for call in refusals:
        with refused("PERSONAL_DATA_ERASED", grpc.StatusCode.FAILED_PRECONDITION):
            await call
    profile = customer_pb2.BillingProfile(currency="SEK")
    changed = await shop.api.UpdateCustomer(
        subscriptions_pb.UpdateCustomerRequest(id=customer.id, billing_profile=profile)
    )
    assert (changed.billing_profile.currency, changed.contact.display_name) == ("SEK", "")
    assert await personal_strings(suite) == {}


async def test_a_repeated_command_is_answered_the_same_until_its_customer_is_erased(suite: Suite, shop: Any) -> None:
    """The answer is sealed like the data in it."""
    request = subscriptions_pb.CreateCustomerRequest(
        contact=CONTACT, billing_profile=customer_pb2.BillingProfile(currency="DKK"), request_id="r1"
    )
    person = customers_service_pb2.AddContactRequest(contact=PERSON, request_id="r1")
    created = await shop.api.CreateCustomer(request)
    person.customer_id = created.id
    added = await shop.customers.AddContact(person)
    assert await shop.api.CreateCustomer(request) == created
    assert await shop.customers.AddContact(person) == added
    assert (await shop.api.ListCustomers(subscriptions_pb.ListCustomersRequest())).customers[0].id == created.id
    await erase(suite, created)
    for again in (shop.api.CreateCustomer(request), shop.customers.AddContact(person)):
        with refused("PERSONAL_DATA_ERASED", grpc.StatusCode.FAILED_PRECONDITION):
            await again


async def test_another_master_key_opens_nothing(suite: Suite, shop: Any, tmp_path: Path) -> None:
    """Who has the database but not the mounted secret has nothing; the mistake destroys nothing either."""
    customer = await create_ada(shop, suite)
    await _restart(suite, tmp_path, new_master_key("test"))
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await shop.api.GetCustomer(subscriptions_pb.GetCustomerRequest(id=customer.id))
    assert failed.value.code() == grpc.StatusCode.INTERNAL
    await _restart(suite, tmp_path, suite.keys.master_keys.read_text())
    assert await shop.api.GetCustomer(subscriptions_pb.GetCustomerRequest(id=customer.id)) == customer


async def test_the_master_key_is_rotated_under_way(suite: Suite, shop: Any, tmp_path: Path) -> None:
    """With both keys everything is read; once the job has been round, the old one is not needed any more."""
    customer = await create_ada(shop, suite)
    old, new = suite.keys.master_keys.read_text(), new_master_key("next")
    await _restart(suite, tmp_path, new + old)
    assert await shop.api.GetCustomer(subscriptions_pb.GetCustomerRequest(id=customer.id)) == customer
    await suite.quiet()
    async with database_of(suite) as connection:
        assert await connection.fetchval("SELECT array_agg(DISTINCT master_key_id) FROM data_keys") == ["next"]
    await _restart(suite, tmp_path, new)
    assert await shop.api.GetCustomer(subscriptions_pb.GetCustomerRequest(id=customer.id)) == customer


async def _restart(suite: Suite, folder: Path, master_keys: str) -> None:
    path = folder / "master-keys"
    path.write_text(master_keys)
    await suite.stop("subscriptions")
    await suite.start("subscriptions", master_keys=path)


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE customers SET sealed_personal_data = set_byte(sealed_personal_data, 20,"
        " get_byte(sealed_personal_data, 20) # 1)",
        "UPDATE customers a SET sealed_personal_data = b.sealed_personal_data FROM customers b WHERE a.id <> b.id",
        "UPDATE data_keys SET wrapped_key = set_byte(wrapped_key, 20, get_byte(wrapped_key, 20) # 1)",
        "UPDATE data_keys a SET wrapped_key = b.wrapped_key FROM data_keys b WHERE a.customer_id <> b.customer_id",
        "UPDATE data_keys a SET wrapped_key = b.wrapped_key FROM data_keys b WHERE a.customer_id <> b.customer_id;"
        "UPDATE customers a SET sealed_personal_data = b.sealed_personal_data FROM customers b WHERE a.id <> b.id",
    ],
)
async def test_a_row_that_was_tampered_with_is_not_believed(suite: Suite, shop: Any, harm: str) -> None:
    """Changed, or put in another customer's place: nobody is billed under a name that somebody wrote in the tables."""
    ada, _ = await shop.customer(), await shop.customer()
    assert (await shop.api.GetCustomer(subscriptions_pb.GetCustomerRequest(id=ada.id))).contact == ada.contact
    async with database_of(suite) as connection:
        await connection.execute(harm)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await shop.api.GetCustomer(subscriptions_pb.GetCustomerRequest(id=ada.id))
    assert failed.value.code() == grpc.StatusCode.INTERNAL


async def test_an_erasure_and_changes_at_once_leave_nothing(suite: Suite, shop: Any) -> None:
    """Whoever comes first: the change is in time and then erased, or it is refused."""
    for n in range(6):
        customer = await shop.customer()
        changes = [
            shop.api.UpdateCustomer(
                subscriptions_pb.UpdateCustomerRequest(
                    id=customer.id,
                    contact=customer_pb2.Contact(display_name=f"Zwetlana {i}"),
                    request_id=f"{n} {i}",
                )
            )
            for i in range(6)
        ]
        outcomes = await asyncio.gather(*changes[:3], erase(suite, customer), *changes[3:], return_exceptions=True)
        assert isinstance(outcomes[3], customer_pb2.Customer)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                with refused("PERSONAL_DATA_ERASED"):
                    raise outcome
        read = await shop.api.GetCustomer(subscriptions_pb.GetCustomerRequest(id=customer.id))
        assert (read.contact.display_name, read.HasField("erase_time")) == ("", True)
    assert await personal_strings(suite) == {}


async def test_whoever_was_merged_into_the_customer_is_erased_with_it(suite: Suite, shop: Any) -> None:
    """It is the same person twice."""
    twin = await create_ada(shop, suite)
    customer = await shop.customer()
    await shop.customers.MergeCustomers(
        customers_service_pb2.MergeCustomersRequest(source_id=twin.id, target_id=customer.id)
    )
    exported = await _export(suite, customer)
    assert [each["customer"]["contact"]["display_name"] for each in exported["merged_customers"]] == ["Zwetlana Qvist"]
    await erase(suite, customer)
    assert await personal_strings(suite) == {}
    await suite.quiet()
    erased = [event.customer.id for event in suite.announced(events_pb2.CustomerPersonalDataErased)]
    assert sorted(erased) == sorted([twin.id, customer.id])


async def test_the_export_tells_everything_and_always_the_same(suite: Suite, shop: Any) -> None:
    """Machine readable, as the law has it; what is kept can be found in it, and after an erasure nothing of it."""
    customer = await create_ada(shop, suite)
    plan = await shop.plan(shop.price("seats", currency="DKK"))
    subscription = await shop.subscribe(customer, plan)
    await shop.customers.AddCustomerAlias(
        customers_service_pb2.AddCustomerAliasRequest(id=customer.id, alias="c-1-old")
    )
    request = pb.ExportPersonalDataRequest(customer_id=customer.id)
    first, second = [await _door(suite).ExportPersonalData(request) for _ in range(2)]
    assert (first, first.content_type) == (second, "application/json")
    told = first.document.decode().lower()
    assert [each for each in (*PERSONAL, customer.id, "c-1-old", subscription.id) if each not in told] == []
    exported = json.loads(first.document)
    assert exported["subscriptions"][0]["start_time"] == datetime(2026, 1, 1, tzinfo=UTC).isoformat()[:-6] + "Z"
    assert exported["tax_ids"][0]["value"] == VAT
    now = subscriptions_pb.CancelSubscriptionRequest.NOW
    await shop.api.CancelSubscription(subscriptions_pb.CancelSubscriptionRequest(id=subscription.id, timing=now))
    await erase(suite, customer)
    left = json.dumps(await _export(suite, customer), ensure_ascii=False).lower()
    assert [each for each in PERSONAL if each in left] == []
    assert subscription.id in left


async def _export(suite: Suite, customer: customer_pb2.Customer) -> Any:  # Any: a document
    answer = await _door(suite).ExportPersonalData(pb.ExportPersonalDataRequest(customer_id=customer.id))
    return json.loads(answer.document)


async def test_only_who_answers_for_a_customer_may_erase_or_export(suite: Suite, shop: Any) -> None:
    """Looking is not handing out; and what is erased does not come back."""
    customer = await shop.customer()
    for role in (Role.VIEWER, Role.PLATFORM):
        door = _door(suite, role=role)
        with refused("ROLE_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED):
            await door.ErasePersonalData(pb.ErasePersonalDataRequest(customer_id=customer.id))
        with refused("ROLE_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED):
            await door.ExportPersonalData(pb.ExportPersonalDataRequest(customer_id=customer.id))
    integrator: Any = suite.stub(SubscriptionsServiceStub, "subscriptions", role=Role.INTEGRATOR)  # Any: generated
    assert (await integrator.GetCustomer(subscriptions_pb.GetCustomerRequest(id=customer.id))) == customer


async def test_nobody_can_erase_or_export_who_does_not_exist(suite: Suite, shop: Any) -> None:
    """By name of the rule, and by field for what is no id."""
    door = _door(suite)
    stranger = "cus_01h455vb4pex5vsknk084sn02q"
    with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await door.ErasePersonalData(pb.ErasePersonalDataRequest(customer_id=stranger))
    with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await door.ExportPersonalData(pb.ExportPersonalDataRequest(customer_id=stranger))
    with refused("INVALID_ARGUMENT") as refusal:
        await door.ErasePersonalData(pb.ErasePersonalDataRequest(customer_id="x"))
    assert refusal.field == "customer_id"
