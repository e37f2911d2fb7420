"""The checker sees where what is known of payers is not what was said, or nobody could be billed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tools.check import payers
from tools.check.records import Records
from tools.check.report import examine

SELLER = {"seller_id": "sel_1"}
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)

Json = Mapping[str, Any]  # Any: whatever the columns of a table hold
CUSTOMER: Json = {**SELLER, "payer_id": None, "state": "ACTIVE", "erase_time": None}


def records(**changed: list[Json]) -> Records:
    """Ada is paid for by Eve; her subscription names Bob for a day."""
    action = {"action": "SET_PAYER", "payer_id": None}
    change = {"subscription_id": "sub", "position": 0, "effective_time": START + DAY, "revoked_time": None}
    change["recorded_time"] = START + DAY
    revoked = {**change, "revoked_time": START, "actions": json.dumps([{**action, "payer_id": "gone"}])}
    opening = {"payer_id": "bob", "start_time": START.isoformat(), "recorded_time": START.isoformat()}
    tables: dict[str, list[Json]] = {
        "customers": [{**CUSTOMER, "id": "ada", "payer_id": "eve"}, *({**CUSTOMER, "id": i} for i in ("bob", "eve"))],
        "customer_payers": [
            {**SELLER, "customer_id": "ada", "since_time": START, "payer_id": "bob"},
            {**SELLER, "customer_id": "ada", "since_time": START + DAY, "payer_id": "eve"},
        ],
        "subscriptions": [
            {**SELLER, "id": "sub", "customer_id": "ada", "state": "ACTIVE", "opening": json.dumps(opening)}
        ],
        "subscription_changes": [{**change, "actions": json.dumps([action])}, {**revoked, "position": 1}],
        "subscription_payers": [named("bob", START, START + DAY), named(None, START + DAY, None)],
        **changed,
    }
    return Records(tables={"subscriptions": tables}, entries=[], at=START + 9 * DAY)


def named(payer_id: str | None, start: datetime, end: datetime | None) -> Json:
    return {"subscription_id": "sub", "start_time": start, "end_time": end, "payer_id": payer_id}


def verdicts(found: Records) -> list[bool]:
    return [examine(invariant, found).holds for invariant in payers.INVARIANTS]


def test_what_follows_from_the_logs_is_content() -> None:
    """A change that was revoked says nothing."""
    assert verdicts(records()) == [True, True, True]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"customer_payers": []}, [False, True, True]),
        (
            {"customer_payers": [{**SELLER, "customer_id": "bob", "since_time": START, "payer_id": "bob"}]},
            [False, True, True],
        ),
        ({"subscription_payers": []}, [True, False, True]),
        ({"subscription_payers": [named("bob", START, None)]}, [True, False, True]),
        ({"subscription_payers": [named("bob", START, START + DAY), named("bob", START, None)]}, [True, False, True]),
        ({"customers": [{**CUSTOMER, "id": "ada", "payer_id": "eve"}]}, [True, True, False]),
        (
            {
                "customers": [
                    {**CUSTOMER, "id": "ada", "payer_id": "eve"},
                    {**CUSTOMER, "id": "eve", "erase_time": START},
                ]
            },
            [True, True, False],
        ),
        (
            {
                "customers": [
                    {**CUSTOMER, "id": "ada", "payer_id": "eve"},
                    {**CUSTOMER, "id": "eve", "state": "MERGED"},
                ]
            },
            [True, True, False],
        ),
    ],
)
def test_what_does_not_follow_is_seen(changed: dict[str, list[Json]], expected: list[bool]) -> None:
    """Each by the invariant that is about it, and by no other."""
    assert verdicts(records(**changed)) == expected


def test_what_is_said_at_the_very_moment_may_be_known_or_not() -> None:
    """Who bills at the moment at which the payer changes may ask before or after; a microsecond later nobody may."""
    found, tick = payers.Payers(records()), timedelta(microseconds=1)
    around = [set(found.around("sub", "ada", START + DAY + each * tick)) for each in (-1, 0, 1)]
    assert around == [{"bob"}, {"bob", "eve"}, {"eve"}]
    assert found.at("sub", "ada", START + DAY) == "eve"
