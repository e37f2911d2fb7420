"""What a coupon may say, and when it can be redeemed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.domain.coupon import (
    CODES_MAX,
    MADE_UP_CODES,
    RESTRICTIONS_MAX,
    AmountOff,
    Coupon,
    CouponCode,
    CouponId,
    Duration,
    FreeUnits,
    PercentOff,
    Redemption,
    RedemptionId,
    State,
    Terms,
    check_count,
    check_maximum,
    check_terms,
    made_up_code,
    typed_code,
    typed_prefix,
)
from catalog.domain.errors import (
    CouponExpired,
    CouponNotActive,
    CouponNotYetValid,
    CouponUsedUp,
    CouponUsedUpByCustomer,
    RedemptionCodeOfAnotherCustomer,
)
from common.errors import InvalidArgument, SaldoError
from common.money import Money

JAN_1 = datetime(2026, 1, 1, tzinfo=UTC)
FEB_1 = datetime(2026, 2, 1, tzinfo=UTC)
TENTH = PercentOff(percent=Decimal(10))
TERMS = Terms(
    code="spring",
    display_name="Spring",
    benefit=TENTH,
    duration=Duration.ONCE,
    duration_periods=0,
    redemptions_max=0,
    redemptions_per_customer_max=0,
    valid_from_time=None,
    valid_until_time=None,
    products=(),
    plans=(),
)


def coupon(count: int = 0, *, state: State = State.ACTIVE, **terms: Any) -> Coupon:  # Any: fields of the terms
    return Coupon(
        id=CouponId("coup"),
        terms=replace(TERMS, **terms),
        state=state,
        redemption_count=count,
        revision=1,
        create_time=JAN_1,
    )


def code(count: int = 0, *, redemptions_max: int = 0, customer_id: str = "") -> CouponCode:
    return CouponCode(
        code="SPRING",
        coupon_id=CouponId("coup"),
        customer_id=customer_id,
        redemptions_max=redemptions_max,
        redemption_count=count,
        create_time=JAN_1,
    )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"code": "Spring!"}, "coupon.code"),
        ({"benefit": PercentOff(percent=Decimal(0))}, "coupon.percent_off.percent"),
        ({"benefit": PercentOff(percent=Decimal("-0.5"))}, "coupon.percent_off.percent"),
        ({"benefit": PercentOff(percent=Decimal("100.000000000001"))}, "coupon.percent_off.percent"),
        ({"benefit": PercentOff(percent=Decimal("0.0000000000001"))}, "coupon.percent_off.percent"),
        ({"benefit": AmountOff(amounts=())}, "coupon.amount_off.amounts"),
        ({"benefit": AmountOff(amounts=(Money(1, "EUR"), Money(0, "USD")))}, "coupon.amount_off.amounts[1]"),
        ({"benefit": AmountOff(amounts=(Money(-1, "EUR"),))}, "coupon.amount_off.amounts[0]"),
        (
            {"benefit": AmountOff(amounts=(Money(1, "EUR"), Money(2, "EUR")))},
            "coupon.amount_off.amounts[1].currency_code",
        ),
        ({"benefit": FreeUnits(product="", quantity=Decimal(1))}, "coupon.free_units.product"),
        ({"benefit": FreeUnits(product="seats", quantity=Decimal(0))}, "coupon.free_units.quantity"),
        ({"benefit": FreeUnits(product="seats", quantity=Decimal("1e-13"))}, "coupon.free_units.quantity"),
        (
            {"benefit": FreeUnits(product="seats", quantity=Decimal(1)), "products": ("calls",)},
            "coupon.free_units.product",
        ),
        ({"duration": Duration.REPEATING}, "coupon.duration_periods"),
        ({"duration": Duration.REPEATING, "duration_periods": 1201}, "coupon.duration_periods"),
        ({"duration": Duration.REPEATING, "duration_periods": -1}, "coupon.duration_periods"),
        ({"duration": Duration.FOREVER, "duration_periods": 1}, "coupon.duration_periods"),
        ({"duration": Duration.ONCE, "duration_periods": 1}, "coupon.duration_periods"),
        ({"redemptions_max": -1}, "coupon.redemptions_max"),
        ({"redemptions_per_customer_max": -1}, "coupon.redemptions_per_customer_max"),
        ({"valid_from_time": FEB_1, "valid_until_time": FEB_1}, "coupon.valid_until_time"),
        ({"valid_from_time": FEB_1, "valid_until_time": JAN_1}, "coupon.valid_until_time"),
        ({"products": ("seats", "Seats")}, "coupon.products[1]"),
        ({"products": ("seats", "calls", "seats")}, "coupon.products[2]"),
        ({"products": tuple(f"p{n}" for n in range(RESTRICTIONS_MAX + 1))}, "coupon.products"),
        ({"plans": ("",)}, "coupon.plans[0]"),
        ({"plans": ("team", "team")}, "coupon.plans[1]"),
        ({"plans": tuple(f"p{n}" for n in range(RESTRICTIONS_MAX + 1))}, "coupon.plans"),
    ],
)
def test_a_coupon_that_makes_no_sense_is_refused_by_field(changes: dict[str, Any], field: str) -> None:
    """A discount is promised to many at once; a mistake in it must show before anybody redeems it."""
    with pytest.raises(InvalidArgument) as refusal:
        check_terms(replace(TERMS, **changes), field="coupon")
    assert refusal.value.field == field


@pytest.mark.parametrize(
    "changes",
    [
        {"benefit": PercentOff(percent=Decimal(100))},
        {"benefit": PercentOff(percent=Decimal("0.000000000001"))},
        {"benefit": AmountOff(amounts=(Money(1, "EUR"), Money(1, "JPY")))},
        {"benefit": FreeUnits(product="seats", quantity=Decimal("0.5")), "products": ("calls", "seats")},
        {"duration": Duration.REPEATING, "duration_periods": 1},
        {"duration": Duration.REPEATING, "duration_periods": 1200},
        {"valid_from_time": JAN_1, "valid_until_time": FEB_1},
        {"valid_until_time": JAN_1},
        {"products": tuple(f"p{n}" for n in range(RESTRICTIONS_MAX)), "plans": ("team",)},
    ],
)
def test_what_is_just_within_the_bounds_is_a_coupon(changes: dict[str, Any]) -> None:
    """The bounds themselves are allowed."""
    terms = replace(TERMS, **changes)
    assert check_terms(terms, field="coupon") == terms


def test_a_limit_is_reached_and_not_passed() -> None:
    """Three times means three times, whoever asks."""
    nearly = coupon(2, redemptions_max=3)
    full = nearly.redeem(count_of_customer=0, at=JAN_1)
    assert full.redemption_count == 3
    with pytest.raises(CouponUsedUp):
        full.redeem(count_of_customer=0, at=JAN_1)
    assert full.release().redeem(count_of_customer=0, at=JAN_1) == full


def test_a_customer_has_a_limit_of_their_own() -> None:
    """One per household: others can go on."""
    once = coupon(7, redemptions_per_customer_max=1)
    with pytest.raises(CouponUsedUpByCustomer):
        once.redeem(count_of_customer=1, at=JAN_1)
    assert once.redeem(count_of_customer=0, at=JAN_1).redemption_count == 8


def test_no_maximum_is_no_limit() -> None:
    """0 means as often as wanted, not never."""
    assert coupon(10**6).redeem(count_of_customer=10**6, at=JAN_1).redemption_count == 10**6 + 1
    assert code(10**6).redeem(customer_id="cus").redemption_count == 10**6 + 1


def test_it_is_valid_from_its_first_instant_until_before_its_last() -> None:
    """Periods are half-open here as everywhere: two coupons that follow one another never overlap."""
    january = coupon(valid_from_time=JAN_1, valid_until_time=FEB_1)
    instant = timedelta(microseconds=1)
    with pytest.raises(CouponNotYetValid):
        january.redeem(count_of_customer=0, at=JAN_1 - instant)
    with pytest.raises(CouponExpired):
        january.redeem(count_of_customer=0, at=FEB_1)
    assert january.redeem(count_of_customer=0, at=JAN_1).redemption_count == 1
    assert january.redeem(count_of_customer=0, at=FEB_1 - instant).redemption_count == 1


def test_an_archived_coupon_is_over() -> None:
    """Nobody redeems it, nobody ends it twice; what was redeemed can still be taken back."""
    archived = coupon(1).archive()
    assert (archived.state, archived.revision) == (State.ARCHIVED, 2)
    refused: list[Callable[[], object]] = [
        archived.archive,
        archived.must_be_active,
        lambda: archived.redeem(count_of_customer=0, at=JAN_1),
    ]
    for attempt in refused:
        with pytest.raises(CouponNotActive):
            attempt()
    assert archived.release().redemption_count == 0


def test_redeeming_changes_nothing_that_a_revision_counts() -> None:
    """Revisions are announced one by one; a tally is told by the redemptions."""
    assert coupon().redeem(count_of_customer=0, at=JAN_1).revision == 1


def test_a_code_has_a_limit_and_an_owner() -> None:
    """A voucher is good once, and one that was sent to Ada is not Bob's."""
    voucher = code(redemptions_max=1, customer_id="ada")
    with pytest.raises(RedemptionCodeOfAnotherCustomer):
        voucher.redeem(customer_id="bob")
    used = voucher.redeem(customer_id="ada")
    with pytest.raises(CouponUsedUp):
        used.redeem(customer_id="ada")
    assert used.release() == voucher


def test_refusals_do_not_repeat_a_code() -> None:
    """Refusals are logged, and whoever reads a code could redeem it."""
    voucher = code(1, redemptions_max=1, customer_id="ada")
    for customer_id in ("ada", "bob"):
        with pytest.raises(SaldoError) as refusal:
            voucher.redeem(customer_id=customer_id)
        assert voucher.code not in f"{refusal.value.message} {refusal.value.metadata}"


def test_a_redemption_is_released_at_an_instant() -> None:
    """It stays on record: what it took off before is explained by it."""
    redemption = Redemption(
        id=RedemptionId("redm"),
        coupon=coupon(1),
        coupon_code="",
        customer_id="ada",
        redeem_time=JAN_1,
        release_time=None,
    )
    assert redemption.release(at=FEB_1) == replace(redemption, release_time=FEB_1)


def test_codes_are_read_as_people_write_them() -> None:
    """Nobody looks at the shift key."""
    assert typed_code("Spring-26", field="code") == "SPRING-26"
    assert typed_prefix("vip-", field="prefix") == "VIP-"
    assert typed_prefix("", field="prefix") == ""


# The last ones become A-Z when they are made upper case, and would be another code than what was typed.
@pytest.mark.parametrize("text", ["", "AB", "A" * 65, "A B", "A_B", "ABC\n", "straße", "dıscount", "ﬁve", "١٢٣"])
def test_what_is_no_code_is_refused(text: str) -> None:
    """Only what can be typed on every keyboard."""
    with pytest.raises(InvalidArgument) as refusal:
        typed_code(text, field="code")
    assert refusal.value.field == "code"


@pytest.mark.parametrize("text", ["A" * 17, "A_", "ß"])
def test_what_is_no_prefix_is_refused(text: str) -> None:
    """A prefix is the beginning of a code."""
    with pytest.raises(InvalidArgument) as refusal:
        typed_prefix(text, field="prefix")
    assert refusal.value.field == "prefix"


def test_how_many_codes_and_how_often_is_bounded() -> None:
    """At least one, at most ten thousand at once; never less often than never."""
    assert (check_count(1, field="count"), check_count(CODES_MAX, field="count")) == (1, CODES_MAX)
    for count in (-1, 0, CODES_MAX + 1):
        with pytest.raises(InvalidArgument):
            check_count(count, field="count")
    assert check_maximum(0, field="redemptions_max") == 0
    with pytest.raises(InvalidArgument):
        check_maximum(-1, field="redemptions_max")


def test_a_made_up_code_cannot_be_guessed_or_misread() -> None:
    """More than sixty bits, drawn from characters that no printer makes alike."""
    assert MADE_UP_CODES > 2**60
    symbols = {symbol for number in range(100) for symbol in made_up_code(number, prefix="")} - {"-"}
    assert len(symbols) > 20
    assert not symbols & set("01258ABEILOSUZ")
    assert made_up_code(7, prefix="VIP-") == "VIP-" + made_up_code(7, prefix="")


@given(st.integers(0, MADE_UP_CODES - 1), st.integers(0, MADE_UP_CODES - 1))
def test_every_number_has_a_code_of_its_own(one: int, other: int) -> None:
    """Otherwise some codes would be likelier than others; and what is made up can be typed in again."""
    codes = [made_up_code(number, prefix="") for number in (one, other)]
    assert (codes[0] == codes[1]) == (one == other)
    assert [typed_code(each.lower(), field="code") for each in codes] == codes
