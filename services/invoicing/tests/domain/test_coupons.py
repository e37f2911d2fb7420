"""Coupons on lines that are billed: in order, in as many periods, and no more of an amount than there is left."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from common.money import Money
from common.period import Period
from invoicing.domain.coupons import Coupon, Duration, Share, Used, in_order, shares_of, with_discounts
from invoicing.domain.discount import AmountOff, GivenDiscount, PercentOff
from invoicing.domain.line import Line, LineDiscount, LineKind
from invoicing.domain.steps import flat_step

JUNE = Period(datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC))
JULY = Period(JUNE.end, datetime(2026, 8, 1, tzinfo=UTC))


def line(
    minor: int,
    *coupon_ids: str,
    period: Period = JUNE,
    subscription: str = "sub_1",
    item: str = "subi_1",
    discounts: tuple[LineDiscount, ...] = (),
    given: tuple[GivenDiscount, ...] = (),
) -> Line:
    amount = Money(minor, "EUR")
    return Line(
        id="",
        description="Seats",
        subscription_id=subscription,
        item_id=item,
        price_id="price_1",
        period=period,
        full_period=period,
        quantity=Decimal(1),
        unit_label="",
        amount=amount,
        steps=(flat_step("Fixed price", amount.amount),),
        exact_amount=amount.amount,
        proration=Fraction(1),
        usage=None,
        correction=0,
        kind=LineKind.OWED if minor >= 0 else LineKind.CREDIT,
        coupon_ids=coupon_ids,
        discounts=discounts,
        given_discounts=given,
    )


def percent(id: str, share: str, duration: Duration = Duration.FOREVER, periods: int = 0) -> Coupon:  # noqa: A002
    return Coupon(
        id=id,
        display_name=id,
        benefit=PercentOff(percent=Decimal(share)),
        duration=duration,
        duration_periods=periods,
    )


def amount(id: str, minor: int, duration: Duration = Duration.ONCE, periods: int = 0) -> Coupon:  # noqa: A002
    return Coupon(
        id=id,
        display_name=id,
        benefit=AmountOff(amounts=(Money(minor, "EUR"),)),
        duration=duration,
        duration_periods=periods,
    )


def taken(lines: list[Line], *coupons: Coupon, used: Used | None = None) -> list[list[tuple[str, int]]]:
    found = with_discounts(lines, coupons={each.id: each for each in coupons}, used=used or Used())
    return [[(each.discount_id, each.amount.minor) for each in line.discounts] for line in found]


def test_coupons_come_in_the_order_of_their_award() -> None:
    """Whatever order the lines are in, and though not every line has all of them."""
    assert in_order([["b"], ["a", "b"], ["b", "c"], []]) == ["a", "b", "c"]
    assert in_order([["a", "b"], ["b", "a"]]) == ["a", "b"]
    half, five = percent("half", "50"), amount("five", 5)
    assert taken([line(100, "half", "five")], half, five) == [[("half", 50), ("five", 5)]]
    assert taken([line(100, "five", "half")], half, five) == [[("five", 5), ("half", 48)]]


def test_each_subscription_has_its_own_coupons() -> None:
    """A coupon of one takes nothing off the lines of another."""
    tenth = percent("tenth", "10")
    lines = [line(100, "tenth"), line(100, subscription="sub_2"), line(55, "tenth", subscription="sub_2")]
    assert taken(lines, tenth) == [[("tenth", 10)], [], [("tenth", 6)]]


def test_an_amount_that_is_given_once_is_given_once_to_a_customer() -> None:
    """However many subscriptions it was applied to, and whatever was used of it before."""
    ten = amount("ten", 10)
    assert taken([line(6, "ten"), line(6, "ten", subscription="sub_2")], ten) == [[("ten", 6)], [("ten", 4)]]
    used = Used.of([Share("ten", "sub_9", "subi_9", JUNE, Money(7, "EUR"))])
    assert taken([line(6, "ten")], ten, used=used) == [[("ten", 3)]]


def test_an_amount_of_every_period_is_given_once_for_each() -> None:
    """Also when the period is billed on several invoices, of one item and of others."""
    monthly = amount("monthly", 10, Duration.FOREVER)
    used = Used.of([Share("monthly", "sub_1", "subi_1", JUNE, Money(8, "EUR"))])
    lines = [line(50, "monthly", item="subi_2"), line(50, "monthly", period=JULY)]
    assert taken(lines, monthly, used=used) == [[("monthly", 2)], [("monthly", 10)]]


def test_a_percentage_ends_with_its_periods() -> None:
    """A period that cost nothing counts; a second line of a period that counts does not count again."""
    first = percent("first", "50", Duration.ONCE)
    assert taken([line(0, "first"), line(10, "first"), line(10, "first", period=JULY)], first) == [
        [],
        [("first", 5)],
        [],
    ]
    two = percent("two", "50", Duration.REPEATING, 2)
    used = Used.of([Share("two", "sub_1", "subi_1", period, Money(0, "EUR")) for period in (JUNE, JULY)])
    august = Period(JULY.end, datetime(2026, 9, 1, tzinfo=UTC))
    assert taken([line(10, "two", period=JULY), line(10, "two", period=august)], two, used=used) == [[("two", 5)], []]


def test_what_goes_back_can_be_used_again() -> None:
    """On the same invoice, and never more than it was."""
    ten = amount("ten", 10)
    used = Used.of([Share("ten", "sub_1", "subi_1", JUNE, Money(10, "EUR"))])
    back = LineDiscount(discount_id="ten", description="ten", amount=Money(-4, "EUR"))
    assert taken([line(-50, discounts=(back,)), line(90, "ten")], ten, used=used) == [[("ten", -4)], [("ten", 4)]]


def test_what_was_given_by_hand_comes_before_and_after() -> None:
    """Off a line before its coupons, off all of them after."""
    own = GivenDiscount(id="own", description="", benefit=AmountOff(amounts=(Money(20, "EUR"),)))
    all_of_it = GivenDiscount(id="all", description="", benefit=PercentOff(percent=Decimal(10)))
    found = with_discounts(
        [line(100, "half", given=(own,)), line(20)],
        coupons={"half": percent("half", "50")},
        used=Used(),
        given=[all_of_it],
    )
    assert [[(each.discount_id, each.amount.minor) for each in line.discounts] for line in found] == [
        [("own", 20), ("half", 40), ("all", 4)],
        [("all", 2)],
    ]


def test_what_is_unknown_or_takes_off_no_money_takes_nothing_off() -> None:
    """A coupon that gives units, or is gone, does no harm."""
    units = Coupon(id="units", display_name="", benefit=None, duration=Duration.ONCE, duration_periods=0)
    assert taken([line(10, "units", "gone")], units) == [[]]


ids = st.sampled_from(["a", "b", "c"])
some_lines = st.lists(
    st.builds(
        lambda minor, coupons, period, item: line(minor, *coupons, period=period, item=item),
        st.integers(0, 10_000),
        st.lists(ids, unique=True, max_size=3),
        st.sampled_from([JUNE, JULY]),
        st.sampled_from(["subi_1", "subi_2"]),
    ),
    max_size=6,
)


@given(some_lines, st.integers(1, 5_000), st.integers(1, 5_000), st.integers(1, 100))
def test_no_line_and_no_coupon_gives_more_than_there_is(lines: list[Line], once: int, monthly: int, share: int) -> None:
    """However they meet; and what is computed twice is the same."""
    coupons = {
        "a": amount("a", once),
        "b": amount("b", monthly, Duration.FOREVER),
        "c": percent("c", str(share)),
    }
    found = with_discounts(lines, coupons=coupons, used=Used())
    assert all(0 <= each.discount.minor <= each.amount.minor for each in found)
    used = Used.of(share for each in found for share in shares_of(each))
    assert used.amounts["a", "EUR"] <= once
    assert all(used.in_periods["b", "sub_1", period, "EUR"] <= monthly for period in (JUNE, JULY))
    # Twice is the same: what is computed anew forgets what was there.
    assert with_discounts(found, coupons=coupons, used=Used()) == found
