"""What the checker says is to be billed when: examples worked out with a calendar and a pencil."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest

from tools.check.agreement import agreement_of
from tools.check.calendar import Rhythm, Span, days_later, exact_share, share
from tools.check.schedule import billables

Json = Mapping[str, Any]  # Any: JSON as subscriptions writes it, or columns of its tables
Bill = tuple[str, str, str, str, str, Fraction, str]
"""When, which way, from, to, price and quantity, what part, and because of which change."""


def test_the_31st_returns_after_february() -> None:
    """Boundaries are counted from the anchor, never from one another."""
    rhythm = Rhythm(datetime(2026, 1, 31, 9, tzinfo=UTC), "Europe/Paris", "MONTH", 1)
    assert [rhythm.boundary(n).day for n in range(4)] == [31, 28, 31, 30]


def test_a_clock_change_makes_no_day_longer() -> None:
    """March 2012 in London has 743 hours and 31 days."""
    march = Span(datetime(2012, 3, 1, tzinfo=UTC), datetime(2012, 3, 31, 23, tzinfo=UTC))
    later = Span(datetime(2012, 3, 16, tzinfo=UTC), march.end)
    assert share(later, march, "Europe/London") == Fraction(16, 31)
    assert exact_share(later, march) == Fraction(16 * 24 - 1, 743)


def test_days_later_is_the_same_time_of_day() -> None:
    """Nine in London is nine in London, whatever the clocks did in between."""
    nine = datetime(2012, 3, 20, 9, tzinfo=UTC)
    assert days_later(nine, 14, "Europe/London") == datetime(2012, 4, 3, 8, tzinfo=UTC)


def day(text: str) -> datetime:
    """A midnight of 2026 in UTC: `month/day`."""
    month, number = text.split("/")
    return datetime(2026, int(month), int(number), tzinfo=UTC)


def terms(price: str, quantity: int, *, timing: str = "IN_ADVANCE", unit: str = "MONTH") -> Json:
    return {
        "price_id": price,
        "interval_unit": unit,
        "interval_count": 1,
        "billing_timing": timing,
        "meter": "",
        "quantity": str(quantity),
    }


def opening(item: Json, **changed: object) -> Json:
    """From 1 January, by months, three of `p`, unless something else is said."""
    return {
        "customer_id": "cus",
        "items": [{"id": "subi", **item}],
        "start_time": day("1/1").isoformat(),
        "billing_day": 0,
        "trial_days": 0,
        "proration": "BY_DAY",
        "activation": "ON_START",
        "activation_deadline": None,
        "trial_end": "CONTINUE",
        **changed,
    }


def change(recorded: str, *actions: Json, **changed: object) -> Json:
    """Decided on a day and in effect at once, unless something else is said."""
    return {
        "recorded_time": day(recorded),
        "effective_time": day(str(changed.pop("effective", recorded))),
        "revoked_time": None,
        "revoked_after": None,
        "decided_with": None,
        "after_months": None,
        "proration": "BY_DAY",
        "unused": "CREDIT",
        "actions": json.dumps(actions),
        **changed,
    }


def quantity(number: int) -> Json:
    return {"action": "SET_QUANTITY", "item_id": "subi", "quantity": str(number)}


def price(item: Json) -> Json:
    return {"action": "SET_PRICE", "item_id": "subi", "terms": item}


PAUSE = {"action": "PAUSE", "service": True, "billing": True}
RESUME = {"action": "RESUME", "service": True, "billing": True}
END = {"action": "END", "reason": "REQUESTED"}


def bills(agreed: Json, *changes: Json, through: str) -> list[Bill]:
    row = {"id": "sub", "time_zone": "UTC", "opening": json.dumps(agreed)}
    log = [{"id": f"chg_{n}", "position": n, **each} for n, each in enumerate(changes, start=1)]
    return [
        (
            f"{each.bill_time:%-m/%-d}",
            each.kind,
            f"{each.period.start:%-m/%-d}",
            f"{each.period.end:%-m/%-d}",
            f"{each.terms.price.quantity} of {each.terms.price.id}",
            each.part,
            each.change_id,
        )
        for each in billables(agreement_of(row, log), through=day(through))
    ]


JANUARY: Bill = ("1/1", "OWED", "1/1", "2/1", "3 of p", Fraction(1), "")
REST = Fraction(21, 31)
"""Of January, from the 11th on."""

EXAMPLES: Mapping[str, tuple[Json, Sequence[Json], str, Sequence[Bill]]] = {
    "a rise is credited and billed anew": (
        opening(terms("p", 3)),
        [change("1/11", quantity(5))],
        "1/31",
        [
            JANUARY,
            ("1/11", "CREDIT", "1/11", "2/1", "3 of p", REST, "chg_1"),
            ("1/11", "OWED", "1/11", "2/1", "5 of p", REST, "chg_1"),
        ],
    ),
    "what is kept stays covered, and is billed again when it does not suffice": (
        opening(terms("p", 3)),
        [
            change("1/6", quantity(1), unused="KEEP"),
            change("1/11", quantity(3), unused="KEEP"),
            change("1/21", quantity(4), unused="KEEP", proration="BY_SECOND"),
        ],
        "1/31",
        [
            JANUARY,
            ("1/21", "CREDIT", "1/21", "2/1", "3 of p", Fraction(11, 31), "chg_3"),
            ("1/21", "OWED", "1/21", "2/1", "4 of p", Fraction(11, 31), "chg_3"),
        ],
    ),
    "a credit is for what was wanted last": (
        opening(terms("p", 3)),
        [change("1/6", quantity(1), unused="KEEP"), change("1/11", END, unused="REFUND")],
        "2/28",
        [JANUARY, ("1/11", "REFUND", "1/11", "2/1", "1 of p", REST, "chg_2")],
    ),
    "a switch keeps what was billed of the other price": (
        opening(terms("p", 3)),
        [change("1/11", price(terms("q", 3)), unused="KEEP")],
        "1/31",
        [JANUARY, ("1/11", "OWED", "1/11", "2/1", "3 of q", REST, "chg_1")],
    ),
    "a pause is credited up to its end, which was decided with it": (
        opening(terms("p", 3)),
        [change("1/11", PAUSE), change("1/11", RESUME, effective="1/21", decided_with="chg_1", unused="KEEP")],
        "2/1",
        [
            JANUARY,
            ("1/11", "CREDIT", "1/11", "1/21", "3 of p", Fraction(10, 31), "chg_1"),
            ("2/1", "OWED", "2/1", "3/1", "3 of p", Fraction(1), ""),
        ],
    ),
    "an end that is known before shortens the period, and one of that very moment comes after it": (
        opening(terms("p", 3)),
        [change("1/15", END, effective="2/15")],
        "3/31",
        [JANUARY, ("2/1", "OWED", "2/1", "2/15", "3 of p", Fraction(1, 2), "")],
    ),
    "what is decided in the moment in which a period begins comes after it": (
        opening(terms("p", 3)),
        [change("2/1", END)],
        "3/31",
        [
            JANUARY,
            ("2/1", "OWED", "2/1", "3/1", "3 of p", Fraction(1), ""),
            ("2/1", "CREDIT", "2/1", "3/1", "3 of p", Fraction(1), "chg_1"),
        ],
    ),
    "what was taken back never took effect": (
        opening(terms("p", 3)),
        [change("1/15", END, effective="2/15", revoked_time=day("2/3"))],
        "2/28",
        [
            JANUARY,
            ("2/1", "OWED", "2/1", "2/15", "3 of p", Fraction(1, 2), ""),
            ("2/15", "OWED", "2/15", "3/1", "3 of p", Fraction(1, 2), ""),
        ],
    ),
    "in arrears every quantity is billed for its time, and settled when it ends": (
        opening(terms("p", 3, timing="IN_ARREARS")),
        [change("1/11", quantity(5)), change("1/21", END)],
        "3/31",
        [
            ("1/21", "OWED", "1/1", "1/11", "3 of p", Fraction(10, 31), ""),
            ("1/21", "OWED", "1/11", "1/21", "5 of p", Fraction(10, 31), "chg_1"),
        ],
    ),
    "without proration everything waits for the next period": (
        opening(terms("p", 3)),
        [change("1/11", quantity(5), proration="NONE")],
        "2/28",
        [JANUARY, ("2/1", "OWED", "2/1", "3/1", "5 of p", Fraction(1), "chg_1")],
    ),
    "a new billing day leaves covered what is covered": (
        opening(terms("p", 3)),
        [change("1/11", {"action": "SET_BILLING_DAY", "billing_day": 15})],
        "2/15",
        [
            JANUARY,
            ("2/1", "OWED", "2/1", "2/15", "3 of p", Fraction(14, 31), ""),
            ("2/15", "OWED", "2/15", "3/15", "3 of p", Fraction(1), ""),
        ],
    ),
    "what is billed once is billed once": (
        opening(terms("p", 3, unit="ONCE")),
        [change("1/1", PAUSE), change("1/11", RESUME)],
        "2/28",
        [("1/1", "OWED", "1/1", "1/2", "3 of p", Fraction(1), "")],
    ),
    "a trial in doubt is billed from its end, once there is a payment method": (
        opening(terms("p", 3), trial_days=10, trial_end="CANCEL"),
        [change("1/16", {"action": "BEGIN_BILLING"}, effective="1/11")],
        "2/10",
        [("1/16", "OWED", "1/11", "2/11", "3 of p", Fraction(1), "")],
    ),
    "a change that is dated back": (
        opening(terms("p", 3)),
        [change("1/21", quantity(5), effective="1/11")],
        "1/31",
        [
            JANUARY,
            ("1/21", "CREDIT", "1/11", "2/1", "3 of p", REST, "chg_1"),
            ("1/21", "OWED", "1/11", "2/1", "5 of p", REST, "chg_1"),
        ],
    ),
    "a transfer is billed to whom it is transferred": (
        opening(terms("p", 3)),
        [change("1/11", {"action": "TRANSFER", "customer_id": "other"})],
        "1/31",
        [
            JANUARY,
            ("1/11", "CREDIT", "1/11", "2/1", "3 of p", REST, "chg_1"),
            ("1/11", "OWED", "1/11", "2/1", "3 of p", REST, "chg_1"),
        ],
    ),
}


@pytest.mark.parametrize(("agreed", "changes", "through", "expected"), EXAMPLES.values(), ids=EXAMPLES)
def test_the_examples_come_out(agreed: Json, changes: Sequence[Json], through: str, expected: Sequence[Bill]) -> None:
    """Each rule of the document once."""
    assert bills(agreed, *changes, through=through) == expected
