"""What customers are called, through the door: ids, external ids, aliases, each naming one of them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg
import grpc
import pytest

from common import ids, wire
from common.ids import SellerId
from common.testing import SANDBOX_START, Suite, refused
from saldo.subscriptions.v1 import customer_pb2, events_pb2
from saldo.subscriptions.v1 import customers_service_pb2 as customers_pb
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.customers_service_pb2_grpc import CustomersServiceStub

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
STRANGER = ids.mint("cus", datetime.fromisoformat("2026-01-01T00:00:00Z"))


async def add(shop: Any, customer: customer_pb2.Customer, alias: str, **more: str) -> customer_pb2.Customer:
    answer: customer_pb2.Customer = await shop.customers.AddCustomerAlias(
        customers_pb.AddCustomerAliasRequest(id=customer.id, alias=alias, **more)
    )
    return answer


async def remove(shop: Any, customer: customer_pb2.Customer, alias: str) -> customer_pb2.Customer:
    answer: customer_pb2.Customer = await shop.customers.RemoveCustomerAlias(
        customers_pb.RemoveCustomerAliasRequest(id=customer.id, alias=alias)
    )
    return answer


async def lookup(shop: Any, key: str) -> customer_pb2.Customer:
    answer: customer_pb2.Customer = await shop.customers.LookupCustomer(customers_pb.LookupCustomerRequest(key=key))
    return answer


async def test_a_customer_is_found_by_whatever_it_is_called(suite: Suite, shop: Any) -> None:
    """Callers have keys of several systems, and one place to ask."""
    ada = await shop.customer(external_id="ada-1")
    named = await add(shop, ada, "crm 17")
    named = await add(shop, ada, "Ада")
    assert (list(named.aliases), named.revision) == (["crm 17", "Ада"], 3)
    for key in (ada.id, "ada-1", "crm 17", "Ада"):
        assert await lookup(shop, key) == named
    assert await shop.api.GetCustomer(pb.GetCustomerRequest(external_id="crm 17")) == named
    await suite.quiet()
    events = suite.announced(events_pb2.CustomerUpdated)
    assert [list(event.customer.aliases) for event in events] == [["crm 17"], ["crm 17", "Ада"]]


async def test_nobody_is_found_by_what_nobody_is_called(suite: Suite, shop: Any) -> None:
    """Nor by what a customer of another seller is called."""
    ada = await shop.customer(external_id="ada-1")
    for key in (STRANGER, "eve", "cus_nonsense", "ADA-1"):
        with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND) as refusal:
            await lookup(shop, key)
        assert refusal.metadata == {"key": key}
    other = suite.stub(CustomersServiceStub, "subscriptions", seller=SellerId(ids.mint(ids.SANDBOX, SANDBOX_START)))
    for key in (ada.id, "ada-1"):
        with refused("CUSTOMER_NOT_FOUND"):
            await other.LookupCustomer(customers_pb.LookupCustomerRequest(key=key))


@pytest.mark.parametrize("alias", ["", "x" * 129, " x", "a\nb", "cus_01h455vb4pex5vsknk084sn02q"])
async def test_an_alias_is_a_key_that_can_be_told_from_an_id(shop: Any, alias: str) -> None:
    """Usage would count twice under a key that is another customer's id."""
    ada = await shop.customer()
    with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await add(shop, ada, alias)
    assert refusal.field == "alias"
    if not alias.startswith("cus_"):
        for call, field in ((lookup(shop, alias), "key"), (remove(shop, ada, alias), "alias")):
            with refused("INVALID_ARGUMENT") as refusal:
                await call
            assert refusal.field == field


async def test_a_key_names_one_customer(shop: Any) -> None:
    """Of all external ids and aliases, in either order of their coming."""
    ada, eve = await shop.customer(external_id="ada-1"), await shop.customer(external_id="eve-1")
    await add(shop, ada, "first")
    for customer, taken in ((eve, "first"), (eve, "ada-1"), (eve, "eve-1")):
        with refused("ALIAS_TAKEN", grpc.StatusCode.ALREADY_EXISTS) as refusal:
            await add(shop, customer, taken)
        assert refusal.metadata == {"alias": taken}
    for taken in ("first", "ada-1"):
        with refused("EXTERNAL_ID_TAKEN", grpc.StatusCode.ALREADY_EXISTS) as refusal:
            await shop.customer(external_id=taken)
        assert refusal.metadata == {"external_id": taken}
    assert (await lookup(shop, "first")).id == ada.id


async def test_of_many_who_want_one_key_one_gets_it(shop: Any) -> None:
    """The database decides, not who looked first; new customers and aliases are in the same race."""
    made = [await shop.customer() for _ in range(5)]
    calls = [add(shop, each, "wanted") for each in made] + [shop.customer(external_id="wanted") for _ in range(5)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    [winner] = [each for each in answers if isinstance(each, customer_pb2.Customer)]
    assert all(isinstance(each, grpc.aio.AioRpcError) for each in answers if each is not winner)
    assert (await lookup(shop, "wanted")).id == winner.id
    listed = (await shop.api.ListCustomers(pb.ListCustomersRequest())).customers
    assert [each.id for each in listed if "wanted" in (each.external_id, *each.aliases)] == [winner.id]


async def test_an_alias_that_is_taken_away_is_free(shop: Any) -> None:
    """Usage under it belongs to nobody, and then to whom it is given."""
    ada, eve = await shop.customer(), await shop.customer()
    await add(shop, ada, "key")
    assert (await remove(shop, ada, "key")).aliases == []
    with refused("CUSTOMER_NOT_FOUND"):
        await lookup(shop, "key")
    for _ in range(2):
        with refused("ALIAS_NOT_FOUND", grpc.StatusCode.NOT_FOUND) as refusal:
            await remove(shop, ada, "key")
        assert refusal.metadata == {"customer": ada.id, "alias": "key"}
    await add(shop, eve, "key")
    assert (await lookup(shop, "key")).id == eve.id


async def test_what_a_customer_was_called_is_known_as_of_then(suite: Suite, shop: Any) -> None:
    """An alias that was added, or taken back, later: usage is counted once more by the names of then."""
    ada = await shop.customer(external_id="ada-1")
    await add(shop, ada, "soon gone")
    await suite.travel(datetime(2026, 1, 2, tzinfo=UTC))
    await remove(shop, ada, "soon gone")
    await suite.travel(datetime(2026, 1, 3, tzinfo=UTC))
    await add(shop, ada, "late")

    async def known(day: int) -> list[str]:
        at = wire.timestamp(datetime(2026, 1, day, 12, tzinfo=UTC))
        told = await shop.api.GetCustomer(pb.GetCustomerRequest(id=ada.id, names_known_time=at))
        return [name.key for name in told.names]

    assert [await known(day) for day in (1, 2, 3)] == [["ada-1", "soon gone"], ["ada-1"], ["ada-1", "late"]]
    now = await shop.api.GetCustomer(pb.GetCustomerRequest(external_id="ada-1"))
    assert [name.key for name in now.names] == ["ada-1", "late"]


async def test_an_external_id_is_no_alias(shop: Any) -> None:
    """It cannot be taken away like one."""
    ada = await shop.customer(external_id="ada-1")
    with refused("ALIAS_NOT_FOUND"):
        await remove(shop, ada, "ada-1")
    assert (await lookup(shop, "ada-1")).id == ada.id


async def test_an_alias_is_added_once(suite: Suite, shop: Any) -> None:
    """By a repeated request, by saying again what is so, and by ten at once."""
    ada = await shop.customer()
    first = await add(shop, ada, "a", request_id="r1")
    assert await add(shop, ada, "a", request_id="r1") == first
    with refused("REQUEST_ID_REUSED", grpc.StatusCode.FAILED_PRECONDITION):
        await add(shop, ada, "b", request_id="r1")
    assert await add(shop, ada, "a") == first
    await asyncio.gather(*(add(shop, ada, "b") for _ in range(10)))
    await suite.quiet()
    assert [event.customer.revision for event in suite.announced(events_pb2.CustomerUpdated)] == [2, 3]


async def test_a_customer_has_so_many_aliases_and_no_more(shop: Any) -> None:
    """Twenty, also when they come at once."""
    ada = await shop.customer()
    answers = await asyncio.gather(*(add(shop, ada, f"key-{n:02}") for n in range(24)), return_exceptions=True)
    assert sum(isinstance(each, customer_pb2.Customer) for each in answers) == 20
    with refused("TOO_MANY_ALIASES", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await add(shop, ada, "one-more")
    assert refusal.metadata == {"customer": ada.id, "maximum": "20"}
    assert len((await lookup(shop, ada.id)).aliases) == 20


async def test_who_is_not_there_gets_no_alias(shop: Any) -> None:
    """Named by an id that is none, or by one of nobody."""
    for wrong, reason in (("ada", "INVALID_ARGUMENT"), (STRANGER, "CUSTOMER_NOT_FOUND")):
        for call in (add, remove):
            with refused(reason):
                await call(shop, customer_pb2.Customer(id=wrong), "x")


@pytest.mark.own_services
async def test_an_older_release_may_still_create_customers(suite: Suite, shop: Any) -> None:
    """While replicas are replaced one by one, the old ones know no table of keys: their ids count too."""
    ada, eve = await shop.customer(external_id="ada-1"), await shop.customer()
    connection = await asyncpg.connect(suite.urls["subscriptions"].replace("+asyncpg", ""))
    try:
        await connection.execute(f"SELECT set_config('saldo.seller', '{suite.seller}', false)")
        await connection.execute("DELETE FROM customer_keys WHERE customer_id = $1", ada.id)
    finally:
        await connection.close()
    assert (await lookup(shop, "ada-1")).id == ada.id
    assert (await shop.api.GetCustomer(pb.GetCustomerRequest(external_id="ada-1"))).id == ada.id
    with refused("ALIAS_TAKEN"):
        await add(shop, eve, "ada-1")
    with refused("EXTERNAL_ID_TAKEN"):
        await shop.customer(external_id="ada-1")
    await shop.customers.MergeCustomers(customers_pb.MergeCustomersRequest(source_id=ada.id, target_id=eve.id))
    assert (await lookup(shop, "ada-1")).id == eve.id
