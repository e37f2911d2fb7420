"""By what names usage is counted anew: by those that were known when a line was made, in the periods they count in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from tools.check import usage
from tools.check.calendar import Span
from tools.check.counting import Counting, proof
from tools.check.naming import Naming
from tools.check.rater import PerUnit
from tools.check.records import Records
from tools.check.report import examine

SELLER = {"seller_id": "sel_1"}
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PERIOD = Span(START, START + 31 * DAY)
INVARIANTS = {invariant.name: invariant for invariant in usage.INVARIANTS}

Json = Mapping[str, Any]  # Any: whatever the columns of a table hold


def name(key: str, customer: str = "cus_1", **times: datetime) -> Json:
    row = {**SELLER, "customer_id": customer, "key": key, "add_time": START, "since_time": None}
    return {**row, "until_time": None, "remove_time": None, **times}


def records(*names: Json, **customer: str) -> Records:
    customers = [{**SELLER, "id": "cus_1", "external_id": None, **customer}]
    events = [
        {
            **SELLER,
            "source": "api",
            "event_id": key,
            "customer": key,
            "meter": "calls",
            "time": START + 10 * DAY,
            "value": Decimal(2**n),
            "position": n + 1,
        }
        for n, key in enumerate(("cus_1", "key", "alias", "cus_0"))
    ]
    invoice = {**SELLER, "id": "inv_1", "customer_id": "cus_1", "create_time": PERIOD.end}
    return Records(
        tables={
            "subscriptions": {"customers": customers, "customer_names": names},
            "metering": {
                "meters": [{**SELLER, "code": "calls", "aggregation": "SUM", "unique_dimension": ""}],
                "usage_events": events,
                "ingests": [{**SELLER, "id": 1, "position": 4, "create_time": START + 11 * DAY}],
            },
            "invoicing": {"invoices": [{**invoice, "finalize_time": PERIOD.end + DAY}]},
        },
        entries=(),
        at=PERIOD.end + 90 * DAY,
    )


def line(*, digest: str = "") -> Json:
    row = {**SELLER, "invoice_id": "inv_1", "meter": "calls", "usage_through_position": 4, "usage_digest": digest}
    return {**row, "period_start": PERIOD.start, "period_end": PERIOD.end}


def counted(told: Records, *, digest: str = "") -> int:
    found = Counting(told).considered(line(digest=digest), PERIOD, PerUnit(Fraction(1)))
    return int(sum(event.value for event in found))


@pytest.mark.parametrize(
    ("names", "quantity"),
    [
        ([], 1),
        ([name("key"), name("alias")], 7),
        ([name("key", since_time=START), name("alias", since_time=START + DAY)], 3),
        ([name("key", until_time=START), name("alias", until_time=START + DAY)], 5),
        ([name("key", "cus_2")], 1),
        ([name("alias", remove_time=START + DAY)], 1),
        ([name("alias", add_time=PERIOD.end + 2 * DAY)], 1),
    ],
)
def test_a_name_counts_in_periods_that_begin_in_its_time(names: list[Json], quantity: int) -> None:
    """Of the customer's own, and what was known of them when the line was made."""
    assert counted(records(*names)) == quantity


def test_an_external_id_of_before_there_were_names_counts() -> None:
    """Unless a name says since when."""
    assert counted(records(external_id="key")) == 3
    assert counted(records(name("key", since_time=START + DAY), external_id="key")) == 1


def test_an_alias_may_come_and_go_while_a_line_waits_to_be_final() -> None:
    """What the line proves says by which names it was counted; it may prove nothing else."""
    told = records(
        name("alias", add_time=PERIOD.end + timedelta(hours=1)), name("key", remove_time=PERIOD.end + 2 * DAY)
    )
    digests = {}
    for keys in (("cus_1", "key"), ("cus_1", "key", "alias"), ("cus_1", "alias")):
        known = [name(key) for key in keys]
        digests[keys] = _digest(records(*known))
    assert counted(told, digest=digests["cus_1", "key"]) == 3
    assert counted(told, digest=digests["cus_1", "key", "alias"]) == 7
    assert counted(told, digest=digests["cus_1", "alias"]) == 7  # not what it proves
    inside = Counting(told).inside(line(), PERIOD)
    assert {event.id for event in inside} == {"cus_1", "alias"}  # usage under a key that was taken away is nobody's


def test_two_customers_are_never_called_the_same() -> None:
    """Usage would be counted for both; in turn they may be, and a key that is taken back is no longer anybody's."""
    invariant = INVARIANTS["every name is one customer's at a time"]
    in_turn = [
        name("a", until_time=START + DAY),
        name("a", "cus_2", since_time=START + DAY, until_time=START + 2 * DAY),
        name("a", "cus_3", since_time=START + 2 * DAY),
        name("a", "cus_4", remove_time=START),
    ]
    assert examine(invariant, records(*in_turn)).holds
    for wrong in (
        [name("a"), name("a", "cus_2")],
        [name("a", until_time=START + DAY), name("a", "cus_2")],
        [name("a"), name("a", "cus_2", since_time=START)],
        [name("a", until_time=START + 2 * DAY), name("a", "cus_2", since_time=START + DAY)],
    ):
        found = examine(invariant, records(*wrong))
        assert found.offenders == ("a is cus_1 and cus_2 at once",)


def test_what_is_known_is_told_in_its_order() -> None:
    """Each time that it changed, within the span asked for."""
    naming = Naming(
        records(name("a", add_time=START + DAY), name("b", add_time=START + 2 * DAY, remove_time=START + 3 * DAY))
    )
    whole = naming.names("sel_1", "cus_1", start=START, known=Span(START, START + 4 * DAY))
    assert whole == [frozenset({"cus_1", *more}) for more in ("", "a", "ab")]
    later = naming.names("sel_1", "cus_1", start=START, known=Span(START + 3 * DAY, START + 4 * DAY))
    assert later == [frozenset({"cus_1", "a"})]


def _digest(told: Records) -> str:
    return proof(line(), Counting(told).considered(line(), PERIOD, PerUnit(Fraction(1))), None)
