"""What is billed some days before it begins: when, and what becomes of it when it does not begin after all."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from common.period import Interval, Unit
from services.subscriptions.tests.agreed import (
    ARREARS,
    AT_PERIOD_END,
    KEEP,
    REFUND,
    WEEKLY,
    agree,
    at,
    cancelled,
    change,
    due,
    ledger,
    paused,
    scheduled,
    terms,
    told,
)
from subscriptions.domain.change import SetPrice, SetQuantity
from subscriptions.domain.subscription import Decision, Subscription
from subscriptions.domain.terms import ItemId

WHOLE = Fraction(1)
SEATS = ItemId("item-0")


def five(ahead: int = 7) -> Subscription:
    return agree(terms("seats", 5), ahead=ahead)


def test_a_period_that_goes_on_is_billed_days_before_it_begins() -> None:
    """The first one when it begins; usage and what is billed in arrears when it has ended, as ever."""
    both = agree(terms("seats", 5), terms("calls", None, timing=ARREARS), ahead=7)
    found = due(both, through="03-01")
    assert told(found) == [
        ("01-01", "01-01", "02-01", WHOLE),
        ("01-25", "02-01", "03-01", WHOLE),
        ("02-01", "01-01", "02-01", WHOLE),
        ("02-22", "03-01", "04-01", WHOLE),
        ("03-01", "02-01", "03-01", WHOLE),
    ]
    assert found.next_bill_time == at("03-25")


def test_days_are_counted_back_from_each_month_end() -> None:
    """From an anniversary on the 31st, and over a clock change at the same time of day."""
    last = agree(terms(), start="01-31", ahead=3, zone="Europe/London")
    assert [row[:2] for row in told(due(last, through="05-01"), "Europe/London")] == [
        ("01-31", "01-31"),
        ("02-25", "02-28"),
        ("03-28", "03-31"),
        ("04-27", "04-30"),
    ]
    spring = agree(terms(), start="2026-03-03T00:00", ahead=7, zone="Europe/London")
    [_, second] = due(spring, through="04-01").periods
    assert (second.bill_time, second.period.start) == (at("2026-03-27"), at("2026-04-03", "Europe/London"))


def test_nothing_is_billed_before_the_period_before_it_begins() -> None:
    """Else all of them would be billed at once where they are shorter than that."""
    weeks = agree(terms(interval=WEEKLY), ahead=31)
    assert [row[:2] for row in told(due(weeks, through="01-15"))] == [
        ("01-01", "01-01"),
        ("01-01", "01-08"),
        ("01-08", "01-15"),
        ("01-15", "01-22"),
    ]
    days = agree(terms(interval=Interval(Unit.DAY, 10)), start="01-05", ahead=31)
    assert [row[:2] for row in told(due(days, through="01-16"))] == [
        ("01-05", "01-05"),
        ("01-05", "01-15"),
        ("01-15", "01-25"),
    ]


def test_what_begins_anew_is_billed_when_it_begins() -> None:
    """After a trial, and by other terms that were decided before: nobody pays ahead for what it has not tried."""
    tried = agree(terms(), trial_days=14, ahead=7)
    assert [row[:2] for row in told(due(tried, through="02-10"))] == [("01-15", "01-15"), ("02-08", "02-15")]
    more = change(five(), SetQuantity(SEATS, Decimal(8)), on="01-10", decision=scheduled("02-01"))
    assert ledger(more, through="02-01") == [
        ("01-01", "OWED", "seats", 5, "01-01", "02-01", WHOLE),
        ("02-01", "OWED", "seats", 8, "02-01", "03-01", WHOLE),
    ]


@pytest.mark.parametrize("decision", [AT_PERIOD_END, KEEP])
def test_what_does_not_begin_is_credited_at_once(decision: Decision) -> None:
    """Whole, whether what is under way is kept or not: it was never used."""
    ended = cancelled(five(), on="01-28", decision=decision)
    assert ledger(ended, through="06-01") == [
        ("01-01", "OWED", "seats", 5, "01-01", "02-01", WHOLE),
        ("01-25", "OWED", "seats", 5, "02-01", "03-01", WHOLE),
        ("01-28", "CREDIT", "seats", 5, "02-01", "03-01", WHOLE),
    ]


def test_what_ends_before_it_is_billed_ahead_is_never_billed() -> None:
    """On the very day it is billed by what was known before."""
    before = cancelled(five(), on="01-24", decision=AT_PERIOD_END)
    assert len(ledger(before, through="06-01")) == 1
    refunded = cancelled(five(), on="01-25", decision=Decision(timing=AT_PERIOD_END.timing, unused=REFUND.unused))
    assert [row[:2] for row in ledger(refunded, through="06-01")] == [
        ("01-01", "OWED"),
        ("01-25", "OWED"),
        ("01-25", "REFUND"),
    ]


def test_another_quantity_is_billed_anew_for_what_has_not_begun() -> None:
    """At once: the old one is credited whole, the new one billed whole, by a name of its own."""
    fewer = change(five(), SetQuantity(SEATS, Decimal(3)), on="01-28")
    assert ledger(fewer, through="02-01") == [
        ("01-01", "OWED", "seats", 5, "01-01", "02-01", WHOLE),
        ("01-25", "OWED", "seats", 5, "02-01", "03-01", WHOLE),
        ("01-28", "CREDIT", "seats", 5, "01-28", "02-01", Fraction(4, 31)),
        ("01-28", "CREDIT", "seats", 5, "02-01", "03-01", WHOLE),
        ("01-28", "OWED", "seats", 3, "01-28", "02-01", Fraction(4, 31)),
        ("01-28", "OWED", "seats", 3, "02-01", "03-01", WHOLE),
    ]
    periods = due(fewer, through="02-01").periods
    assert len({(each.terms.price_id, each.period.start, each.kind, each.change_id) for each in periods}) == 6


def test_another_price_from_the_next_period_on_is_billed_when_that_begins() -> None:
    """The credit is there first, so the bill of the first takes it off."""
    other = change(five(), SetPrice(SEATS, terms("other", 5)), on="01-28", decision=scheduled("02-01"))
    assert ledger(other, through="02-22") == [
        ("01-01", "OWED", "seats", 5, "01-01", "02-01", WHOLE),
        ("01-25", "OWED", "seats", 5, "02-01", "03-01", WHOLE),
        ("01-28", "CREDIT", "seats", 5, "02-01", "03-01", WHOLE),
        ("02-01", "OWED", "other", 5, "02-01", "03-01", WHOLE),
        ("02-22", "OWED", "other", 5, "03-01", "04-01", WHOLE),
    ]


def test_a_pause_gives_back_what_has_not_begun() -> None:
    """And when it goes on, the rest of the period is billed then."""
    stopped = paused(five(), on="01-28", until="02-15")
    assert ledger(stopped, through="02-15") == [
        ("01-01", "OWED", "seats", 5, "01-01", "02-01", WHOLE),
        ("01-25", "OWED", "seats", 5, "02-01", "03-01", WHOLE),
        ("01-28", "CREDIT", "seats", 5, "02-01", "02-15", Fraction(1, 2)),
    ]


def test_the_same_is_answered_whenever_it_is_asked() -> None:
    """From any moment on, and again after changes: what was due stays due."""
    fewer = change(five(), SetQuantity(SEATS, Decimal(3)), on="01-28")
    whole = ledger(fewer, through="04-30")
    for after in ("01-25", "01-26", "01-28", "01-29", "02-01", "02-22", "03-25"):
        assert ledger(fewer, through="04-30", after=after) == [row for row in whole if row[0] >= after]
    assert ledger(five(), through="01-27") == [row for row in whole if row[0] < "01-28"]
