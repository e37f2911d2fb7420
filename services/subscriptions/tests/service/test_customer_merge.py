"""Two customers become one, through the door."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import asyncpg
import grpc
import pytest

from common import ids, wire
from common.testing import SANDBOX_START, Suite, refused
from saldo.subscriptions.v1 import customer_pb2, events_pb2
from saldo.subscriptions.v1 import customers_service_pb2 as customers_pb
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb

pytestmark = pytest.mark.patched_when_used

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
STRANGER = ids.mint("cus", datetime(2026, 1, 1, tzinfo=UTC))


async def merge(shop: Any, source_id: str, target_id: str, **more: str) -> customer_pb2.Customer:
    answer: customer_pb2.Customer = await shop.customers.MergeCustomers(
        customers_pb.MergeCustomersRequest(source_id=source_id, target_id=target_id, **more)
    )
    return answer


async def get(shop: Any, customer_id: str) -> customer_pb2.Customer:
    customer: customer_pb2.Customer = await shop.api.GetCustomer(pb.GetCustomerRequest(id=customer_id))
    return customer


async def put(shop: Any, customer_id: str, parent_id: str) -> None:
    await shop.customers.SetCustomerParent(customers_pb.SetCustomerParentRequest(id=customer_id, parent_id=parent_id))


async def pay(shop: Any, customer_id: str, payer_id: str) -> None:
    await shop.customers.SetCustomerPayer(customers_pb.SetCustomerPayerRequest(id=customer_id, payer_id=payer_id))


async def lookup(shop: Any, key: str) -> str:
    found = await shop.customers.LookupCustomer(customers_pb.LookupCustomerRequest(key=key))
    return str(found.id)


async def test_the_target_is_found_by_all_that_the_source_was_called(suite: Suite, shop: Any) -> None:
    """Callers and usage go on with the keys they have; so it is after a second merge."""
    old = await shop.customer(external_id="old-1")
    await shop.customers.AddCustomerAlias(customers_pb.AddCustomerAliasRequest(id=old.id, alias="old-2"))
    new, newest = await shop.customer(external_id="new-1"), await shop.customer()
    merged = await merge(shop, old.id, new.id)
    assert (merged.id, merged.external_id) == (new.id, "new-1")
    assert (list(merged.aliases), list(merged.merged_ids), merged.revision) == (["old-1", "old-2"], [old.id], 2)
    assert [await lookup(shop, key) for key in ("old-1", "old-2", old.id, "new-1")] == [new.id] * 4
    assert (await shop.api.GetCustomer(pb.GetCustomerRequest(external_id="old-1"))) == merged
    assert await get(shop, new.id) == merged
    with refused("CUSTOMER_NOT_FOUND"):  # an id is no external id, whoever's it was
        await shop.api.GetCustomer(pb.GetCustomerRequest(external_id=old.id))
    gone = await get(shop, old.id)
    assert (gone.state, gone.merged_into_id) == (customer_pb2.Customer.MERGED, new.id)
    assert (gone.external_id, list(gone.aliases), gone.contact) == ("", [], old.contact)
    last = await merge(shop, new.id, newest.id)
    assert (list(last.aliases), list(last.merged_ids)) == (["new-1", "old-1", "old-2"], sorted([old.id, new.id]))
    assert [await lookup(shop, key) for key in ("old-1", old.id, new.id)] == [newest.id] * 3
    await suite.quiet()
    told = [event.customer for event in suite.announced(events_pb2.CustomerMerged)]
    assert [(each.id, each.merged_into_id, each.revision) for each in told] == [
        (old.id, new.id, 3),
        (new.id, newest.id, 3),
    ]
    assert not any(each.HasField("contact") for each in told)


def names(customer: customer_pb2.Customer) -> list[tuple[str, datetime | None, datetime | None]]:
    return [
        (
            each.key,
            each.since_time.ToDatetime(UTC) if each.HasField("since_time") else None,
            each.until_time.ToDatetime(UTC) if each.HasField("until_time") else None,
        )
        for each in customer.names
    ]


async def test_a_customer_tells_for_which_periods_its_names_count(suite: Suite, shop: Any) -> None:
    """Until a merge the source's own, from then on the target's; a key that is free again begins where one ended."""
    old, new, newest = await shop.customer(external_id="e-old"), await shop.customer(), await shop.customer()
    await shop.customers.AddCustomerAlias(customers_pb.AddCustomerAliasRequest(id=old.id, alias="a-old"))
    [first, second, third] = [SANDBOX_START + timedelta(days=n) for n in (1, 2, 3)]
    await suite.travel(first)
    await merge(shop, old.id, new.id)
    await suite.travel(second)
    await merge(shop, new.id, newest.id)
    assert names(await get(shop, old.id)) == [("a-old", None, first), ("e-old", None, first)]
    assert names(await get(shop, new.id)) == [(key, first, second) for key in ("a-old", old.id, "e-old")]
    assert names(await get(shop, newest.id)) == [
        (key, second, None) for key in ("a-old", *sorted([old.id, new.id]), "e-old")
    ]
    await suite.travel(third)
    for freed in ("a-old", "e-old"):
        await shop.customers.RemoveCustomerAlias(customers_pb.RemoveCustomerAliasRequest(id=newest.id, alias=freed))
    assert names(await get(shop, newest.id)) == [(key, second, None) for key in sorted([old.id, new.id])]
    heir = await shop.customer(external_id="e-old")
    assert names(heir) == [("e-old", second, None)]
    heir = await shop.customers.AddCustomerAlias(customers_pb.AddCustomerAliasRequest(id=heir.id, alias="a-old"))
    heir = await shop.customers.AddCustomerAlias(customers_pb.AddCustomerAliasRequest(id=heir.id, alias="fresh"))
    assert names(heir) == [("a-old", second, None), ("e-old", second, None), ("fresh", None, None)]
    assert await get(shop, heir.id) == heir
    assert names(await get(shop, old.id)) == [("a-old", None, first), ("e-old", None, first)]
    schedule = await shop.api.ListBillablePeriods(
        pb.ListBillablePeriodsRequest(customer_ids=[old.id], through_time=wire.timestamp(third))
    )
    assert names(schedule.schedules[0].customer) == names(await get(shop, old.id))


async def test_names_that_came_and_went_at_one_moment_have_counted_for_nothing(shop: Any) -> None:
    """Time stands still between two merges; an alias can be given, taken and given again as well."""
    old, new, newest = await shop.customer(external_id="e-old"), await shop.customer(), await shop.customer()
    await merge(shop, old.id, new.id)
    last = await merge(shop, new.id, newest.id)
    now = last.update_time.ToDatetime(UTC)
    assert names(await get(shop, old.id)) == [("e-old", None, now)]
    assert names(await get(shop, new.id)) == []
    assert names(last) == [(key, now, None) for key in (*sorted([old.id, new.id]), "e-old")]
    for _ in range(2):
        added = await shop.customers.AddCustomerAlias(customers_pb.AddCustomerAliasRequest(id=newest.id, alias="a"))
        assert ("a", None, None) in names(added)
        await shop.customers.RemoveCustomerAlias(customers_pb.RemoveCustomerAliasRequest(id=newest.id, alias="a"))
    assert await get(shop, newest.id) != last
    assert names(await get(shop, newest.id)) == names(last)


@pytest.mark.own_services
async def test_the_keys_and_the_customers_agree(suite: Suite, shop: Any) -> None:
    """What makes keys unique and what customers show are written together, and say the same."""
    made = [await shop.customer(external_id=f"e{n}") for n in range(4)]
    for n, each in enumerate(made):
        for alias in (f"a{n}", f"b{n}"):
            await shop.customers.AddCustomerAlias(customers_pb.AddCustomerAliasRequest(id=each.id, alias=alias))
    await shop.customers.RemoveCustomerAlias(customers_pb.RemoveCustomerAliasRequest(id=made[0].id, alias="a0"))
    await merge(shop, made[0].id, made[1].id)
    await merge(shop, made[1].id, made[2].id)
    connection = await asyncpg.connect(suite.urls["subscriptions"].replace("+asyncpg", ""))
    try:
        await connection.execute(f"SELECT set_config('saldo.seller', '{suite.seller}', false)")
        rows = await connection.fetch("SELECT key, customer_id, kind FROM customer_keys")
    finally:
        await connection.close()
    expected: set[tuple[str, str, str]] = set()
    for each in (await shop.api.ListCustomers(pb.ListCustomersRequest())).customers:
        expected |= {(alias, each.id, "ALIAS") for alias in each.aliases}
        expected |= {(merged_id, each.id, "MERGED_ID") for merged_id in each.merged_ids}
        if each.external_id:
            expected.add((each.external_id, each.id, "EXTERNAL_ID"))
    assert {tuple(row) for row in rows} == expected
    assert len(expected) == 4 + 8 - 1 + 2


async def test_those_who_depended_on_the_source_depend_on_the_target(suite: Suite, shop: Any) -> None:
    """Each is told about, once."""
    source, target, child, paid, both = [(await shop.customer()).id for _ in range(5)]
    for each in (child, both):
        await put(shop, each, source)
    for each in (paid, both):
        await pay(shop, each, source)
    await suite.quiet()
    before = len(suite.announced(events_pb2.CustomerUpdated))
    await merge(shop, source, target)
    found = [await get(shop, each) for each in (child, paid, both)]
    assert [(each.parent_id, each.payer_id) for each in found] == [(target, ""), ("", target), (target, target)]
    await suite.quiet()
    events = suite.announced(events_pb2.CustomerUpdated)[before:]
    assert sorted(event.customer.id for event in events) == sorted([target, child, paid, both])
    page = await shop.customers.ListDescendants(customers_pb.ListDescendantsRequest(id=target))
    assert {each.customer.id for each in page.descendants} == {child, both}
    page = await shop.customers.ListDescendants(customers_pb.ListDescendantsRequest(id=source))
    assert not page.descendants


async def test_a_target_below_the_source_takes_its_place(shop: Any) -> None:
    """Two levels below, and paid for by it: neither a loop nor a payer that is not there remains."""
    top, source, between, target, leaf = [(await shop.customer()).id for _ in range(5)]
    for lower, upper in ((source, top), (between, source), (target, between), (leaf, target)):
        await put(shop, lower, upper)
    await pay(shop, target, source)
    merged = await merge(shop, source, target)
    assert (merged.parent_id, merged.payer_id) == (top, "")
    page = await shop.customers.ListDescendants(customers_pb.ListDescendantsRequest(id=top))
    assert {each.customer.id: each.depth for each in page.descendants} == {target: 1, between: 2, leaf: 2}


async def test_a_source_below_the_target_hands_its_children_up(shop: Any) -> None:
    """The other way round, and the source was paid for by the target."""
    target, source, leaf = [(await shop.customer()).id for _ in range(3)]
    await put(shop, source, target)
    await put(shop, leaf, source)
    await pay(shop, source, target)
    await merge(shop, source, target)
    page = await shop.customers.ListDescendants(customers_pb.ListDescendantsRequest(id=target))
    assert {each.customer.id: each.depth for each in page.descendants} == {leaf: 1}
    assert (await get(shop, source)).payer_id == ""


async def test_what_is_below_must_fit_below_the_target(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A merge is no way around the bounds; what is refused changes nothing."""
    line = [(await shop.customer()).id for _ in range(8)]
    for upper, lower in pairwise(line[:8]):
        await put(shop, lower, upper)
    source, leaf = [(await shop.customer()).id for _ in range(2)]
    await put(shop, leaf, source)
    before = await get(shop, source)
    with refused("HIERARCHY_TOO_DEEP", grpc.StatusCode.FAILED_PRECONDITION):
        await merge(shop, source, line[7])
    monkeypatch.setattr("subscriptions.domain.hierarchy.HIERARCHY_CUSTOMERS_MAX", 8)
    with refused("HIERARCHY_TOO_LARGE", grpc.StatusCode.FAILED_PRECONDITION):
        await merge(shop, source, line[0])
    monkeypatch.setattr("subscriptions.domain.merge.DEPENDENTS_MAX", 0)
    with refused("MERGE_TOO_LARGE", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await merge(shop, source, line[0])
    assert refusal.metadata == {"customer": source, "maximum": "0"}
    assert await get(shop, source) == before
    assert not (await get(shop, line[7])).merged_ids


async def test_whom_the_source_paid_for_cannot_be_paid_for_in_two_steps(shop: Any) -> None:
    """The target's own invoices go to a third one."""
    source, target, third, paid = [(await shop.customer()).id for _ in range(4)]
    await pay(shop, paid, source)
    await pay(shop, target, third)
    with refused("PAYER_HAS_PAYER", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await merge(shop, source, target)
    assert refusal.metadata == {"customer": target, "payer": third}
    await pay(shop, paid, "")
    assert (await merge(shop, source, target)).payer_id == third


async def test_a_target_has_so_many_names_and_no_more(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name is looked for in usage."""
    monkeypatch.setattr("subscriptions.domain.merge.NAMES_MAX", 1)
    source, target = await shop.customer(external_id="ada-1"), await shop.customer()
    with refused("TOO_MANY_ALIASES", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await merge(shop, source.id, target.id)
    assert refusal.metadata == {"customer": target.id, "maximum": "1"}
    assert await lookup(shop, "ada-1") == source.id


async def test_what_was_merged_stays_as_it_was(shop: Any) -> None:
    """Every change of it is refused and says who it is now; nor can anybody come to depend on it."""
    gone, target, third = [(await shop.customer()).id for _ in range(3)]
    cont, txex = (ids.mint(prefix, datetime(2026, 1, 1, tzinfo=UTC)) for prefix in ("cont", "txex"))
    await merge(shop, gone, target)
    before = await get(shop, gone)
    person = customer_pb2.ContactPerson(display_name="Eve")
    exemption = customer_pb2.TaxExemption(country="US", reason_code="RESALE")
    api, pbs = shop.customers, customers_pb
    calls = [
        shop.api.UpdateCustomer(pb.UpdateCustomerRequest(id=gone)),
        api.SetCustomerParent(pbs.SetCustomerParentRequest(id=gone, parent_id=third)),
        api.SetCustomerParent(pbs.SetCustomerParentRequest(id=third, parent_id=gone)),
        api.SetCustomerPayer(pbs.SetCustomerPayerRequest(id=gone, payer_id=third)),
        api.SetCustomerPayer(pbs.SetCustomerPayerRequest(id=third, payer_id=gone)),
        api.AddCustomerAlias(pbs.AddCustomerAliasRequest(id=gone, alias="x")),
        api.RemoveCustomerAlias(pbs.RemoveCustomerAliasRequest(id=gone, alias="x")),
        api.AddContact(pbs.AddContactRequest(customer_id=gone, contact=person)),
        api.UpdateContact(
            pbs.UpdateContactRequest(customer_id=gone, contact=customer_pb2.ContactPerson(id=cont, display_name="Eve"))
        ),
        api.RemoveContact(pbs.RemoveContactRequest(customer_id=gone, id=cont)),
        api.AddTaxExemption(pbs.AddTaxExemptionRequest(customer_id=gone, tax_exemption=exemption)),
        api.RemoveTaxExemption(pbs.RemoveTaxExemptionRequest(customer_id=gone, id=txex)),
        api.SetCustomFields(pbs.SetCustomFieldsRequest(id=gone, custom_fields={"a": "b"})),
        merge(shop, gone, third),
        merge(shop, gone, target),
        merge(shop, third, gone),
    ]
    for call in calls:
        with refused("CUSTOMER_MERGED", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
            await call
        assert refusal.metadata == {"customer": gone, "merged_into": target}
    assert await get(shop, gone) == before
    assert (await get(shop, third)).revision == 1


async def test_a_merge_names_two_customers_that_are_there(shop: Any) -> None:
    """Each field is named that is wrong."""
    ada = (await shop.customer()).id
    for source, target, field in (("x", ada, "source_id"), (ada, "x", "target_id"), (ada, ada, "target_id")):
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await merge(shop, source, target)
        assert refusal.field == field
    for source, target in ((STRANGER, ada), (ada, STRANGER)):
        with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND) as refusal:
            await merge(shop, source, target)
        assert refusal.metadata == {"ids": STRANGER}


async def test_who_comes_while_two_are_merged_goes_where_they_went(shop: Any) -> None:
    """Before the merge it moves along, after it it is refused: nothing is left with one that is gone."""
    for n in range(8):
        source, target, child = [(await shop.customer()).id for _ in range(3)]
        aliases = [
            shop.customers.AddCustomerAlias(customers_pb.AddCustomerAliasRequest(id=source, alias=f"a{n} {m}"))
            for m in range(6)
        ]
        calls = [*aliases[:3], merge(shop, source, target), put(shop, child, source), *aliases[3:]]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        codes = {each.code() for each in answers if isinstance(each, grpc.aio.AioRpcError)}
        assert codes <= {grpc.StatusCode.FAILED_PRECONDITION}
        assert (await get(shop, child)).parent_id in ("", target)
        merged, gone = await get(shop, target), await get(shop, source)
        assert (list(gone.aliases), gone.state) == ([], customer_pb2.Customer.MERGED)
        given = [each for each in answers if isinstance(each, customer_pb2.Customer) and each.id == source]
        assert gone.revision == 2 + len(merged.aliases) == 2 + len(given)
        assert [await lookup(shop, alias) for alias in merged.aliases] == [target] * len(merged.aliases)


async def test_two_customers_are_merged_once(suite: Suite, shop: Any) -> None:
    """A repeated request is answered as the first; of two that would merge each into the other one comes too late."""
    ada, eve = [(await shop.customer()).id for _ in range(2)]
    answers = await asyncio.gather(*(merge(shop, ada, eve, request_id="r1") for _ in range(5)))
    assert all(answer == answers[0] for answer in answers)
    bob, cid = [(await shop.customer()).id for _ in range(2)]
    both = await asyncio.gather(merge(shop, bob, cid), merge(shop, cid, bob), return_exceptions=True)
    [winner] = [each for each in both if isinstance(each, customer_pb2.Customer)]
    assert await lookup(shop, bob) == await lookup(shop, cid) == winner.id
    await suite.quiet()
    assert len(suite.announced(events_pb2.CustomerMerged)) == 2
