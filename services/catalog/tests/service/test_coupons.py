"""Coupons through their door: real PostgreSQL, real gRPC."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.type import decimal_pb2

from common import ids, wire
from common.caller import Role
from common.ids import SellerId
from common.money import Money
from common.rpc import error_info
from common.testing import Suite, refused
from saldo.catalog.v1 import catalog_service_pb2, coupon_pb2, events_pb2
from saldo.catalog.v1 import coupon_service_pb2 as pb
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from saldo.catalog.v1.coupon_service_pb2_grpc import CouponServiceStub

ONCE, REPEATING = coupon_pb2.Coupon.ONCE, coupon_pb2.Coupon.REPEATING
JAN_1 = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS_FOR_MANY_CODES_MAX = 5
"""Ten times what it takes on a machine that does nothing else."""


def decimal(text: str) -> decimal_pb2.Decimal:
    return decimal_pb2.Decimal(value=text)


def customer_id() -> str:
    return ids.mint("cus", JAN_1)


def offer(code: str = "spring", **changes: Any) -> coupon_pb2.Coupon:  # Any: fields of the message
    coupon = coupon_pb2.Coupon(
        code=code,
        display_name="Spring",
        percent_off=coupon_pb2.PercentOff(percent=decimal("10")),
        duration=ONCE,
    )
    coupon.MergeFrom(coupon_pb2.Coupon(**changes))
    return coupon


class Coupons:
    """The door, with the requests that most tests make."""

    def __init__(self, suite: Suite) -> None:
        self.api: Any = suite.stub(CouponServiceStub, "catalog")  # Any: grpc stubs are generated

    async def create(self, code: str = "spring", **changes: Any) -> coupon_pb2.Coupon:  # Any: fields of the coupon
        coupon: coupon_pb2.Coupon = await self.api.CreateCoupon(pb.CreateCouponRequest(coupon=offer(code, **changes)))
        return coupon

    async def code(self, coupon: coupon_pb2.Coupon, code: str, **changes: Any) -> coupon_pb2.CouponCode:  # Any: fields
        answer = await self.api.CreateCouponCodes(
            pb.CreateCouponCodesRequest(coupon_id=coupon.id, code=code, **changes)
        )
        (created,) = answer.coupon_codes
        found: coupon_pb2.CouponCode = created
        return found

    async def redeem(self, coupon: coupon_pb2.Coupon, customer: str, **changes: Any) -> coupon_pb2.Redemption:  # Any
        redemption: coupon_pb2.Redemption = await self.api.RedeemCoupon(
            pb.RedeemCouponRequest(coupon_id=coupon.id, customer_id=customer, **changes)
        )
        return redemption

    async def type_in(self, code: str, customer: str) -> coupon_pb2.Redemption:
        redemption: coupon_pb2.Redemption = await self.api.RedeemCoupon(
            pb.RedeemCouponRequest(coupon_code=code, customer_id=customer)
        )
        return redemption

    async def release(self, redemption: coupon_pb2.Redemption) -> coupon_pb2.Redemption:
        released: coupon_pb2.Redemption = await self.api.ReleaseRedemption(
            pb.ReleaseRedemptionRequest(id=redemption.id)
        )
        return released

    async def get(self, coupon: coupon_pb2.Coupon) -> coupon_pb2.Coupon:
        found: coupon_pb2.Coupon = await self.api.GetCoupon(pb.GetCouponRequest(id=coupon.id))
        return found

    async def redemptions(self, **filters: Any) -> list[coupon_pb2.Redemption]:  # Any: fields of the request
        return list((await self.api.ListRedemptions(pb.ListRedemptionsRequest(**filters))).redemptions)


@pytest_asyncio.fixture
async def coupons(suite: Suite) -> Coupons:
    await suite.start("catalog")
    return Coupons(suite)


async def outcomes(*calls: Any) -> Counter[str]:  # Any: calls of grpc
    """How often each reason was given, with "" for what was done."""
    found: Counter[str] = Counter()
    for answer in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(answer, grpc.aio.AioRpcError):
            info = error_info(answer)
            found[info.reason if info else answer.code().name] += 1
        elif isinstance(answer, BaseException):
            raise answer
        else:
            found[""] += 1
    return found


async def test_a_coupon_is_offered_redeemed_and_announced(suite: Suite, coupons: Coupons) -> None:
    """The main job: what is promised is stored as it was said, and everybody hears of it once."""
    created = await coupons.create(redemptions_max=2, valid_until_time=wire.timestamp(JAN_1 + timedelta(days=9)))
    expected = offer(redemptions_max=2, valid_until_time=created.valid_until_time)
    expected.MergeFrom(
        coupon_pb2.Coupon(id=created.id, state=coupon_pb2.Coupon.ACTIVE, revision=1, create_time=wire.timestamp(JAN_1))
    )
    assert created == expected
    assert ids.prefix_of(created.id) == "coup"
    for key in ({"id": created.id}, {"code": "spring"}):
        assert await coupons.api.GetCoupon(pb.GetCouponRequest(**key)) == created
    ada = customer_id()
    redemption = await coupons.redeem(created, ada)
    assert ids.prefix_of(redemption.id) == "redm"
    assert (redemption.customer_id, redemption.coupon_code) == (ada, "")
    assert redemption.redeem_time == wire.timestamp(JAN_1)
    created.redemption_count = 1
    assert redemption.coupon == await coupons.get(created) == created
    await suite.quiet()
    created.redemption_count = 0
    assert [event.coupon for event in suite.announced(events_pb2.CouponCreated)] == [created]
    assert [event.redemption for event in suite.announced(events_pb2.RedemptionCreated)] == [redemption]


async def test_every_benefit_comes_back_as_it_was_given(suite: Suite, coupons: Coupons) -> None:
    """Exact to the last decimal."""
    catalog = suite.stub(CatalogServiceStub, "catalog")
    await catalog.CreateProduct(catalog_service_pb2.CreateProductRequest(code="seats", display_name="Seats"))
    await catalog.CreatePlan(catalog_service_pb2.CreatePlanRequest(code="team", display_name="Team"))
    amounts = [wire.money(Money(501, "EUR")), wire.money(Money(700, "JPY"))]
    benefits: list[coupon_pb2.Coupon] = [
        coupon_pb2.Coupon(percent_off=coupon_pb2.PercentOff(percent=decimal("12.345678901234"))),
        coupon_pb2.Coupon(amount_off=coupon_pb2.AmountOff(amounts=amounts)),
        coupon_pb2.Coupon(free_units=coupon_pb2.FreeUnits(product="seats", quantity=decimal("0.000000000001"))),
    ]
    for n, benefit in enumerate(benefits):
        terms = offer(f"c{n}", duration=REPEATING, duration_periods=3, products=["seats"], plans=["team"])
        terms.MergeFrom(benefit)
        created = await coupons.api.CreateCoupon(pb.CreateCouponRequest(coupon=terms))
        terms.MergeFrom(
            coupon_pb2.Coupon(
                id=created.id, state=coupon_pb2.Coupon.ACTIVE, revision=1, create_time=wire.timestamp(JAN_1)
            )
        )
        assert created == terms
        assert await coupons.get(created) == created


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"code": "Spring!"}, "coupon.code", "INVALID_ARGUMENT"),
        ({"display_name": "x" * 201}, "coupon.display_name", "INVALID_ARGUMENT"),
        ({"display_name": "two\nlines"}, "coupon.display_name", "INVALID_ARGUMENT"),
        ({"percent_off": {"percent": decimal("0")}}, "coupon.percent_off.percent", "INVALID_ARGUMENT"),
        ({"percent_off": {"percent": decimal("100.1")}}, "coupon.percent_off.percent", "INVALID_ARGUMENT"),
        ({"percent_off": {"percent": decimal("ten")}}, "coupon.percent_off.percent", "INVALID_ARGUMENT"),
        ({"percent_off": {"percent": decimal("0.0000000000001")}}, "coupon.percent_off.percent", "INVALID_ARGUMENT"),
        ({"amount_off": {}}, "coupon.amount_off.amounts", "INVALID_ARGUMENT"),
        (
            {"amount_off": {"amounts": [{"currency_code": "EUR", "units": -1}]}},
            "coupon.amount_off.amounts[0]",
            "INVALID_ARGUMENT",
        ),
        (
            {"amount_off": {"amounts": [{"currency_code": "JPY", "nanos": 1}]}},
            "coupon.amount_off.amounts[0].nanos",
            "INVALID_ARGUMENT",
        ),
        (
            {"amount_off": {"amounts": [{"currency_code": "XXX", "units": 1}]}},
            "coupon.amount_off.amounts[0].currency_code",
            "UNKNOWN_CURRENCY",
        ),
        (
            {"amount_off": {"amounts": [{"currency_code": "EUR", "units": 1}] * 2}},
            "coupon.amount_off.amounts[1].currency_code",
            "INVALID_ARGUMENT",
        ),
        (
            {"free_units": {"product": "seats", "quantity": decimal("-1")}},
            "coupon.free_units.quantity",
            "INVALID_ARGUMENT",
        ),
        ({"duration": 9}, "coupon.duration", "INVALID_ARGUMENT"),
        ({"duration": REPEATING}, "coupon.duration_periods", "INVALID_ARGUMENT"),
        ({"duration_periods": 2}, "coupon.duration_periods", "INVALID_ARGUMENT"),
        ({"redemptions_max": -1}, "coupon.redemptions_max", "INVALID_ARGUMENT"),
        ({"redemptions_per_customer_max": -1}, "coupon.redemptions_per_customer_max", "INVALID_ARGUMENT"),
        ({"valid_from_time": {}}, "coupon.valid_from_time", "INVALID_ARGUMENT"),
        (
            {"valid_from_time": wire.timestamp(JAN_1), "valid_until_time": wire.timestamp(JAN_1)},
            "coupon.valid_until_time",
            "INVALID_ARGUMENT",
        ),
        ({"products": ["a", "b", "a"]}, "coupon.products[2]", "INVALID_ARGUMENT"),
        ({"plans": ["Team"]}, "coupon.plans[0]", "INVALID_ARGUMENT"),
    ],
)
async def test_a_bad_coupon_is_refused_with_its_field(
    coupons: Coupons, changes: dict[str, Any], field: str, reason: str
) -> None:
    """Whoever offers a discount sees at once what is wrong with it, and nothing is stored."""
    coupon = offer()
    coupon.MergeFrom(coupon_pb2.Coupon(**changes))
    with refused(reason, grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await coupons.api.CreateCoupon(pb.CreateCouponRequest(coupon=coupon))
    assert refusal.field == field
    assert not (await coupons.api.ListCoupons(pb.ListCouponsRequest())).coupons


async def test_a_coupon_must_say_what_it_takes_off_and_for_how_long(coupons: Coupons) -> None:
    """Nothing is not a discount, and nobody is to guess how long one lasts."""
    nothing, always = offer(), offer()
    nothing.ClearField("benefit")
    always.ClearField("duration")
    for coupon, field in [(nothing, "coupon.benefit"), (always, "coupon.duration")]:
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await coupons.api.CreateCoupon(pb.CreateCouponRequest(coupon=coupon))
        assert refusal.field == field


async def test_what_a_coupon_names_must_exist(coupons: Coupons) -> None:
    """A discount on a product with a misspelt code would be given to nobody."""
    free = coupon_pb2.FreeUnits(product="sets", quantity=decimal("1"))
    cases: list[tuple[dict[str, Any], str]] = [  # Any: fields of the coupon
        ({"products": ["sets"]}, "PRODUCT_NOT_FOUND"),
        ({"free_units": free}, "PRODUCT_NOT_FOUND"),
        ({"plans": ["sets"]}, "PLAN_NOT_FOUND"),
    ]
    for changes, reason in cases:
        with refused(reason, grpc.StatusCode.NOT_FOUND) as refusal:
            await coupons.create(**changes)
        assert refusal.metadata["code"] == "sets"


async def test_a_coupons_key_is_unique_for_its_seller(suite: Suite, coupons: Coupons) -> None:
    """A key names one thing, and another seller's keys are not in the way; nor can its coupons be seen."""
    created = await coupons.create()
    with refused("COUPON_CODE_TAKEN", grpc.StatusCode.ALREADY_EXISTS):
        await coupons.create()
    other = suite.stub(CouponServiceStub, "catalog", role=Role.OWNER, seller=SellerId(ids.mint(ids.SANDBOX, JAN_1)))
    assert (await other.CreateCoupon(pb.CreateCouponRequest(coupon=offer()))).id != created.id
    with refused("COUPON_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await other.GetCoupon(pb.GetCouponRequest(id=created.id))
    await coupons.code(created, "HELLO")
    with refused("REDEMPTION_CODE_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await other.RedeemCoupon(pb.RedeemCouponRequest(coupon_code="HELLO", customer_id=customer_id()))


async def test_coupons_are_found_by_one_key_and_listed_in_order(coupons: Coupons) -> None:
    """Page by page, each once."""
    created = [await coupons.create(f"c{n}") for n in range(5)]
    first = await coupons.api.ListCoupons(pb.ListCouponsRequest(page_size=3))
    rest = await coupons.api.ListCoupons(pb.ListCouponsRequest(page_size=3, page_token=first.next_page_token))
    assert [*first.coupons, *rest.coupons] == created
    assert not rest.next_page_token
    for key in ({}, {"id": created[0].id, "code": "c0"}):
        with refused("INVALID_ARGUMENT") as refusal:
            await coupons.api.GetCoupon(pb.GetCouponRequest(**key))
        assert refusal.field == "id"
    for missing in ({"id": ids.mint("coup", JAN_1)}, {"code": "c9"}):
        with refused("COUPON_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
            await coupons.api.GetCoupon(pb.GetCouponRequest(**missing))


async def test_an_archived_coupon_is_redeemed_by_nobody(suite: Suite, coupons: Coupons) -> None:
    """Neither with a code nor without; what was redeemed goes on and says what it was."""
    coupon = await coupons.create()
    await coupons.code(coupon, "SPRING")
    redemption = await coupons.redeem(coupon, customer_id())
    archived = await coupons.api.ArchiveCoupon(pb.ArchiveCouponRequest(id=coupon.id))
    assert (archived.state, archived.revision, archived.redemption_count) == (coupon_pb2.Coupon.ARCHIVED, 2, 1)
    assert await outcomes(
        coupons.redeem(coupon, customer_id()),
        coupons.type_in("SPRING", customer_id()),
        coupons.code(coupon, "MORE"),
        coupons.api.ArchiveCoupon(pb.ArchiveCouponRequest(id=coupon.id)),
    ) == {"COUPON_NOT_ACTIVE": 4}
    assert await coupons.redemptions() == [redemption]
    assert (await coupons.release(redemption)).release_time == wire.timestamp(JAN_1)
    assert (await coupons.get(coupon)).redemption_count == 0
    await suite.quiet()
    assert [event.coupon for event in suite.announced(events_pb2.CouponArchived)] == [archived]


async def test_a_coupon_is_valid_by_the_sellers_clock(suite: Suite, coupons: Coupons) -> None:
    """From its first instant until before its last, in a sandbox by simulated time."""
    begin, end = JAN_1 + timedelta(days=1), JAN_1 + timedelta(days=3)
    coupon = await coupons.create(valid_from_time=wire.timestamp(begin), valid_until_time=wire.timestamp(end))
    with refused("COUPON_NOT_YET_VALID", grpc.StatusCode.FAILED_PRECONDITION):
        await coupons.redeem(coupon, customer_id())
    await suite.travel(begin)
    assert (await coupons.redeem(coupon, customer_id())).redeem_time == wire.timestamp(begin)
    await suite.travel(end - timedelta(seconds=1))
    await coupons.redeem(coupon, customer_id())
    await suite.travel(end)
    with refused("COUPON_EXPIRED", grpc.StatusCode.FAILED_PRECONDITION):
        await coupons.redeem(coupon, customer_id())
    assert (await coupons.get(coupon)).redemption_count == 2


async def test_a_coupon_is_redeemed_as_often_as_it_says_under_any_rush(coupons: Coupons) -> None:
    """Twenty at once for five places: five get one, and the count says five."""
    coupon = await coupons.create(redemptions_max=5)
    found = await outcomes(*(coupons.redeem(coupon, customer_id()) for _ in range(20)))
    assert found == {"": 5, "COUPON_USED_UP": 15}
    assert (await coupons.get(coupon)).redemption_count == len(await coupons.redemptions()) == 5


async def test_a_customer_redeems_as_often_as_one_may_under_any_rush(coupons: Coupons) -> None:
    """Who clicks twenty times gets five, and leaves the rest to others."""
    coupon = await coupons.create(redemptions_per_customer_max=5)
    ada, bob = customer_id(), customer_id()
    found = await outcomes(*(coupons.redeem(coupon, ada) for _ in range(20)), coupons.redeem(coupon, bob))
    assert found == {"": 6, "COUPON_USED_UP_BY_CUSTOMER": 15}
    assert len(await coupons.redemptions(customer_id=ada)) == 5
    assert len(await coupons.redemptions(customer_id=bob)) == 1


async def test_a_code_is_redeemed_as_often_as_it_says_under_any_rush(coupons: Coupons) -> None:
    """Also while the coupon is redeemed by other codes and without any."""
    coupon = await coupons.create()
    await coupons.code(coupon, "FIVE", redemptions_max=5)
    await coupons.code(coupon, "MANY")
    found = await outcomes(
        *(coupons.type_in("FIVE", customer_id()) for _ in range(20)),
        *(coupons.type_in("MANY", customer_id()) for _ in range(5)),
        *(coupons.redeem(coupon, customer_id()) for _ in range(5)),
    )
    assert found == {"": 15, "COUPON_USED_UP": 15}
    codes = (await coupons.api.ListCouponCodes(pb.ListCouponCodesRequest(coupon_id=coupon.id))).coupon_codes
    assert {code.code: code.redemption_count for code in codes} == {"FIVE": 5, "MANY": 5}
    assert (await coupons.get(coupon)).redemption_count == 15


async def test_a_release_gives_the_limits_back_once(suite: Suite, coupons: Coupons) -> None:
    """To the coupon, the customer and the code; twenty releases of one redemption give back one."""
    coupon = await coupons.create(redemptions_max=2, redemptions_per_customer_max=1)
    await coupons.code(coupon, "ONCE", redemptions_max=1)
    ada = customer_id()
    redemption = await coupons.type_in("ONCE", ada)
    await coupons.redeem(coupon, customer_id())
    with refused("COUPON_USED_UP", grpc.StatusCode.FAILED_PRECONDITION):
        await coupons.type_in("ONCE", ada)
    later = JAN_1 + timedelta(days=1)
    await suite.travel(later)
    assert await outcomes(*(coupons.release(redemption) for _ in range(20))) == {"": 20}
    await suite.travel(later + timedelta(days=1))
    redemption.release_time.CopyFrom(wire.timestamp(later))
    assert await coupons.release(redemption) == redemption
    assert (await coupons.get(coupon)).redemption_count == 1
    again = await coupons.type_in("ONCE", ada)
    assert again.id != redemption.id
    assert again.coupon.redemption_count == 2
    # What was taken back stays on record.
    assert await coupons.redemptions(customer_id=ada) == [redemption, again]
    await suite.quiet()
    redemption.coupon_code = ""
    assert [event.redemption for event in suite.announced(events_pb2.RedemptionReleased)] == [redemption]
    with refused("REDEMPTION_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await coupons.api.ReleaseRedemption(pb.ReleaseRedemptionRequest(id=ids.mint("redm", JAN_1)))


@pytest.mark.own_services
async def test_a_code_is_understood_in_any_case_and_told_to_nobody(suite: Suite, coupons: Coupons) -> None:
    """Stored and answered in upper case; events are read by many, and who reads a code could redeem it."""
    coupon = await coupons.create()
    created = await coupons.code(coupon, "Hello-2026")
    assert created == coupon_pb2.CouponCode(code="HELLO-2026", coupon_id=coupon.id, create_time=wire.timestamp(JAN_1))
    redemption = await coupons.type_in("hellO-2026", customer_id())
    assert (redemption.coupon_code, redemption.coupon.id) == ("HELLO-2026", coupon.id)
    await suite.quiet()
    (event,) = suite.announced(events_pb2.RedemptionCreated)
    redemption.coupon_code = ""
    assert event.redemption == redemption
    assert not any(b"HELLO" in message.data for message in suite.bus.published("CATALOG"))


async def test_a_code_is_unique_for_its_seller(coupons: Coupons) -> None:
    """What is typed in must mean one coupon, however it is typed; the refusal does not repeat it."""
    one, other = await coupons.create("one"), await coupons.create("other")
    await coupons.code(one, "HELLO")
    for coupon in (one, other):
        with refused("REDEMPTION_CODE_TAKEN", grpc.StatusCode.ALREADY_EXISTS) as refusal:
            await coupons.code(coupon, "hello")
        assert "hello" not in f"{refusal.message} {refusal.metadata}".lower()


async def test_a_code_of_one_customer_is_not_anothers(coupons: Coupons) -> None:
    """What was sent to Ada cannot be used by whoever sees it."""
    coupon = await coupons.create()
    ada = customer_id()
    assert (await coupons.code(coupon, "FOR-ADA", customer_id=ada)).customer_id == ada
    with refused("REDEMPTION_CODE_OF_ANOTHER_CUSTOMER", grpc.StatusCode.FAILED_PRECONDITION):
        await coupons.type_in("FOR-ADA", customer_id())
    assert (await coupons.type_in("FOR-ADA", ada)).coupon_code == "FOR-ADA"


async def test_ten_thousand_codes_are_made_at_once(coupons: Coupons) -> None:
    """A mailing to all customers is one call; each code is unique, has the prefix, and cannot be guessed."""
    coupon = await coupons.create()
    request = pb.CreateCouponCodesRequest(
        coupon_id=coupon.id, count=10_000, prefix="mail-", redemptions_max=1, request_id="mailing"
    )
    started = time.monotonic()
    answer = await coupons.api.CreateCouponCodes(request)
    assert time.monotonic() - started < SECONDS_FOR_MANY_CODES_MAX
    codes = [each.code for each in answer.coupon_codes]
    assert len(set(codes)) == 10_000
    assert codes == sorted(codes)
    # The symbols at every place are about as many as there are: nothing but the prefix repeats.
    drawn = [code.removeprefix("MAIL-").replace("-", "") for code in codes]
    assert {len(each) for each in drawn} == {14}
    assert min(len(set(place)) for place in zip(*drawn, strict=True)) == 22
    assert {(each.coupon_id, each.redemptions_max, each.redemption_count) for each in answer.coupon_codes} == {
        (coupon.id, 1, 0)
    }
    # The letters are in the post: whoever asks again must hear of the same codes.
    assert await coupons.api.CreateCouponCodes(request) == answer
    listed: list[coupon_pb2.CouponCode] = []
    token = ""
    for _ in range(10):
        page = await coupons.api.ListCouponCodes(
            pb.ListCouponCodesRequest(coupon_id=coupon.id, page_size=1000, page_token=token)
        )
        listed.extend(page.coupon_codes)
        token = page.next_page_token
    assert (listed, token) == (list(answer.coupon_codes), "")
    ada = customer_id()
    await coupons.type_in(codes[0], ada)
    with refused("COUPON_USED_UP"):
        await coupons.type_in(codes[0], ada)


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({}, "count"),
        ({"count": -1}, "count"),
        ({"count": 10_001}, "count"),
        ({"count": 1, "code": "HELLO"}, "count"),
        ({"prefix": "A", "code": "HELLO"}, "prefix"),
        ({"count": 1, "prefix": "A_"}, "prefix"),
        ({"count": 1, "prefix": "A" * 17}, "prefix"),
        ({"code": "AB"}, "code"),
        ({"code": "straße"}, "code"),
        ({"count": 1, "redemptions_max": -1}, "redemptions_max"),
        ({"count": 1, "customer_id": "ada"}, "customer_id"),
        ({"coupon_id": "spring", "count": 1}, "coupon_id"),
    ],
)
async def test_codes_that_cannot_be_made_are_refused_by_field(
    coupons: Coupons, request_fields: dict[str, Any], field: str
) -> None:
    """One given code, or a number of made-up ones."""
    coupon = await coupons.create()
    request = pb.CreateCouponCodesRequest(coupon_id=coupon.id)
    request.MergeFrom(pb.CreateCouponCodesRequest(**request_fields))
    with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await coupons.api.CreateCouponCodes(request)
    assert refusal.field == field
    assert not (await coupons.api.ListCouponCodes(pb.ListCouponCodesRequest(coupon_id=coupon.id))).coupon_codes


async def test_a_redemption_names_one_thing_and_a_customer(coupons: Coupons) -> None:
    """A code or a coupon that exists, and somebody to be discounted."""
    coupon = await coupons.create()
    ada = customer_id()
    for fields, field in [
        ({"customer_id": ada}, "coupon_code"),
        ({"customer_id": ada, "coupon_id": coupon.id, "coupon_code": "HELLO"}, "coupon_code"),
        ({"customer_id": ada, "coupon_code": "no such!"}, "coupon_code"),
        ({"customer_id": ada, "coupon_id": "spring"}, "coupon_id"),
        ({"coupon_id": coupon.id}, "customer_id"),
    ]:
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
            await coupons.api.RedeemCoupon(pb.RedeemCouponRequest(**fields))
        assert refusal.field == field
    with refused("REDEMPTION_CODE_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await coupons.type_in("NOWHERE", ada)
    coupon.id = ids.mint("coup", JAN_1)
    with refused("COUPON_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await coupons.redeem(coupon, ada)
    with refused("COUPON_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await coupons.code(coupon, "HELLO")
    with refused("COUPON_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await coupons.api.ArchiveCoupon(pb.ArchiveCouponRequest(id=coupon.id))


async def test_a_repeated_request_is_carried_out_once(suite: Suite, coupons: Coupons) -> None:
    """Who does not hear the answer asks again, and is not discounted twice for it."""
    coupon = await coupons.create()
    ada = customer_id()
    first, *others = await asyncio.gather(*(coupons.redeem(coupon, ada, request_id="r1") for _ in range(5)))
    assert others == [first] * 4
    assert (await coupons.get(coupon)).redemption_count == 1
    await suite.quiet()
    assert len(suite.announced(events_pb2.RedemptionCreated)) == 1


async def test_redemptions_are_listed_in_the_order_in_which_they_stack(suite: Suite, coupons: Coupons) -> None:
    """By time, and by id within one instant; page by page; of a customer, of a coupon, before an instant."""
    one, other = await coupons.create("one"), await coupons.create("other")
    ada, bob = customer_id(), customer_id()
    early = [await coupons.redeem(*each) for each in ((other, ada), (one, ada), (one, bob), (other, ada))]
    later = JAN_1 + timedelta(days=1)
    await suite.travel(later)
    late = [await coupons.redeem(*each) for each in ((one, bob), (other, ada))]
    everything = [*early, *late]
    listed: list[coupon_pb2.Redemption] = []
    token = ""
    for _ in range(3):
        page = await coupons.api.ListRedemptions(pb.ListRedemptionsRequest(page_size=2, page_token=token))
        listed.extend(page.redemptions)
        token = page.next_page_token
    assert (listed, token) == (everything, "")
    assert await coupons.redemptions(customer_id=ada) == [each for each in everything if each.customer_id == ada]
    assert await coupons.redemptions(coupon_id=one.id) == [each for each in everything if each.coupon.id == one.id]
    assert await coupons.redemptions(customer_id=bob, coupon_id=one.id) == [early[2], late[0]]
    assert await coupons.redemptions(before_time=wire.timestamp(later)) == early
    assert await coupons.redemptions(customer_id=ada, before_time=wire.timestamp(JAN_1)) == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"page_token": wire.encode_page_token("a")}, "page_token"),
        ({"page_token": wire.encode_page_token("noon", "redm")}, "page_token"),
        ({"page_token": wire.encode_page_token("2026-01-01", "redm")}, "page_token"),
        ({"before_time": {}}, "before_time"),
        ({"customer_id": "ada"}, "customer_id"),
        ({"coupon_id": "spring"}, "coupon_id"),
        ({"page_size": -1}, "page_size"),
    ],
)
async def test_a_list_that_cannot_be_read_is_refused_by_field(
    coupons: Coupons, fields: dict[str, Any], field: str
) -> None:
    """Tokens are handed back unchanged, ids are ids."""
    with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT) as refusal:
        await coupons.api.ListRedemptions(pb.ListRedemptionsRequest(**fields))
    assert refusal.field == field


async def test_who_only_reads_redeems_nothing(suite: Suite, coupons: Coupons) -> None:
    """A viewer sees what is offered."""
    coupon = await coupons.create()
    viewer = suite.stub(CouponServiceStub, "catalog", role=Role.VIEWER)
    assert await viewer.GetCoupon(pb.GetCouponRequest(id=coupon.id)) == coupon
    with refused("ROLE_NOT_ALLOWED", grpc.StatusCode.PERMISSION_DENIED):
        await viewer.RedeemCoupon(pb.RedeemCouponRequest(coupon_id=coupon.id, customer_id=customer_id()))
