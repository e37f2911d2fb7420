"""Invariants of spend thresholds: what is billed early had reached one, and nothing that has reached one is left."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from common import ids
from tools.check import rater
from tools.check.billing import key_of, lines_by_key
from tools.check.calendar import Span
from tools.check.counting import Counting, counting_of, meters_of
from tools.check.early import Early
from tools.check.payers import used_by
from tools.check.rater import Tariff
from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally
from tools.check.schedule import Billable
from tools.check.tariff import tariffs
from tools.check.versions import Versions

LOOKED_AT_WITHIN: Final = timedelta(hours=2)
"""How long what has reached its threshold may stay unbilled: it is looked at every hour, and billed after that."""

LOOKED_AT_WITHIN_IN_SANDBOXES: Final = timedelta(days=2)
NEAREST_FIRST: Final = ("SUBSCRIPTION", "CUSTOMER", "SELLER")


def billed_early_for_a_reason(records: Records, tally: Tally) -> None:
    """What was billed early is on record with the nearest threshold that counted then, and had reached it; the lines of
    one moment come to what was spent.
    """
    lines = {line["id"]: line for line in records.rows("invoicing", "invoice_lines")}
    invoices = {row["id"]: row for row in records.rows("invoicing", "invoices")}
    declared = Declared(records)
    together: dict[tuple[str, str, datetime], list[Row]] = defaultdict(list)
    for row in records.rows("invoicing", "early_lines"):
        nearest = declared.nearest(row, row["customer_id"], at=row["create_time"])
        reached = {each["id"] for each in nearest if row["spend_minor"] >= each["amount_minor"]}
        holds = row["threshold_id"] in reached
        tally.check(holds, f"{row['line_id']} was billed early for no threshold that {row['spend_minor']} had reached")
        line = lines.get(row["line_id"])
        if line is None:
            continue  # a draft has dropped it
        same = key_of(line) == key_of({**row, "kind": "OWED"}) and line["correction"] == row["correction"]
        same = same and line["period_end"] == row["period_end"] and line["invoice_id"] == row["invoice_id"]
        same = same and used_by(line, invoices[line["invoice_id"]]) == row["customer_id"]
        tally.check(same and line["currency"] == row["currency"], f"{line['id']} is not what was billed early")
        together[row["subscription_id"], row["currency"], row["create_time"]].append(row)
    for (subscription_id, currency, time), rows in together.items():
        spend = {row["spend_minor"] for row in rows}
        billed = [lines[row["line_id"]] for row in rows]
        # A draft is counted once more, and what has become less than was billed before is billed with the whole.
        is_as_counted = all(invoices[line["invoice_id"]]["finalize_time"] == time for line in billed)
        amount = sum(line["amount_minor"] for line in billed)
        holds = len(spend) == 1 and (not is_as_counted or amount >= max(spend))
        tally.check(holds, f"{subscription_id}: {amount} {currency} billed early at {time}, spent {spend}")


def nothing_left_at_its_threshold(records: Records, tally: Tally) -> None:
    """What usage under way comes to that was there some time ago, and is not billed, is less than its threshold."""
    if not records.rows("invoicing", "spend_thresholds"):
        return
    early, declared, prices = Early(records), Declared(records), tariffs(records)
    counting, versions = counting_of(records), Versions(records)
    lines, parked = lines_by_key(records), _not_billed(records)
    sellers = {row["id"]: row["seller_id"] for row in records.rows("subscriptions", "subscriptions")}
    spent: dict[tuple[str, str], int] = defaultdict(int)
    limits: dict[tuple[str, str], int] = {}
    excused: set[tuple[str, str]] = set()
    for billable in early.under_way:
        price, seller_id = billable.terms.price, sellers[billable.subscription_id]
        currency, tariff = prices[price.id]
        now = records.now("invoicing", seller_id)
        within = LOOKED_AT_WITHIN_IN_SANDBOXES if ids.is_sandbox(seller_id) else LOOKED_AT_WITHIN
        until = now - within
        about = {"seller_id": seller_id, "subscription_id": billable.subscription_id, "currency": currency}
        counted = [
            each for each in declared.nearest(about, billable.terms.customer_id, at=now) if each["create_time"] <= until
        ]
        if not counted or billable.period.start >= until:
            continue
        place = (billable.subscription_id, currency)
        own = lines.get(billable.key, [])
        if early.waits(own) or billable.terms.customer_id in parked:
            excused.add(place)
        limits[place] = max(each["amount_minor"] for each in counted)
        with tally.checking(billable.item_id):
            used = _used(billable, seller_id, tariff, counting, versions, until=until)
            if used is None:
                excused.add(place)
                continue
            spent[place] += rater.due(tariff, used, currency) - sum(line["amount_minor"] for line in own)
    for place, limit in limits.items():
        holds = place in excused or spent[place] < limit
        tally.check(holds, f"{place[0]} has {spent[place]} {place[1]} unbilled, at a threshold of {limit}")


class Declared:
    """The thresholds that were ever declared."""

    def __init__(self, records: Records) -> None:
        self._by_place: dict[tuple[str, str, str, str], list[Row]] = defaultdict(list)
        for row in records.rows("invoicing", "spend_thresholds"):
            place = (row["seller_id"], row["scope"], row["scope_id"], row["currency"])
            self._by_place[place].append(row)

    def nearest(self, about: Row, customer_id: str, *, at: datetime) -> Sequence[Row]:
        """Those that counted at a moment on the nearest level; of the very moment of a change there are two."""
        named = {"SUBSCRIPTION": about["subscription_id"], "CUSTOMER": customer_id, "SELLER": ""}
        found: list[Row] = []
        for scope in NEAREST_FIRST:
            rows = self._by_place.get((about["seller_id"], scope, named[scope], about["currency"]), ())
            found += [
                row for row in rows if row["create_time"] <= at and (row["end_time"] is None or at <= row["end_time"])
            ]
            # What changed in this very moment may have counted or not.
            if any(row["create_time"] < at and (row["end_time"] is None or at < row["end_time"]) for row in found):
                break
        return found


def _used(
    billable: Billable,
    seller_id: str,
    tariff: Tariff,
    counting: Counting,
    versions: Versions,
    *,
    until: datetime,
) -> rater.Used | None:
    """What was used of a period, and known, by a moment; None where that cannot be counted any more."""
    span = Span(billable.period.start, min(billable.period.end, until))
    meter = billable.terms.price.meter
    told: Row = {
        "id": billable.item_id,
        "seller_id": seller_id,
        "invoice_id": None,
        "create_time": until,
        "customer_id": billable.terms.customer_id,
        "meter": meter,
        "period_start": span.start,
        "period_end": span.end,
        "usage_meter_versions": None,
    }
    newest = {
        each: min(versions.believed(seller_id, each, span.start, first=until, last=until))
        for each in meters_of(told, tariff.model)
    }
    told = {**told, "usage_meter_versions": json.dumps(newest)}
    if counting.is_archived(told, span, tariff.model):
        return None
    found = [
        event
        for event in counting.inside(told, span, tariff.model)
        if event.added.time <= until and event.taken_away is None
    ]
    return counting.used(told, found, tariff.model)


def _not_billed(records: Records) -> set[str]:
    """The customers who cannot be billed, or wait to be."""
    return {
        row["customer_id"]
        for row in records.rows("invoicing", "billing")
        if row["park_time"] is not None
        or (row["due_time"] is not None and row["due_time"] <= records.now("invoicing", row["seller_id"]))
    }


INVARIANTS: Final = (
    Invariant(
        name="what was billed early had reached its threshold",
        needs=("invoicing",),
        verify=billed_early_for_a_reason,
    ),
    Invariant(
        name="nothing stays unbilled that has reached its threshold",
        needs=("catalog", "subscriptions", "metering", "invoicing"),
        verify=nothing_left_at_its_threshold,
    ),
)
