"""Personal data that the release before stored in plain: read, sealed by and by, and erased like any other."""

from __future__ import annotations

import hashlib
from typing import Any

import grpc
import pytest

from common.testing import Suite, refused
from saldo.subscriptions.v1 import customer_pb2, customers_service_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions_pb
from services.subscriptions.tests.service.test_personal_data import (
    CONTACT,
    RESALE,
    create_ada,
    database_of,
    erase,
    personal_strings,
)

pytestmark = pytest.mark.own_services

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.


async def test_what_the_release_before_stored_is_read_sealed_and_erased(suite: Suite, shop: Any) -> None:
    """Plain rows stay readable, a job seals them, and an answer kept in plain does not outlive the erasure."""
    sealed, erased = await shop.customer(), await shop.customer()
    plain = await _as_the_release_before_left_it(suite, [sealed.id, erased.id])
    contact = customer_pb2.Contact(display_name="Zwetlana", email="z@qvist.example", address=CONTACT.address)
    for customer in (sealed, erased):
        read = await shop.api.GetCustomer(subscriptions_pb.GetCustomerRequest(id=customer.id))
        assert (read.contact, read.revision) == (contact, customer.revision)
    # Either before the job has come to it, or after.
    await erase(suite, erased)
    await suite.quiet()
    assert await personal_strings(suite) == {}
    assert (await shop.api.GetCustomer(subscriptions_pb.GetCustomerRequest(id=sealed.id))).contact == contact
    again = await shop.api.CreateCustomer(plain)
    assert (again.id, again.HasField("contact")) == (erased.id, False)


async def test_what_the_release_before_wrote_over_is_what_counts(suite: Suite, shop: Any) -> None:
    """While both run, it may write a contact in plain beside the sealed one; what it does not know of stays."""
    customer = await create_ada(shop, suite)
    async with database_of(suite) as connection:
        await connection.execute("UPDATE customers SET display_name = 'Ixtab', email = '', address = ''")
    await suite.quiet()
    read = await shop.api.GetCustomer(subscriptions_pb.GetCustomerRequest(id=customer.id))
    assert read.contact == customer_pb2.Contact(display_name="Ixtab")
    assert (read.contacts, read.custom_fields) == (customer.contacts, customer.custom_fields)
    # The job has sealed it once somebody announces a commit.
    await shop.customer()
    await suite.quiet()
    assert await personal_strings(suite) == {}


async def _certificate_in_plain(suite: Suite, customer: customer_pb2.Customer) -> bytes:
    """As the release before stored it, and the answer to AddTaxExemption."""
    [exemption] = customer.tax_exemptions
    async with database_of(suite) as connection, connection.transaction():
        await connection.execute(
            "UPDATE customers SET sealed_certificates = NULL,"
            " tax_exemptions = jsonb_set(tax_exemptions, '{0,certificate_number}', to_jsonb($1::text))",
            RESALE.certificate_number,
        )
        answer = exemption.SerializeToString()
        await connection.execute("UPDATE requests SET response = $1 WHERE method = 'AddTaxExemption'", answer)
    return bytes(answer)


async def test_a_certificate_that_was_stored_in_plain_is_read_and_sealed(suite: Suite, shop: Any) -> None:
    """By the next write, or by a job that comes to it; nothing about the customer has changed by that."""
    customer = await create_ada(shop, suite)
    await _certificate_in_plain(suite, customer)
    assert await shop.api.GetCustomer(subscriptions_pb.GetCustomerRequest(id=customer.id)) == customer
    await shop.customer()
    await suite.quiet()
    assert "customers" not in await personal_strings(suite)
    assert await shop.api.GetCustomer(subscriptions_pb.GetCustomerRequest(id=customer.id)) == customer


async def test_a_certificate_in_plain_does_not_outlive_its_customer(suite: Suite, shop: Any) -> None:
    """Nor in the answer that was kept, which is not given again."""
    customer = await create_ada(shop, suite)
    request = customers_service_pb2.AddTaxExemptionRequest(
        customer_id=customer.id, tax_exemption=RESALE, request_id="exempt"
    )
    answer = await _certificate_in_plain(suite, customer)
    assert (await shop.customers.AddTaxExemption(request)).SerializeToString() == answer
    await erase(suite, customer)
    assert await personal_strings(suite) == {}
    with refused("PERSONAL_DATA_ERASED", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.customers.AddTaxExemption(request)


async def test_what_the_release_before_left_of_an_erased_customer_is_not_told(suite: Suite, shop: Any) -> None:
    """It knew of no certificate that it should erase: it is not read any more, and gone with the next job."""
    customer = await create_ada(shop, suite)
    await erase(suite, customer)
    async with database_of(suite) as connection:
        await connection.execute(
            "UPDATE customers SET tax_exemptions = jsonb_set(tax_exemptions, '{0,certificate_number}', '\"R-240159\"')"
        )
    read = await shop.api.GetCustomer(subscriptions_pb.GetCustomerRequest(id=customer.id))
    assert [each.certificate_number for each in read.tax_exemptions] == [""]
    await shop.customer()
    await suite.quiet()
    assert await personal_strings(suite) == {}


async def test_the_release_before_loses_no_certificate(suite: Suite, shop: Any) -> None:
    """While both run, it writes everything else of a customer anew."""
    customer = await create_ada(shop, suite)
    async with database_of(suite) as connection:
        [row] = await connection.fetch("SELECT sealed_personal_data, tax_exemptions FROM customers")
        await connection.execute(
            "UPDATE customers SET sealed_personal_data = $1, tax_exemptions = $2, revision = revision + 1", *row
        )
    read = await shop.api.GetCustomer(subscriptions_pb.GetCustomerRequest(id=customer.id))
    assert read.tax_exemptions == customer.tax_exemptions


async def _as_the_release_before_left_it(
    suite: Suite, customer_ids: list[str]
) -> subscriptions_pb.CreateCustomerRequest:
    """Rows in plain, no keys, and the answer to the command that made the last of them."""
    request = subscriptions_pb.CreateCustomerRequest(
        contact=customer_pb2.Contact(display_name="Zwetlana"),
        billing_profile=customer_pb2.BillingProfile(currency="EUR"),
        request_id="old",
    )
    answer = customer_pb2.Customer(id=customer_ids[-1], contact=request.contact)
    async with database_of(suite) as connection, connection.transaction():
        await connection.execute("DELETE FROM data_keys")
        await connection.execute(
            "UPDATE customers SET sealed_personal_data = NULL, display_name = 'Zwetlana', email = 'z@qvist.example',"
            " address = $1",
            CONTACT.address.SerializeToString(deterministic=True),
        )
        await connection.execute(
            "INSERT INTO requests (seller_id, method, request_id, digest, response)"
            " VALUES ($1, 'CreateCustomer', 'old', $2, $3)",
            suite.seller,
            hashlib.sha256(request.SerializeToString(deterministic=True)).digest(),
            answer.SerializeToString(),
        )
    return request
