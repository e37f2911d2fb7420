"""Invariants of what is counted: every acknowledged usage event once, every billed quantity counted anew."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Final

from tools.check import backfills, corrections, rater
from tools.check.archived import Archived, leaves_are_whole
from tools.check.billing import key_of, lines_by_key, span_of
from tools.check.calendar import Span
from tools.check.counting import COUNTED_BEFORE, Counted, counting_of, meters_of, proof
from tools.check.early import Early
from tools.check.naming import each_name_is_one_customers
from tools.check.payers import used_by
from tools.check.records import Records, Row
from tools.check.refusals import Refusals
from tools.check.report import Invariant, Tally
from tools.check.tariff import tariffs
from tools.check.versions import Versions, of_line

CORRECTION_WINDOW: Final = timedelta(days=62)
"""How long after its end a period is still corrected, as the invoicing service promises."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENT: Final = timedelta(microseconds=1)


def acknowledged_stored_once(records: Records, tally: Tally) -> None:
    """What a client was told is accepted is there, once, as it was sent; what is a duplicate is there too. Of what is
    archived is only known that somebody used so much of it about that time."""
    archived = Archived(records)
    stored: dict[tuple[str, str, str], Row] = {}
    backfilled: dict[tuple[str, int | None, str, str], Row] = {}
    is_free = corrections.gave_its_id_back(records)
    for row in corrections.events(records):
        if row.get("version") is not None:
            continue
        backfilled[row["seller_id"], row.get("backfill"), row["source"], row["event_id"]] = row
        if is_free(row):
            continue
        identity = (row["seller_id"], row["source"], row["event_id"])
        tally.check(identity not in stored, f"{row['source']} {row['event_id']} is stored twice")
        stored[identity] = row
    accepted: Counter[tuple[str, str, str, str]] = Counter()
    brought = {row["id"]: row for row in records.rows("metering", "usage_backfills")}
    loaded = {(entry.seller_id, entry.source, entry.id) for entry in records.entries if entry.backfill}
    for entry in records.entries:
        if entry.outcome not in ("ACCEPTED", "UNMATCHED", "DUPLICATE"):
            continue
        identity = (entry.seller_id, entry.source, entry.id)
        found = stored.get(identity)
        if entry.outcome != "DUPLICATE" and entry.backfill:
            came_with = brought[entry.backfill]
            if came_with["leaf"] is None:  # nothing of it has ever counted
                continue
            found = backfilled.get((entry.seller_id, came_with["number"], entry.source, entry.id))
        elif entry.outcome == "DUPLICATE" and found is None and identity in loaded:
            continue  # of what was in a backfill then, and is reverted
        time = EPOCH + timedelta(microseconds=entry.time_ns // 1_000)
        if found is None and archived.has(entry.seller_id, entry.meter, [entry.customer], time, time + _MOMENT):
            tally.checked += 1
            continue
        tally.check(found is not None, f"{entry.source} {entry.id} was acknowledged and is gone")
        if found is None or entry.outcome == "DUPLICATE":
            continue
        accepted[*identity, entry.backfill] += 1
        sent = (entry.meter, time, Fraction(entry.value))
        kept = (found["meter"], found["time"], Fraction(found["value"]))
        once = accepted[*identity, entry.backfill] == 1
        tally.check(kept == sent and once, f"{entry.source} {entry.id} was accepted as something else, or twice")


def positions_account_for_events(records: Records, tally: Tally) -> None:
    """Usage events, corrections and the reverting of backfills are numbered from 1 without a gap, for each seller, and
    every one came with an ingest."""
    found: dict[str, list[int]] = defaultdict(list)
    for row in records.rows("metering", "usage_events"):
        found[row["seller_id"]].append(row["position"])
    for seller_id, position in backfills.revert_positions(records):
        found[seller_id].append(position)
    for seller_id, gone in Archived(records).positions(records.rows("metering", "usage_events"), tally).items():
        found[seller_id] += gone
    brought: dict[str, int] = defaultdict(int)
    for ingest in records.rows("metering", "ingests"):
        seller_id, position = ingest["seller_id"], ingest["position"]
        tally.check(position <= len(found[seller_id]), f"ingest {ingest['id']} of {seller_id}")
        brought[seller_id] = max(brought[seller_id], position)
    told = {row["seller_id"]: row["last"] for row in records.rows("metering", "positions")}
    for seller_id in sorted({*found, *told}):
        positions = sorted(found[seller_id])
        tally.check(positions == [*range(1, len(positions) + 1)], f"the positions of {seller_id} have gaps or repeats")
        last = told.get(seller_id, 0)
        tally.check(last == len(positions) == brought[seller_id], f"{seller_id} has {last} positions")


def quantities_counted_anew(records: Records, tally: Tally) -> None:
    """The quantity, the number and the digest of every metered line are those of the usage events themselves."""
    counting = counting_of(records)
    prices = tariffs(records)
    for lines in lines_by_key(records).values():
        for line in lines:
            if line["usage_digest"] is None:
                tally.check(not line["meter"], f"{line['id']} has a meter and no usage")
                continue
            with tally.checking(line["id"]):
                _, tariff = prices[line["price_id"]]
                if counting.is_archived(line, span_of(line), tariff.model):
                    continue
                found = counting.considered(line, span_of(line), tariff.model)
                told = (Fraction(line["usage_quantity"]), line["usage_event_count"], line["usage_digest"])
                due = (counting.quantity(line, found), len(found), proof(line, found, tariff.model))
                tally.check(
                    told == due, f"{line['id']}: {told[0]} of {told[1]} events; counted anew {due[0]} of {due[1]}"
                )


def events_of_billed_periods_billed(records: Records, tally: Tally) -> None:
    """A usage event of a billed period is on the line, or on a correction once the customer got another bill, if it was
    not refused.
    """
    counting, refusals = counting_of(records), Refusals(records)
    prices = tariffs(records)
    bills, early = _bill_times(records), Early(records)
    invoices = {row["id"]: row for row in records.rows("invoicing", "invoices")}
    for lines in lines_by_key(records).values():
        last = lines[-1]
        # Of what was billed early the rest is yet to come.
        if last["usage_digest"] is None or last["id"] in early.ids:
            continue
        with tally.checking(last["id"]):
            span = span_of(last)
            currency, tariff = prices[last["price_id"]]
            if counting.is_archived(last, span, tariff.model):
                continue
            inside = counting.inside(last, span, tariff.model)
            seen = last["usage_through_position"]
            late = [change for event in inside for change in event.changes if change.position > seen]
            tally.checked += sum(1 for event in inside if all(change.position <= seen for change in event.changes))
            whole_line = early.whole_of(lines) if early.is_begun(lines) else lines[0]
            invoice = invoices[whole_line["invoice_id"]]
            chances = [
                time
                for time in bills.get(_occasion(whole_line, invoice), ())
                if span.end < time <= span.end + CORRECTION_WINDOW
            ]
            missed = {
                change.position
                for change in late
                if change.time < invoice["bill_time"] or any(time > change.time for time in chances)
            }
            # What came too late for any bill may have made dear what was free when there still was one.
            in_time = [event for event in inside if _is_there(event, seen, missed)]
            whole = rater.due(tariff, counting.used(last, in_time, tariff.model), currency)
            settled = _is_settled(whole, lines, refusals)
            for change in late:
                tally.check(settled or change.position not in missed, f"{change.event} is not billed by {last['id']}")


def _is_settled(whole: int, lines: Sequence[Row], refusals: Refusals) -> bool:
    """Whether what a period comes to is billed, but for what was refused."""
    billed: int = sum(line["amount_minor"] for line in lines)
    return 0 <= whole - billed <= refusals.all(key_of(lines[0]))


def _is_there(event: Counted, seen: int, missed: Collection[int]) -> bool:
    """When those changes are known that a line has seen, and those that it should have."""
    added, *taken_away = (change.position <= seen or change.position in missed for change in event.changes)
    return added and not any(taken_away)


def counted_by_the_version_in_effect(records: Records, tally: Tally) -> None:
    """A period is counted by the version of its meter that was in effect when it began, as was known at its bill;
    and what a newer one makes of it is billed, if the customer got another bill in time.
    """
    versions, counting, refusals = Versions(records), counting_of(records), Refusals(records)
    prices, bills, early = tariffs(records), _bill_times(records), Early(records)
    invoices = {row["id"]: row for row in records.rows("invoicing", "invoices")}
    for lines in lines_by_key(records).values():
        for line in lines:
            if line["usage_digest"] is None:
                continue
            with tally.checking(line["id"]):
                _, tariff = prices[line["price_id"]]
                invoice = invoices[line["invoice_id"]]
                last = max(invoice["create_time"], invoice["finalize_time"])
                for meter in meters_of(line, tariff.model):
                    known = versions.believed(
                        line["seller_id"],
                        meter,
                        line["period_start"],
                        first=invoice["create_time"] - COUNTED_BEFORE,
                        last=last,
                    )
                    number = of_line(line, meter)
                    tally.check(number in known, f"{line['id']} is counted by version {number} of {meter}")
        last = lines[-1]
        if last["usage_digest"] is None or last["id"] in early.ids:
            continue
        with tally.checking(last["id"]):
            span = span_of(last)
            currency, tariff = prices[last["price_id"]]
            invoice = invoices[lines[0]["invoice_id"]]
            chances = bills.get(_occasion(lines[0], invoice), ())
            chance = max((time for time in chances if span.end < time <= span.end + CORRECTION_WINDOW), default=None)
            if chance is None or counting.is_archived(last, span, tariff.model):
                continue
            before = chance - COUNTED_BEFORE
            # What was made about the time of the bill may have been known to it or not.
            newest = {
                meter: min(versions.believed(last["seller_id"], meter, span.start, first=before, last=chance))
                for meter in meters_of(last, tariff.model)
            }
            if all(of_line(last, meter) >= number for meter, number in newest.items()):
                continue
            anew = {**last, "usage_meter_versions": json.dumps(newest)}
            seen = last["usage_through_position"]
            inside = [event for event in counting.inside(anew, span, tariff.model) if event.counts_at(seen)]
            whole = rater.due(tariff, counting.used(anew, inside, tariff.model), currency)
            tally.check(_is_settled(whole, lines, refusals), f"{last['id']} is not billed by {newest}")


def each_event_in_one_period(records: Records, tally: Tally) -> None:
    """No usage event is counted in two periods of one item, unless it is to be counted in all that follow."""
    counting = counting_of(records)
    spans: dict[tuple[str, str], dict[Span, Row]] = defaultdict(dict)
    for lines in lines_by_key(records).values():
        if lines[0]["usage_digest"] is not None and not counting.carries_over(lines[0]):
            spans[lines[0]["item_id"], lines[0]["price_id"]][span_of(lines[-1])] = lines[-1]
    for periods in spans.values():
        seen: Counter[tuple[str, str]] = Counter()
        for span, line in periods.items():
            inside = counting.inside(line, span)
            seen.update((event.source, event.id) for event in inside if event.taken_away is None)
        for (source, event_id), times in seen.items():
            tally.check(times == 1, f"{source} {event_id} is counted {times} times")


Occasion = tuple[str, str, str, str]
"""Who used something, who pays for it, in which currency, and by which declared keys."""


def _occasion(line: Row, invoice: Row) -> Occasion:
    # Databases that are older than declared keys have no such column.
    key = invoice.get("consolidation_key") or ""
    return used_by(line, invoice), invoice["customer_id"], invoice["currency"], key


def _bill_times(records: Records) -> Mapping[Occasion, list[datetime]]:
    """When something of each was billed for good: what came late for the same could have been on it."""
    found: dict[Occasion, list[datetime]] = defaultdict(list)
    lines = records.by("invoicing", "invoice_lines", "invoice_id")
    for row in records.rows("invoicing", "invoices"):
        if row["state"] not in ("DRAFT", "VOID"):
            for occasion in {_occasion(line, row) for line in lines.get(row["id"], ())}:
                found[occasion].append(row["bill_time"])
    return found


_COUNTING: Final = ("subscriptions", "metering", "invoicing")

INVARIANTS: Final = (
    Invariant(
        name="every acknowledged usage event is stored exactly once",
        needs=("metering",),
        verify=acknowledged_stored_once,
    ),
    Invariant(name="positions account for every usage event", needs=("metering",), verify=positions_account_for_events),
    Invariant(name="no usage is gone but what was archived", needs=("metering",), verify=leaves_are_whole),
    Invariant(
        name="every billed quantity is counted anew",
        needs=("catalog", *_COUNTING),
        verify=quantities_counted_anew,
    ),
    Invariant(
        name="every usage event of a billed period is billed",
        needs=("catalog", *_COUNTING),
        verify=events_of_billed_periods_billed,
    ),
    Invariant(
        name="every billed period is counted by the version in effect",
        needs=("catalog", *_COUNTING),
        verify=counted_by_the_version_in_effect,
    ),
    Invariant(name="every usage event is in one period of an item", needs=_COUNTING, verify=each_event_in_one_period),
    Invariant(
        name="every name is one customer's at a time", needs=("subscriptions",), verify=each_name_is_one_customers
    ),
)
