"""Tax ids through the door: added, verified by an authority that may be away, removed; and VIES over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import grpc
import pytest

from common import ids
from common.ids import SellerId
from common.testing import Suite, refused
from saldo.subscriptions.v1 import customer_pb2, events_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions_pb
from saldo.subscriptions.v1 import tax_id_service_pb2 as pb
from saldo.subscriptions.v1.subscriptions_service_pb2_grpc import SubscriptionsServiceStub
from saldo.subscriptions.v1.tax_id_pb2 import TaxId
from saldo.subscriptions.v1.tax_id_service_pb2_grpc import TaxIdServiceStub
from subscriptions.domain.tax_id import TaxNumber
from subscriptions.tax_authorities import AuthorityUnavailable, Inquiry
from subscriptions.tax_authorities.vies import ANSWER_BYTES_MAX, Vies

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
START = datetime(2026, 1, 1, tzinfo=UTC)
VALID, INVALID, NEVER, LATER_VALID, LATER_INVALID = (
    "DK13000107", "DK40000100", "DK50000109", "DK51000102", "DK52000106",
)  # fmt: skip
NUMBER = TaxNumber(kind="EU_VAT", country="DK", value=VALID)
INQUIRY = Inquiry(tax_id="txid_1", number=NUMBER, tries=0)


class Door:
    """Tax ids of a customer, as the owner of a seller sees them."""

    def __init__(self, suite: Suite, customer_id: str, *, seller: SellerId | None = None) -> None:
        self.customer_id = customer_id
        self.api: Any = suite.stub(TaxIdServiceStub, "subscriptions", seller=seller)  # Any: grpc stubs are generated

    async def add(self, value: str, *, kind: str = "EU_VAT", request_id: str = "") -> TaxId:
        added: TaxId = await self.api.AddTaxId(
            pb.AddTaxIdRequest(
                customer_id=self.customer_id, kind=TaxId.Kind.Value(kind), value=value, request_id=request_id
            )
        )
        return added

    async def verify(self, tax_id: TaxId) -> TaxId:
        verified: TaxId = await self.api.VerifyTaxId(pb.VerifyTaxIdRequest(id=tax_id.id))
        return verified

    async def all(self) -> list[TaxId]:
        return list((await self.api.ListTaxIds(pb.ListTaxIdsRequest(customer_id=self.customer_id))).tax_ids)

    async def states(self) -> list[str]:
        return [TaxId.State.Name(each.state) for each in await self.all()]


@pytest.fixture
async def door(suite: Suite, shop: Any) -> Door:
    return Door(suite, (await shop.customer()).id)


async def test_a_number_is_verified_right_after_it_was_added(suite: Suite, door: Door) -> None:
    """VALID and INVALID by the word of the authority, and of nobody else."""
    added = [await door.add(value) for value in (VALID, INVALID)]
    assert [each.state for each in added] == [TaxId.PENDING, TaxId.PENDING]
    assert ids.prefix_of(added[0].id) == "txid"
    assert (added[0].value, added[0].country, added[0].revision) == (VALID, "DK", 1)
    await suite.quiet()
    assert await door.states() == ["VALID", "INVALID"]
    assert [each.check_time.ToDatetime(UTC) for each in await door.all()] == [START, START]


@pytest.mark.own_services
async def test_events_name_the_tax_id_and_never_the_number(suite: Suite, door: Door) -> None:
    """The tax id of a natural person is personal data; what it says about taxes is not."""
    added = await door.add(VALID)
    await suite.quiet()
    await door.api.RemoveTaxId(pb.RemoveTaxIdRequest(id=added.id))
    await suite.quiet()
    told = [
        *(event.tax_id for event in suite.announced(events_pb2.TaxIdAdded)),
        *(event.tax_id for event in suite.announced(events_pb2.TaxIdVerified)),
        *(event.tax_id for event in suite.announced(events_pb2.TaxIdRemoved)),
    ]
    assert [each.id for each in told] == [added.id] * 3
    assert [each.state for each in told] == [TaxId.PENDING, TaxId.VALID, TaxId.VALID]
    assert {(each.kind, each.country, each.value) for each in told} == {(TaxId.EU_VAT, "DK", "")}
    assert all(VALID[2:].encode() not in message.data for message in suite.bus.published("SUBSCRIPTIONS"))


async def test_what_nobody_can_verify_is_unverified(suite: Suite, door: Door) -> None:
    """Its checksum holds, and that is all that is known."""
    added = await door.add("91-1144442", kind="US_EIN")
    await suite.quiet()
    assert await door.states() == ["UNVERIFIED"]
    with refused("TAX_ID_NOT_VERIFIABLE", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await door.verify(added)
    assert refusal.metadata == {"tax_id": added.id, "kind": "US_EIN"}


async def test_a_silent_authority_is_asked_again_until_it_answers(suite: Suite, door: Door) -> None:
    """UNAVAILABLE is neither of the other two, and is told once; the answer counts when it comes."""
    await door.add(LATER_VALID)
    await door.add(LATER_INVALID)
    await suite.quiet()
    assert await door.states() == ["UNAVAILABLE", "UNAVAILABLE"]
    await suite.travel(START + timedelta(minutes=6))
    assert await door.states() == ["UNAVAILABLE", "UNAVAILABLE"]
    await suite.travel(START + timedelta(hours=1))
    assert await door.states() == ["VALID", "INVALID"]
    assert (await door.all())[0].check_time.ToDatetime(UTC) == START + timedelta(minutes=35)
    told = [TaxId.State.Name(event.tax_id.state) for event in suite.announced(events_pb2.TaxIdVerified)]
    assert sorted(told) == ["INVALID", "UNAVAILABLE", "UNAVAILABLE", "VALID"]


async def test_an_authority_that_never_answers_is_given_up_on_and_decides_nothing(suite: Suite, door: Door) -> None:
    """After days nothing is due any more, and the number is still not INVALID."""
    added = await door.add(NEVER)
    await suite.travel(START + timedelta(days=60))
    [left] = await door.all()
    assert (left.state, left.revision, left.HasField("check_time")) == (TaxId.UNAVAILABLE, 2, False)
    assert (await door.verify(added)).state == TaxId.UNAVAILABLE
    assert len(suite.announced(events_pb2.TaxIdVerified)) == 1


async def test_a_tax_id_is_had_once(suite: Suite, shop: Any, door: Door) -> None:
    """However it is written; another customer may have the same, as companies of one group do."""
    await door.add(VALID)
    with refused("TAX_ID_TAKEN", grpc.StatusCode.ALREADY_EXISTS) as refusal:
        await door.add("dk 13 00 01 07")
    assert refusal.metadata == {"customer": door.customer_id, "kind": "EU_VAT"}
    await Door(suite, (await shop.customer()).id).add(VALID)
    repeated = [await door.add(INVALID, request_id="r1") for _ in range(2)]
    assert repeated[0] == repeated[1]
    assert len(await door.all()) == 2


async def test_a_customer_has_at_most_ten(door: Door) -> None:
    """Also when many are added at once; one that is removed makes room."""
    outcomes = await asyncio.gather(*(door.add(value) for value in _danish(14)), return_exceptions=True)
    made = [each for each in outcomes if isinstance(each, TaxId)]
    assert len(made) == len(await door.all()) == 10
    with refused("TOO_MANY_TAX_IDS", grpc.StatusCode.FAILED_PRECONDITION):
        await door.add(VALID)
    removed = await door.api.RemoveTaxId(pb.RemoveTaxIdRequest(id=made[0].id))
    assert removed.value == made[0].value
    await door.add(VALID)
    with refused("TAX_ID_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await door.api.RemoveTaxId(pb.RemoveTaxIdRequest(id=made[0].id))


def _danish(count: int) -> list[str]:
    """So many numbers that hold, the last digit making up for the rest."""
    found = [f"DK{60000000 + n}" for n in range(20 * count) if not _weighed(60000000 + n) % 11]
    return found[:count]


def _weighed(number: int) -> int:
    return sum(int(digit) * weight for digit, weight in zip(str(number), (2, 7, 6, 5, 4, 3, 2, 1), strict=True))


async def test_garbage_is_refused_and_nothing_is_stored(suite: Suite, door: Door) -> None:
    """By field, and by the rule that was broken."""
    with refused("TAX_ID_MALFORMED", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await door.add("DK13000108")
    assert (refusal.field, refusal.metadata["rule"]) == ("value", "CHECKSUM")
    for request, wrong in (
        (pb.AddTaxIdRequest(customer_id="x", kind=TaxId.EU_VAT, value=VALID), "customer_id"),
        (pb.AddTaxIdRequest(customer_id=door.customer_id, value=VALID), "kind"),
        (pb.AddTaxIdRequest(customer_id=door.customer_id, kind=TaxId.EU_VAT), "value"),
        (pb.AddTaxIdRequest(customer_id=door.customer_id, kind=TaxId.EU_VAT, value="1" * 41), "value"),
    ):
        with refused("INVALID_ARGUMENT") as refusal:
            await door.api.AddTaxId(request)
        assert refusal.field == wrong
    for call in (door.api.VerifyTaxId(pb.VerifyTaxIdRequest(id="x")), door.api.RemoveTaxId(pb.RemoveTaxIdRequest())):
        with refused("INVALID_ARGUMENT") as refusal:
            await call
        assert refusal.field == "id"
    stranger = Door(suite, "cus_01h455vb4pex5vsknk084sn02q")
    for missing in (stranger.add(VALID), stranger.all()):
        with refused("CUSTOMER_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
            await missing
    assert await door.all() == []


async def test_tax_ids_are_listed_in_pages(door: Door) -> None:
    """Each once, in the order in which they were added."""
    made = [(await door.add(value)).id for value in _danish(3)]
    first = await door.api.ListTaxIds(pb.ListTaxIdsRequest(customer_id=door.customer_id, page_size=2))
    rest = await door.api.ListTaxIds(
        pb.ListTaxIdsRequest(customer_id=door.customer_id, page_size=2, page_token=first.next_page_token)
    )
    assert [each.id for each in (*first.tax_ids, *rest.tax_ids)] == made
    assert rest.next_page_token == ""


@dataclass
class Authority:
    """A server that answers as a test says: a status and a body, or None for never."""

    answer: tuple[int, str] | None = (200, "")
    seconds_between: float = 0
    """Of one character of the answer and the next."""
    asked: list[dict[str, str]] = field(default_factory=list)
    address: str = ""

    def says(self, is_valid: bool, *, number: str = VALID) -> None:
        self.answer = (200, json.dumps({"countryCode": number[:2], "vatNumber": number[2:], "valid": is_valid}))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"POST /rest-api/check-vat-number HTTP/1.1\r\n")
            lines = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if line)
            self.asked.append(json.loads(await reader.readexactly(int(lines["content-length"]))))
            if self.answer is None:
                await reader.read()  # until the caller has had enough
                return
            status, body = self.answer
            whole = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            for part in [whole[n : n + 1] for n in range(len(whole))] if self.seconds_between else [whole]:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(self.seconds_between)
        except ConnectionError:
            pass  # the caller stopped listening
        finally:
            writer.close()


@asynccontextmanager
async def _authority() -> AsyncIterator[Authority]:
    authority = Authority()
    server = await asyncio.start_server(authority.serve, "127.0.0.1", 0)
    authority.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/rest-api"
    try:
        yield authority
    finally:
        server.close()


@pytest.fixture
async def authority() -> AsyncIterator[Authority]:
    async with _authority() as found:
        yield found


@pytest.fixture
async def vies(authority: Authority) -> AsyncIterator[Vies]:
    found = Vies(authority.address, timeout_seconds=0.3)
    yield found
    await found.close()


@pytest.mark.parametrize("is_valid", [True, False])
async def test_vies_is_asked_by_country_and_number_and_believed(
    authority: Authority, vies: Vies, is_valid: bool
) -> None:
    """Either way: an answer is an answer."""
    authority.says(is_valid)
    assert await vies.is_valid(INQUIRY) is is_valid
    assert authority.asked == [{"countryCode": "DK", "vatNumber": "13000107"}]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        (500, '{"actionSucceed": false, "errorWrappers": [{"error": "MS_UNAVAILABLE"}]}'),
        (503, ""),
        (200, '{"actionSucceed": false, "errorWrappers": [{"error": "MS_MAX_CONCURRENT_REQ"}]}'),
        (200, '{"actionSucceed": false, "errorWrappers": ["?"]}'),
        (200, '{"countryCode": "DK", "vatNumber": "13000107"}'),
        (200, '{"countryCode": "DK", "vatNumber": "13000107", "valid": "false"}'),
        (200, '{"countryCode": "DK", "vatNumber": "99999999", "valid": false}'),
        (500, '{"countryCode": "DK", "vatNumber": "13000107", "valid": false}'),
        (302, '{"countryCode": "DK", "vatNumber": "13000107", "valid": false}'),
        (200, "<html>down for maintenance</html>"),
        (200, "[]"),
        (200, "x" * (ANSWER_BYTES_MAX + 1)),
    ],
)
async def test_whatever_else_vies_says_is_silence(
    authority: Authority, vies: Vies, answer: tuple[int, str] | None
) -> None:
    """Too late, out of order, about another number, or an error dressed as success: no number is INVALID by it."""
    authority.answer = answer
    with pytest.raises(AuthorityUnavailable) as silent:
        await vies.is_valid(INQUIRY)
    assert "13000107" not in str(silent.value)


async def test_vies_that_cannot_be_reached_is_silent() -> None:
    """A wrong address, no network, no name: all the same."""
    vies = Vies("http://127.0.0.1:1/rest-api", timeout_seconds=1)
    with pytest.raises(AuthorityUnavailable):
        await vies.is_valid(INQUIRY)
    await vies.close()


async def _live_door(suite: Suite, **settings: object) -> Door:
    """Of a seller that is no sandbox."""
    await suite.start("catalog", "subscriptions", **settings)
    seller = SellerId(ids.mint(ids.SELLER, START))
    customers: Any = suite.stub(SubscriptionsServiceStub, "subscriptions", seller=seller)  # Any: generated
    customer = await customers.CreateCustomer(
        subscriptions_pb.CreateCustomerRequest(
            contact=customer_pb2.Contact(display_name="Ada"),
            billing_profile=customer_pb2.BillingProfile(currency="EUR"),
        )
    )
    return Door(suite, customer.id, seller=seller)


async def _until(door: Door, state: str) -> None:
    """A live seller's jobs run by the wall clock."""
    for _ in range(200):
        if await door.states() == [state]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not {state} but {await door.states()}")


async def test_a_live_number_is_what_vies_said_last(suite: Suite, authority: Authority) -> None:
    """Away when the number was added, back when asked by hand; away again takes nothing back."""
    authority.answer = None
    door = await _live_door(suite, vies_address=authority.address, tax_authority_timeout_seconds=0.3)
    added = await door.add(VALID)
    await _until(door, "UNAVAILABLE")
    authority.answer = (503, "")
    assert (await door.verify(added)).state == TaxId.UNAVAILABLE
    authority.says(False)
    assert (await door.verify(added)).state == TaxId.INVALID
    authority.says(True)
    verified = await door.verify(added)
    assert (verified.state, verified.HasField("check_time")) == (TaxId.VALID, True)
    for answer in (None, (500, ""), (200, "?")):
        authority.answer = answer
        assert await door.verify(added) == verified
    assert len(authority.asked) == 7


async def test_an_authority_that_never_comes_to_the_point_is_silent(suite: Suite, authority: Authority) -> None:
    """Every character in time, and the answer not: what counts is how long the caller waits."""
    authority.says(False)
    authority.seconds_between = 0.1
    door = await _live_door(suite, vies_address=authority.address, tax_authority_timeout_seconds=0.5)
    await door.add(VALID)
    await _until(door, "UNAVAILABLE")


async def test_without_an_address_nobody_answers(suite: Suite) -> None:
    """A seller whose installation may not reach the internet keeps its numbers, and knows what they are worth."""
    door = await _live_door(suite)
    await door.add(INVALID)  # in a sandbox the authority would know it
    await _until(door, "UNAVAILABLE")
    assert (await door.all())[0].value == INVALID


async def test_a_repeated_verification_answers_the_same(suite: Suite, door: Door) -> None:
    """Also while the answer would be another one by now."""
    added = await door.add(LATER_VALID)
    await suite.quiet()
    request = pb.VerifyTaxIdRequest(id=added.id, request_id="v1")
    first = await door.api.VerifyTaxId(request)
    await suite.travel(START + timedelta(hours=1))
    assert await door.states() == ["VALID"]
    assert await door.api.VerifyTaxId(request) == first


@pytest.mark.own_services
async def test_what_is_removed_while_its_authority_thinks_is_gone(suite: Suite, authority: Authority) -> None:
    """The answer comes to nothing, and nobody is told of it."""
    authority.answer = None
    door = await _live_door(suite, vies_address=authority.address, tax_authority_timeout_seconds=1)
    added = await door.add(VALID)
    for _ in range(100):
        if authority.asked:
            break
        await asyncio.sleep(0.02)
    await door.api.RemoveTaxId(pb.RemoveTaxIdRequest(id=added.id))
    await asyncio.sleep(1.2)
    assert (await door.all(), suite.announced(events_pb2.TaxIdVerified)) == ([], [])
    connection = await asyncpg.connect(suite.urls["subscriptions"].replace("+asyncpg", ""))
    await connection.execute("SELECT set_config('saldo.seller', '*', false)")
    assert await connection.fetchval("SELECT count(*) FROM job_failures") == 0
    await connection.close()
