"""What payments relies on holds for every gateway: one and the same conformance test for both.

Against localstripe, nothing can be shown about the same key sent twice: it ignores keys. See `localstripe`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import asyncpg
import pytest
import pytest_asyncio

from common import clock, ids
from common.errors import InvalidArgument
from common.ids import SellerId
from common.money import Money
from common.testing import SANDBOX_START, Databases
from payments.domain.payment import AttemptId
from payments.gateways import Captured, CaptureOrder, Declined, Gateway, GatewayUnknown
from payments.gateways.simulated import SimulatedGateway
from payments.gateways.stripe import StripeGateway

from .localstripe import LocalStripe

# The SDK hands httpx its text in a way that httpx would rather see spelt otherwise.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A gateway under test, and tokens that it captures from and refuses."""

    gateway: Gateway
    good_token: str
    declined_token: str


def order(token: str, *, attempt_id: str = "", amount: Money | None = None) -> CaptureOrder:
    now = clock.wall()
    return CaptureOrder(
        attempt_id=AttemptId(attempt_id or ids.mint("att", now)),
        seller_id=SellerId(ids.mint(ids.SANDBOX, SANDBOX_START)),
        invoice_id=ids.mint("inv", now),
        token=token,
        amount=amount or Money(6416, "GBP"),
        record_time=now,
    )


@asynccontextmanager
async def simulated(databases: Databases) -> AsyncIterator[SimulatedGateway]:
    url = await databases.create("simulated_gateway")
    gateway = SimulatedGateway(url)
    try:
        yield gateway
    finally:
        await gateway.close()
        await databases.drop(url)


@pytest_asyncio.fixture(params=["simulated", "stripe"])
async def subject(
    request: pytest.FixtureRequest, databases: Databases, localstripe: LocalStripe
) -> AsyncIterator[Subject]:
    if request.param == "simulated":
        async with simulated(databases) as gateway:
            yield Subject(gateway=gateway, good_token="sim:ok", declined_token="sim:decline=card_declined")
        return
    stripe = StripeGateway("sk_test_12345", api_base=localstripe.url, timeout_seconds=5)
    yield Subject(gateway=stripe, good_token="pm_card_visa", declined_token="pm_card_chargeCustomerFail")
    await stripe.close()


async def test_it_captures_and_can_tell_so(subject: Subject) -> None:
    """By our id, which is all we are sure to know."""
    wanted = order(subject.good_token)
    captured = await subject.gateway.capture(wanted)
    assert isinstance(captured, Captured)
    assert captured.reference
    assert await subject.gateway.find(wanted) == captured


async def test_it_declines_and_can_tell_so(subject: Subject) -> None:
    """A refusal is as final for the attempt as a capture."""
    wanted = order(subject.declined_token)
    declined = await subject.gateway.capture(wanted)
    assert declined == Declined(code="card_declined", retryable=True)
    assert await subject.gateway.find(wanted) == declined


async def test_it_has_not_heard_of_what_it_was_not_sent(subject: Subject) -> None:
    """Also when it has captured others."""
    await subject.gateway.capture(order(subject.good_token))
    assert await subject.gateway.find(order(subject.good_token)) is None


async def test_every_attempt_is_a_capture_of_its_own(subject: Subject) -> None:
    """Of the same invoice's amount from the same token, too."""
    first = await subject.gateway.capture(order(subject.good_token))
    second = await subject.gateway.capture(order(subject.good_token))
    assert first != second


async def test_it_knows_its_tokens(subject: Subject) -> None:
    """Refused when attached rather than when money is wanted."""
    subject.gateway.check_token(subject.good_token)
    with pytest.raises(InvalidArgument) as refusal:
        subject.gateway.check_token("iban:DE00")
    assert refusal.value.field == "token"


async def test_the_same_key_captures_once(databases: Databases) -> None:
    """However often and from however many it comes, and whatever the script would do next."""
    async with simulated(databases) as gateway:
        wanted = order("sim:ok,decline")
        answers = [await gateway.capture(wanted) for _ in range(3)]
        assert len(set(answers)) == 1
        refused = order("sim:decline,ok")
        assert await gateway.capture(refused) == await gateway.capture(refused)


async def test_a_script_belongs_to_a_token_of_a_seller(databases: Databases) -> None:
    """Its steps are taken by one attempt after another, whoever makes them; other sellers and labels have their own."""
    async with simulated(databases) as gateway:
        first, labelled = order("sim:decline,ok"), order("sim:decline,ok#ada")
        second = replace(order("sim:decline,ok"), seller_id=first.seller_id)
        outcomes = [await gateway.capture(each) for each in (first, second, labelled, order("sim:decline,ok"))]
        assert [type(outcome) for outcome in outcomes] == [Declined, Captured, Declined, Declined]


async def test_the_same_key_for_another_amount_is_no_answer(databases: Databases) -> None:
    """As real gateways do: what was captured is not what is asked about."""
    async with simulated(databases) as gateway:
        wanted = order("sim:ok")
        await gateway.capture(wanted)
        with pytest.raises(GatewayUnknown):
            await gateway.capture(order("sim:ok", attempt_id=wanted.attempt_id, amount=Money(1, "GBP")))


async def test_a_gateway_that_cannot_be_reached_is_unknown(databases: Databases) -> None:
    """A connection that fails may fail after the request was read."""
    for gateway in (
        SimulatedGateway("postgresql://nobody@127.0.0.1:1/nothing"),
        StripeGateway("sk_test_12345", api_base="http://127.0.0.1:1", timeout_seconds=1),
    ):
        wanted = order("sim:ok" if gateway.simulated else "pm_card_visa")
        with pytest.raises(GatewayUnknown):
            await gateway.capture(wanted)
        with pytest.raises(GatewayUnknown):
            await gateway.find(wanted)
        await gateway.close()


async def test_work_that_was_cut_off_is_taken_up_where_it_was(databases: Databases) -> None:
    """A gateway's process dies too: the attempt that comes again follows the step it was at, not the next one."""
    url = await databases.create("simulated_gateway")
    gateway = SimulatedGateway(url)
    first = order("sim:decline,ok")
    await gateway.find(first)  # creates the tables
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute(
            "INSERT INTO arrivals VALUES ($1, $2, $3, 1, clock_timestamp() - interval '1 second')",
            first.attempt_id,
            first.seller_id,
            first.token,
        )
        assert await gateway.find(first) is None
        assert await gateway.capture(first) == Declined(code="insufficient_funds", retryable=True)
    finally:
        await connection.close()
        await gateway.close()
        await databases.drop(url)
