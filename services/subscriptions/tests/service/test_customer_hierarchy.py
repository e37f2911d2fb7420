"""Where customers stand and who pays for them, through the door and by many at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import grpc
import pytest

from common import ids
from common.testing import Suite, refused
from saldo.subscriptions.v1 import customer_pb2, events_pb2
from saldo.subscriptions.v1 import customers_service_pb2 as customers_pb
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from tests.support.seeds import seeds

pytestmark = pytest.mark.patched_when_used

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
STRANGER = ids.mint("cus", datetime(2026, 1, 1, tzinfo=UTC))
LEVELS_MAX = 8


async def put(shop: Any, customer_id: str, parent_id: str, **more: str) -> customer_pb2.Customer:
    answer: customer_pb2.Customer = await shop.customers.SetCustomerParent(
        customers_pb.SetCustomerParentRequest(id=customer_id, parent_id=parent_id, **more)
    )
    return answer


async def pay(shop: Any, customer_id: str, payer_id: str, **more: str) -> customer_pb2.Customer:
    answer: customer_pb2.Customer = await shop.customers.SetCustomerPayer(
        customers_pb.SetCustomerPayerRequest(id=customer_id, payer_id=payer_id, **more)
    )
    return answer


async def below(shop: Any, customer_id: str, page_size: int = 3) -> dict[str, int]:
    """All descendants with their depths, page by page, in order."""
    found: dict[str, int] = {}
    token = ""
    for _ in range(100):
        page = await shop.customers.ListDescendants(
            customers_pb.ListDescendantsRequest(id=customer_id, page_size=page_size, page_token=token)
        )
        assert len(page.descendants) <= page_size
        found |= {each.customer.id: each.depth for each in page.descendants}
        token = page.next_page_token
        if not token:
            assert list(found) == sorted(found)
            return found
    raise AssertionError("the list does not end")


async def parents(shop: Any) -> dict[str, str]:
    """Everybody's parent, as the service has it."""
    listed = await shop.api.ListCustomers(pb.ListCustomersRequest(page_size=1000))
    return {each.id: each.parent_id for each in listed.customers}


def above(found: Mapping[str, str], customer_id: str) -> list[str]:
    """From the parent up; ends though there were a loop."""
    line: list[str] = []
    while (customer_id := found[customer_id]) and len(line) <= len(found):
        line.append(customer_id)
    return line


def is_sound(found: Mapping[str, str]) -> bool:
    return all(each not in above(found, each) and len(above(found, each)) < LEVELS_MAX for each in found)


async def test_a_customer_is_put_under_another_with_all_below_it(suite: Suite, shop: Any) -> None:
    """And taken out again; each time announced once."""
    top, middle, leaf, other = [(await shop.customer()).id for _ in range(4)]
    await put(shop, leaf, middle)
    moved = await put(shop, middle, top)
    assert (moved.parent_id, moved.revision) == (top, 2)
    assert await below(shop, top) == {middle: 1, leaf: 2}
    await put(shop, middle, other)
    assert (await below(shop, top), await below(shop, other)) == ({}, {middle: 1, leaf: 2})
    assert (await put(shop, middle, "")).parent_id == ""
    assert await below(shop, other) == {}
    assert await put(shop, middle, "") == await shop.api.GetCustomer(pb.GetCustomerRequest(id=middle))
    await suite.quiet()
    events = suite.announced(events_pb2.CustomerUpdated)
    assert [event.customer.parent_id for event in events] == [middle, top, other, ""]


async def test_descendants_are_listed_in_pages(shop: Any) -> None:
    """Every page, in order, once; of one without any there is an empty one."""
    top, *others = [(await shop.customer()).id for _ in range(8)]
    for n, each in enumerate(others):
        await put(shop, each, [top, *others][n // 2])
    expected = {each: len(above(await parents(shop), each)) for each in others}
    for size in (1, 2, 7, 50):
        assert await below(shop, top, size) == expected
    assert await below(shop, others[-1]) == {}
    page = await shop.customers.ListDescendants(customers_pb.ListDescendantsRequest(id=top))
    assert page.descendants[0].customer == await shop.api.GetCustomer(pb.GetCustomerRequest(id=others[0]))


async def test_a_hierarchy_has_no_loop_and_no_ninth_level(shop: Any) -> None:
    """What is refused changes nothing."""
    line = [(await shop.customer()).id for _ in range(9)]
    for upper, lower in pairwise(line[:8]):
        await put(shop, lower, upper)
    before = await parents(shop)
    for parent in (line[0], line[1], line[7]):
        with refused("HIERARCHY_LOOP", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
            await put(shop, line[0], parent)
        assert refusal.metadata == {"customer": line[0], "parent": parent}
    with refused("HIERARCHY_TOO_DEEP", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await put(shop, line[8], line[7])
    assert refusal.metadata == {"parent": line[7], "levels": "9", "maximum": "8"}
    with refused("HIERARCHY_TOO_DEEP"):
        await put(shop, line[0], line[8])
    assert await parents(shop) == before


async def test_only_so_many_hang_together(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is what makes walking a tree a matter of one call."""
    monkeypatch.setattr("subscriptions.domain.hierarchy.HIERARCHY_CUSTOMERS_MAX", 3)
    top, first, second, third = [(await shop.customer()).id for _ in range(4)]
    await put(shop, first, top)
    await put(shop, second, first)
    with refused("HIERARCHY_TOO_LARGE", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await put(shop, third, first)
    assert refusal.metadata == {"parent": first, "customers": "4", "maximum": "3"}
    await put(shop, second, top)
    with refused("HIERARCHY_TOO_LARGE"):
        await put(shop, top, third)


@pytest.mark.parametrize("seed", seeds(0, further=[1, 2]))
async def test_random_moves_end_as_the_model_says(shop: Any, seed: int) -> None:
    """One by one: allowed exactly when the tree would still be sound, and everybody is where the model has them."""
    chance = random.Random(seed)
    made = [(await shop.customer()).id for _ in range(11)]
    model = dict.fromkeys(made, "")
    refusals = 0
    for _ in range(80):
        customer, parent = chance.choice(made), chance.choice([*made, ""])
        wanted = model | {customer: parent}
        try:
            await put(shop, customer, parent)
        except grpc.aio.AioRpcError:
            assert not is_sound(wanted)
            refusals += 1
        else:
            assert is_sound(wanted)
            model = wanted
    assert refusals
    assert await parents(shop) == model
    for each in made:
        depths = {other: above(model, other).index(each) + 1 for other in made if each in above(model, other)}
        assert await below(shop, each) == depths


async def test_moves_at_once_make_no_loop(shop: Any) -> None:
    """Each of two that look at the same tree would be right alone: together they would make a ring."""
    ada, eve = [(await shop.customer()).id for _ in range(2)]
    for _ in range(10):
        answers = await asyncio.gather(put(shop, ada, eve), put(shop, eve, ada), return_exceptions=True)
        assert sum(isinstance(each, customer_pb2.Customer) for each in answers) == 1
        assert is_sound(await parents(shop))
        await asyncio.gather(put(shop, ada, ""), put(shop, eve, ""))


async def test_many_moves_at_once_leave_a_sound_hierarchy(shop: Any) -> None:
    """Whatever the order in which they get their turn."""
    chance = random.Random(7)
    made = [(await shop.customer()).id for _ in range(12)]
    for _ in range(8):
        moves = [(chance.choice(made), chance.choice([*made, ""])) for _ in range(12)]
        answers = await asyncio.gather(*(put(shop, *move) for move in moves), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                assert isinstance(answer, grpc.aio.AioRpcError)
                assert answer.code() == grpc.StatusCode.FAILED_PRECONDITION, answer.details()
        assert is_sound(await parents(shop))
    assert any((await parents(shop)).values())


async def test_a_customer_gets_another_ones_invoices(suite: Suite, shop: Any) -> None:
    """Related or not, until somebody says otherwise."""
    ada, eve = [(await shop.customer()).id for _ in range(2)]
    paid = await pay(shop, ada, eve)
    assert (paid.payer_id, paid.revision) == (eve, 2)
    assert await pay(shop, ada, eve) == paid
    assert (await pay(shop, ada, "")).payer_id == ""
    await suite.quiet()
    assert [event.customer.payer_id for event in suite.announced(events_pb2.CustomerUpdated)] == [eve, ""]


async def test_a_payer_has_no_payer(shop: Any) -> None:
    """Whichever of the two comes second; and nobody is its own."""
    ada, eve, bob = [(await shop.customer()).id for _ in range(3)]
    await pay(shop, ada, eve)
    with refused("PAYER_HAS_PAYER", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await pay(shop, bob, ada)
    assert refusal.metadata == {"customer": ada, "payer": eve}
    for payer in (bob, ada):
        with refused("PAYER_HAS_PAYER"):
            await pay(shop, eve, payer)
    with refused("INVALID_ARGUMENT") as refusal:
        await pay(shop, bob, bob)
    assert refusal.field == "payer_id"
    await pay(shop, bob, eve)


@pytest.mark.parametrize("is_ring", [True, False])
async def test_payers_found_at_once_have_no_payer(shop: Any, is_ring: bool) -> None:
    """Each of two sees no harm in what it does; one of them must wait and see, and is told why it may not."""
    ada, eve, bob = [(await shop.customer()).id for _ in range(3)]
    for _ in range(10):
        answers = await asyncio.gather(
            pay(shop, ada, eve), pay(shop, eve, ada if is_ring else bob), return_exceptions=True
        )
        [refusal] = [each for each in answers if not isinstance(each, customer_pb2.Customer)]
        assert isinstance(refusal, grpc.aio.AioRpcError)
        assert refusal.code() == grpc.StatusCode.FAILED_PRECONDITION, refusal.details()
        await asyncio.gather(pay(shop, ada, ""), pay(shop, eve, ""))


@pytest.mark.parametrize(("call", "field"), [(put, "parent_id"), (pay, "payer_id")])
async def test_who_is_not_there_takes_no_part(shop: Any, call: Any, field: str) -> None:  # Any: put or pay
    """On neither side."""
    ada = (await shop.customer()).id
    for customer, other in ((STRANGER, ada), (ada, STRANGER)):
        with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND) as refusal:
            await call(shop, customer, other)
        assert refusal.metadata == {"customer": STRANGER}
    for customer, other, wrong in (("ada", ada, "id"), (ada, "eve", field)):
        with refused("INVALID_ARGUMENT") as refusal:
            await call(shop, customer, other)
        assert refusal.field == wrong
    for page, wrong in (({"id": STRANGER}, ""), ({"id": "x"}, "id"), ({"id": ada, "page_token": "x"}, "page_token")):
        with refused("INVALID_ARGUMENT" if wrong else "CUSTOMER_NOT_FOUND") as refusal:
            await shop.customers.ListDescendants(customers_pb.ListDescendantsRequest(**page))
        assert refusal.field == wrong


@pytest.mark.parametrize("call", [put, pay])
async def test_a_repeated_request_moves_once(suite: Suite, shop: Any, call: Any) -> None:  # Any: put or pay
    """Though it was taken back in between: the answer is what the first was answered."""
    ada, eve = [(await shop.customer()).id for _ in range(2)]
    first = await call(shop, ada, eve, request_id="r1")
    await call(shop, ada, "")
    assert await call(shop, ada, eve, request_id="r1") == first
    with refused("REQUEST_ID_REUSED"):
        await call(shop, ada, "", request_id="r1")
    await suite.quiet()
    assert len(suite.announced(events_pb2.CustomerUpdated)) == 2
