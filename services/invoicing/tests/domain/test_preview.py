"""What will be billed, one bill time after the other: the same that bill runs would make of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.money import Money
from common.period import Period
from invoicing.domain import preview
from invoicing.domain.consolidation import Bill, consolidate
from invoicing.domain.consolidation_policy import Arrangement
from invoicing.domain.errors import PreviewTooLong
from invoicing.domain.line import LineKind, Usage
from invoicing.domain.lines_due import BillablePeriod, Billed, UsageKey
from invoicing.domain.preview import BILL_TIMES_MAX, Outlook, bills_to_come
from invoicing.domain.price import PerUnit, Price
from invoicing.domain.proposing import Beside

from .arrangements import customer

NOW = datetime(2026, 1, 10, tzinfo=UTC)
DAY = timedelta(days=1)
PRICES = {"seat": Price(id="seat", currency="EUR", model=PerUnit(unit_price=Decimal(1)), product="Seat", unit_label="")}
BESIDE = Beside(customer=customer("payer"))
ARRANGEMENT = Arrangement(customers={each: customer(each) for each in ("payer", "ada")})


def period(
    day: int, quantity: int = 1, *, by: str = "payer", kind: LineKind = LineKind.OWED, item: str = "item"
) -> BillablePeriod:
    """Of a day, billed at its end."""
    span = Period(NOW + (day - 1) * DAY, NOW + day * DAY)
    return BillablePeriod(
        subscription_id=f"sub of {by}",
        item_id=f"{item} of {by}",
        price_id="seat",
        quantity=Decimal(quantity),
        meter="",
        period=span,
        full_period=span,
        proration=Fraction(1),
        bill_time=span.end,
        kind=kind,
        change_id="" if kind is LineKind.OWED else "chg",
        customer_id=by,
        payer_id="" if by == "payer" else "payer",
    )


def outlook(*periods: BillablePeriod, next_bill_time: datetime | None = None) -> Outlook:
    return Outlook(periods=periods, prices=PRICES, usage={}, next_bill_time=next_bill_time, beside=BESIDE)


def told(bills: Sequence[Bill]) -> list[tuple[int, list[int]]]:
    return [((bill.bill_time - NOW).days, [line.amount.minor for line in bill.lines]) for bill in bills]


def test_what_is_due_comes_first_and_then_each_bill_time() -> None:
    """All that is late is on one invoice; each bill time after now has one of its own."""
    bills = bills_to_come([outlook(period(-3), period(0, 2), period(1, 3), period(4, 4))], {}, ARRANGEMENT, now=NOW)
    assert told(bills) == [(0, [100, 200]), (1, [300]), (4, [400])]


def test_those_who_are_paid_for_are_on_the_same_invoices() -> None:
    """At the same bill time; who is billed on other days has its own."""
    ada = outlook(period(1, 5, by="ada"), period(2, 6, by="ada"))
    bills = bills_to_come([outlook(period(1)), ada], {}, ARRANGEMENT, now=NOW)
    assert told(bills) == [(1, [100, 500]), (2, [600])]
    assert [line.customer_id for line in bills[0].lines] == ["", "ada"]


def test_only_what_somebody_gets_the_invoice_for_is_its_own() -> None:
    """Of a child that is paid for nothing is left for itself."""
    both = outlook(period(1), period(1, by="ada"))
    assert [each.customer_id for each in both.paid_by("payer").periods] == ["payer", "ada"]
    assert both.paid_by("ada").periods == []


def test_a_credit_is_taken_off_until_it_is_used_up() -> None:
    """What one invoice has no room for, the next ones take."""
    credit = period(1, 4, kind=LineKind.CREDIT)
    bills = bills_to_come(
        [outlook(credit, period(1, 3, item="b"), period(2, 3, item="b"), period(3, 3, item="b"))],
        {},
        ARRANGEMENT,
        now=NOW,
    )
    assert told(bills) == [(1, [-300, 300]), (2, [-100, 300]), (3, [300])]
    assert [line.correction for bill in bills for line in bill.lines if line.is_credit] == [0, 1]


def test_late_usage_joins_the_next_invoice_and_is_billed_once() -> None:
    """It waits for company, as it does in a bill run."""
    metered = Price(id="kwh", currency="EUR", model=PerUnit(unit_price=Decimal(1)), product="Power", unit_label="")
    span = Period(NOW - 5 * DAY, NOW - 4 * DAY)
    used = BillablePeriod(
        subscription_id="sub",
        item_id="power",
        price_id="kwh",
        quantity=None,
        meter="kwh",
        period=span,
        full_period=span,
        proration=Fraction(1),
        bill_time=span.end,
        customer_id="payer",
    )
    before = Usage(meter="kwh", quantity=Decimal(2), event_count=1, digest="x", through_position=1)
    now = Usage(meter="kwh", quantity=Decimal(5), event_count=2, digest="", through_position=2)
    billed = {used.key: Billed(amount=Money(200, "EUR"), usage=before, correction=0, is_final=True)}
    one = Outlook(
        periods=[used, period(1), period(2)],
        prices={"kwh": metered, **PRICES},
        usage={UsageKey("kwh", span): now},
        next_bill_time=None,
        beside=BESIDE,
    )
    assert told(bills_to_come([one], billed, ARRANGEMENT, now=NOW)) == [(1, [300, 100]), (2, [100])]


def test_no_more_is_looked_at_than_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bill times, and lines of all of them together."""
    days = [period(day) for day in range(1, BILL_TIMES_MAX + 1)]
    assert len(bills_to_come([outlook(*days)], {}, ARRANGEMENT, now=NOW)) == BILL_TIMES_MAX
    with pytest.raises(PreviewTooLong):
        bills_to_come([outlook(*days, period(BILL_TIMES_MAX + 1))], {}, ARRANGEMENT, now=NOW)
    monkeypatch.setattr(preview, "LINES_MAX", BILL_TIMES_MAX - 1)
    with pytest.raises(PreviewTooLong):
        bills_to_come([outlook(*days)], {}, ARRANGEMENT, now=NOW)


@given(st.lists(st.tuples(st.integers(-3, 9), st.integers(0, 9), st.sampled_from(["payer", "ada"])), max_size=12))
def test_it_is_what_one_look_at_all_of_it_would_bill(owed: list[tuple[int, int, str]]) -> None:
    """Nothing twice, nothing missing, whatever comes due when."""
    periods = [period(day, quantity, by=by, item=f"{n}") for n, (day, quantity, by) in enumerate(owed)]
    outlooks = [outlook(*(each for each in periods if each.customer_id == by)) for by in ("payer", "ada")]
    bills = bills_to_come(outlooks, {}, ARRANGEMENT, now=NOW)
    at_once = consolidate([due for one in outlooks for due in one.due({}, as_of=NOW, next_bill_time=None)], ARRANGEMENT)
    assert sorted(line.item_id for bill in bills for line in bill.lines) == sorted(
        line.item_id for bill in at_once for line in bill.lines
    )
    assert [bill.bill_time for bill in bills] == sorted({bill.bill_time for bill in bills})
