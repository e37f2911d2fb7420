"""The checker is content with a true story, and names exactly what was corrupted in a copy of it."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace

import pytest
from rich.console import Console

from tests.check.conftest import World
from tools.check.records import GATEWAY, Sources
from tools.check.verification import INVARIANTS, verify

PERIODS = "every period of every item is invoiced exactly once"
OVERLAP = "no two lines of an item overlap"
AMOUNTS = "every amount agrees with the independent rater"
NEGOTIATED = "a negotiated price is only on lines of its customer"
REDEEMED = "redemption counts equal redemptions and respect limits"
ONE_VERSION = "one version of a plan is sold at a time"
AS_PUBLISHED = "what is sold is what was published"
CREDITS = "every credit is taken off as soon as it can be"
TERMS = "the terms of every item follow from the log"
DECISIONS = "every decision about a subscription is announced"
LOGGED = (
    "INSERT INTO subscription_changes (seller_id, id, subscription_id, position, recorded_time, effective_time,"
    " revoked_time, decided_with, proration, unused, actions, after_months)"
    " SELECT seller_id, 'chg_logged', id, 99, create_time, create_time + interval '10 years', {revoked}, '', 'BY_DAY',"
    """ 'KEEP', '[{{"action": "SET_TERM", "term": null}}]'::jsonb, {after_months} FROM subscriptions LIMIT 1"""
)
"""A change that was agreed with a subscription and says nothing about what is billed."""
REVOCATIONS = "every revocation of a scheduled change is announced once"
RAMPS = "steps of ramps are counted from the beginning of billing"
ENDS = "the end of every billing period is announced once"
PAYER_SAID = "the payer of every customer is the last that was said"
PAYER_NAMED = "whom every subscription names follows from the log"
PAYER_THERE = "whoever pays for a living subscription can be billed"
CORRECTIONS = "corrections of a period add up"
STEPS = "rating steps explain every amount"
TOTALS = "lines sum to totals"
NUMBERS = "invoice numbers are gapless and unique"
STORED = "every acknowledged usage event is stored exactly once"
POSITIONS = "positions account for every usage event"
WHOLE = "no usage is gone but what was archived"
SHARDED = "a seller's usage is in one shard of the log"
COUNTED = "every billed quantity is counted anew"
BILLED = "every usage event of a billed period is billed"
IN_EFFECT = "every billed period is counted by the version in effect"
ONE_PERIOD = "every usage event is in one period of an item"
FROZEN = "every frozen usage is counted anew"
ALERTS = "how usage stands to thresholds is counted anew"
ALERTS_TOLD = "every change of how it stands is announced once"
LATE_TOLD = "what came too late for a frozen usage is told"
CORRECTED = "every correction takes away what there was"
VERSIONS = "one version of a usage event counts at a time"
BACKFILLED = "a backfill counts as a whole, or not at all"
WITHIN_QUOTA = "nobody acquires more quota than there is"
UNMATCHED_TOLD = "what nobody counts was told of"
COMMITTED_ONCE = "what is committed of a quota is used once"
PAID = "paid and remaining make the total"
PAYMENTS = "payments agree with invoices"
ATTEMPTS = "attempts agree with payments"
RECORD = "the gateway's record agrees one to one"
CAPTURES = "captures never exceed what is due"
FOLLOWED = "every overdue invoice is followed up"
CANCELLED = "what dunning gave up on was cancelled"
NAMED = "every name is one customer's at a time"
ANNOUNCED = "every change of a resource is announced"
GAPLESS = "events of a resource are numbered without a gap"
TAKEN_IN = "every event is taken in once by all who listen"
PUBLISHED = "no event waits to be published"
GIVEN_UP = "no dead letter and no failing job"
OPEN = "no payment attempt is left open"
DUE = "nothing is due in the past"
SELLERS = "every row belongs to a seller that exists"
CARDS = "no card number is stored"
ANSWERED = "every answered command is on record"


@dataclass(frozen=True)
class Corruption:
    """Something that no service would do, and what must be named because of it."""

    service: str
    statements: tuple[str, ...]
    breaks: tuple[str, ...]


def one(table: str, change: str, where: str = "true", *, of: str = "ctid") -> str:
    """Change a single row."""
    return f"UPDATE {table} SET {change} WHERE {of} = (SELECT {of} FROM {table} WHERE {where} ORDER BY {of} LIMIT 1)"


CORRUPTIONS = {
    "a period was never billed": Corruption(
        "subscriptions",
        (
            "UPDATE subscriptions SET opening = jsonb_set(opening, '{start_time}', '\"2025-12-01T00:00:00+00:00\"')"
            " WHERE customer_id = (SELECT id FROM customers WHERE external_id = 'unpaid')",
        ),
        (PERIODS, TERMS, ENDS),
    ),
    "a period was billed that nobody agreed to": Corruption(
        "subscriptions",
        (
            "UPDATE subscriptions SET opening = jsonb_set(opening, '{items}', '[]')"
            " WHERE customer_id = (SELECT id FROM customers WHERE external_id = 'unpaid')",
        ),
        (PERIODS, TERMS),
    ),
    "a change was forgotten": Corruption(
        "subscriptions",
        ("DELETE FROM subscription_changes WHERE actions->0->>'action' = 'SET_QUANTITY'",),
        (PERIODS, AMOUNTS, TERMS),
    ),
    "a change took effect a day later": Corruption(
        "subscriptions",
        (
            "UPDATE subscription_changes SET effective_time = effective_time + interval '1 day'"
            " WHERE actions->0->>'action' = 'SET_QUANTITY'",
        ),
        (PERIODS, AMOUNTS, TERMS, DECISIONS),
    ),
    "a credit was lost": Corruption(
        "invoicing", ("DELETE FROM invoice_lines WHERE kind = 'CREDIT'",), (CREDITS, TOTALS)
    ),
    "a credit was given twice": Corruption(
        "invoicing",
        (
            "CREATE TEMPORARY TABLE again AS SELECT * FROM invoice_lines WHERE kind = 'CREDIT'",
            "UPDATE again SET id = 'again', position = 99, correction = 1",
            "INSERT INTO invoice_lines SELECT * FROM again",
        ),
        (CREDITS, AMOUNTS, TOTALS),
    ),
    "a credit is another share than was unused": Corruption(
        "invoicing", (one("invoice_lines", "proration_numerator = 1", "kind = 'CREDIT'"),), (AMOUNTS,)
    ),
    "a part was billed twice": Corruption(
        "invoicing",
        (
            "CREATE TEMPORARY TABLE again AS SELECT * FROM invoice_lines WHERE kind = 'OWED' AND change_id <> ''",
            "UPDATE again SET id = 'again', position = 99, change_id = ''",
            "INSERT INTO invoice_lines SELECT * FROM again",
        ),
        (PERIODS, AMOUNTS, TOTALS),
    ),
    "the terms of an item are others than were agreed": Corruption(
        "subscriptions", (one("subscription_terms", "quantity = quantity + 1", "quantity > 0"),), (TERMS,)
    ),
    "a decision was not announced": Corruption(
        "subscriptions",
        ("DELETE FROM outbox WHERE subject LIKE '%.SubscriptionChanged'",),
        (GAPLESS, TAKEN_IN, DECISIONS),
    ),
    "a scheduled change was revoked in silence": Corruption(
        "subscriptions", (LOGGED.format(revoked="create_time", after_months="NULL"),), (REVOCATIONS,)
    ),
    "a step of a ramp is not where it belongs": Corruption(
        "subscriptions", (LOGGED.format(revoked="NULL", after_months="1"),), (RAMPS,)
    ),
    "two lines overlap": Corruption(
        "invoicing",
        (
            one(
                "invoice_lines",
                "period_end = period_end + interval '3 days'",
                "meter = '' AND period_start = '2026-02-01T00:00:00+01' AND description = 'Seats'",
            ),
        ),
        (PERIODS, OVERLAP),
    ),
    "a price is another than was billed": Corruption(
        "catalog",
        ("UPDATE prices SET model = jsonb_set(model, '{amount}', '\"49.01\"') WHERE model->>'model' = 'FLAT'",),
        (AMOUNTS, AS_PUBLISHED),
    ),
    "a minimum is another than was billed": Corruption(
        "catalog",
        ("UPDATE prices SET operators = '{\"minimum_amount\": \"1000\"}' WHERE code = 'calls'",),
        (AMOUNTS, AS_PUBLISHED),
    ),
    "a price was negotiated with somebody else": Corruption(
        "catalog",
        ("UPDATE prices SET customer_id = 'cus_x', list_price_id = 'price_x' WHERE code = 'monthly'",),
        (NEGOTIATED, AS_PUBLISHED, ANNOUNCED),
    ),
    "a price is called another name": Corruption(
        "catalog", ("UPDATE prices SET code = 'yearly' WHERE code = 'monthly'",), (AS_PUBLISHED,)
    ),
    "a version ends and nothing follows": Corruption(
        "catalog", (one("plans", "superseded_time = effective_time + interval '10 years'"),), (ONE_VERSION,)
    ),
    "a version was never taken off sale": Corruption(
        "catalog", (one("plans", "superseded_time = effective_time + interval '1 second'"),), (ONE_VERSION, DUE)
    ),
    "a coupon counts a redemption too many": Corruption(
        "catalog", (one("coupons", "redemption_count = redemption_count + 1"),), (REDEEMED,)
    ),
    "a share is another than was billed": Corruption(
        "invoicing", (one("invoice_lines", "proration_denominator = 30", "proration_denominator <> 1"),), (AMOUNTS,)
    ),
    "a correction is of another quantity": Corruption(
        "invoicing", (one("invoice_lines", "quantity = quantity + 1", "correction = 1"),), (CORRECTIONS,)
    ),
    "a rating step is not explained": Corruption(
        "invoicing",
        (one("invoice_lines", "rating_steps = jsonb_set(rating_steps, '{0,amount}', '\"1\"')", "meter <> ''"),),
        (STEPS,),
    ),
    "a rating step does not multiply out": Corruption(
        "invoicing",
        (
            one(
                "invoice_lines",
                "rating_steps = jsonb_set(rating_steps, '{0,quantity}', '\"77\"')",
                "rating_steps->0->>'kind' = 'UNITS'",
            ),
        ),
        (STEPS,),
    ),
    "a line is missing from a total": Corruption(
        "invoicing", (one("invoices", "line_count = line_count + 1"),), (TOTALS,)
    ),
    "a number was lost": Corruption(
        "invoicing", (one("invoices", "number = 'CHK-000099'", "number = 'CHK-000003'"),), (NUMBERS,)
    ),
    "a number series went on without an invoice": Corruption(
        "invoicing", ("UPDATE number_series SET last = last + 1",), (NUMBERS,)
    ),
    "a usage event was moved": Corruption(
        "metering", (one("usage_log", "time = time + interval '1 second'"),), (STORED,)
    ),
    "a usage event was stored twice": Corruption(
        "metering",
        (
            "INSERT INTO usage_log SELECT seller_id, p.last + 1, stream, source, time, gen_random_uuid(), 0,"
            " dimensions, event_id, leaf FROM usage_log JOIN positions p USING (seller_id)"
            " WHERE event_id = 'p-2026-02-02'",
            "UPDATE positions SET last = last + 1",
            "UPDATE ingests SET position = position + 1 WHERE position = (SELECT max(position) FROM ingests)",
        ),
        (STORED, ONE_PERIOD, VERSIONS),
    ),
    "a usage event was deleted": Corruption(
        "metering", ("DELETE FROM usage_log WHERE event_id = 'p-2026-02-02'",), (STORED, POSITIONS, COUNTED, ALERTS)
    ),
    "a leaf of the log is gone": Corruption(
        "metering", ("INSERT INTO usage_leaves (shard, state, row_count) VALUES (0, 'SEALED', 5)",), (WHOLE,)
    ),
    "a seller's usage is in two shards": Corruption(
        "metering", (one("usage_leaves", "shard = 1", "state = 'OPEN'"),), (SHARDED,)
    ),
    "a seller is in a shard that is none": Corruption("metering", ("DELETE FROM shards",), (SHARDED,)),
    "a position counts nothing": Corruption("metering", ("UPDATE positions SET last = last + 1",), (POSITIONS,)),
    "a digest is of other usage events": Corruption(
        "invoicing", (one("invoice_lines", "usage_digest = repeat('0', 64)", "usage_digest IS NOT NULL"),), (COUNTED,)
    ),
    "a usage event that was there in time was not billed": Corruption(
        "metering",
        (
            "INSERT INTO usage_log SELECT seller_id, p.last + 1, stream, source, time, gen_random_uuid(), 50,"
            " dimensions, 'forgotten', leaf FROM usage_log JOIN positions p USING (seller_id)"
            " WHERE event_id = 'p-2026-01-20'",
            "UPDATE positions SET last = last + 1",
            "INSERT INTO ingests (seller_id, id, position, traceparent, create_time)"
            " SELECT seller_id, 999999, last, '', '2026-01-21T00:00:00Z' FROM positions",
        ),
        (BILLED,),
    ),
    "a usage event is in two periods": Corruption(
        "invoicing",
        (
            "UPDATE invoice_lines SET period_start = period_start - interval '3 days'"
            " WHERE description = 'Power' AND period_start = '2026-03-01T00:00:00+01' AND correction = 0",
        ),
        (PERIODS, OVERLAP, COUNTED, ONE_PERIOD),
    ),
    "a frozen usage has another quantity": Corruption(
        "metering", (one("usage_freezes", "quantity = quantity + 1"),), (FROZEN,)
    ),
    "a frozen usage was counted by another version": Corruption(
        "metering", (one("usage_freezes", "meter_version = 2", "meter = 'water'"),), (FROZEN,)
    ),
    "a version of a meter counts otherwise than it did": Corruption(
        "metering", (one("meter_versions", "value_expression = 'value * 2'", "value_expression <> ''"),), (COUNTED,)
    ),
    "a line was counted by a version that was not in effect": Corruption(
        "invoicing",
        (
            one(
                "invoice_lines",
                """usage_meter_versions = '{"power": 1}'""",
                """usage_meter_versions = '{"power": 2}'""",
            ),
        ),
        (IN_EFFECT,),
    ),
    "a version took effect earlier than it was told": Corruption(
        "metering",
        ("UPDATE meter_versions SET effective_time = '2026-01-01' WHERE value_expression <> ''",),
        (IN_EFFECT, FROZEN, LATE_TOLD),
    ),
    "an event of a frozen usage was changed": Corruption(
        "metering", (one("usage_log", "value = value + 1", "event_id = 'in time'"),), (STORED, FROZEN)
    ),
    "nobody made a correction": Corruption(
        "metering", ("DELETE FROM usage_corrections WHERE event_id = 'voided'",), (CORRECTED,)
    ),
    "a correction takes another event away": Corruption(
        "metering",
        (
            "UPDATE usage_log SET corrects = p.position FROM usage_log p"
            " WHERE usage_log.corrects IS NOT NULL AND usage_log.event_id = 'voided' AND p.event_id = 'in time'",
        ),
        (CORRECTED, LATE_TOLD),
    ),
    "a backfill has lost an event": Corruption(
        "metering", ("UPDATE usage_backfills SET event_count = event_count + 1 WHERE state = 'CLOSED'",), (BACKFILLED,)
    ),
    "a backfill comes to something else": Corruption(
        "metering", ("UPDATE usage_backfill_days SET value_sum = value_sum + 1",), (BACKFILLED,)
    ),
    "a reverted backfill counts again": Corruption(
        "metering",
        (
            "INSERT INTO usage_backfill_days SELECT min(e.seller_id), e.stream, e.time::date, e.backfill, count(*),"
            " sum(value), min(value), max(value) FROM usage_log e JOIN usage_backfills b ON b.number = e.backfill"
            " WHERE b.state = 'REVERTED' GROUP BY e.stream, e.time::date, e.backfill",
        ),
        (BACKFILLED,),
    ),
    "a backfill was never reverted": Corruption(
        "metering",
        ("UPDATE usage_backfills SET state = 'CLOSED', revert_position = NULL WHERE revert_position IS NOT NULL",),
        (STORED, POSITIONS, VERSIONS, BACKFILLED, LATE_TOLD),
    ),
    "two versions of an event count": Corruption(
        "metering",
        ("UPDATE usage_log SET corrects = NULL, version = 2 WHERE corrects IS NOT NULL AND event_id = 'late'",),
        (CORRECTED, VERSIONS, LATE_TOLD),
    ),
    "what came too late was told to nobody": Corruption(
        "metering", ("UPDATE late_usages SET announced_count = 0, announced_position = 0",), (LATE_TOLD,)
    ),
    "usage stands otherwise to a threshold": Corruption(
        "metering", (one("usage_alerts", "state = 'REACHED'", "state = 'WARNING'", of="number"),), (ALERTS, ALERTS_TOLD)
    ),
    "usage was counted otherwise for a threshold": Corruption(
        "metering", (one("usage_alerts", "quantity = quantity + 1", "state = 'WARNING'", of="number"),), (ALERTS,)
    ),
    "how usage stands to a threshold was forgotten": Corruption(
        "metering", ("DELETE FROM usage_alerts WHERE state = 'WARNING'",), (ALERTS, ALERTS_TOLD)
    ),
    "a period of a threshold is over and nobody saw it": Corruption(
        "metering",
        (one("usage_alerts", "end_time = start_time + interval '1 day'", "state = 'WARNING'", of="number"),),
        (ALERTS,),
    ),
    "a threshold was archived in silence": Corruption(
        "metering", (one("usage_thresholds", "revision = revision + 1"),), (ANNOUNCED,)
    ),
    "more of a quota was acquired than there was": Corruption(
        "metering",
        (one("quota_reservations", "granted = granted - 1", "number = (SELECT max(number) FROM quota_turns)"),),
        (WITHIN_QUOTA,),
    ),
    "more was used than was committed": Corruption(
        "metering",
        (one("quota_reservations", "committed_quantity = committed_quantity - 1", "state = 'COMMITTED'"),),
        (COMMITTED_ONCE,),
    ),
    "nobody was told of usage that nobody counts": Corruption(
        "metering", ("DELETE FROM unmatched_names",), (UNMATCHED_TOLD,)
    ),
    "a customer was said to be missing who is there": Corruption(
        "metering",
        (
            "INSERT INTO unmatched_names (seller_id, reason, name, id, found_time, revision)"
            " SELECT seller_id, 'UNKNOWN_METER', code, 'unm_x', now(), 1 FROM meters LIMIT 1",
        ),
        (UNMATCHED_TOLD, ANNOUNCED),
    ),
    "what was released was used": Corruption(
        "metering",
        (
            "UPDATE quota_reservations SET committed_quantity = quantity, commit_time = end_time"
            " WHERE state = 'RELEASED'",
        ),
        (COMMITTED_ONCE,),
    ),
    "usage for a threshold is still to be counted": Corruption(
        "metering", (one("usage_alerts", "due_time = start_time", of="number"),), (DUE,)
    ),
    "a payment was forgotten": Corruption(
        "invoicing", (one("invoices", "amount_paid_minor = amount_paid_minor - 1", "state = 'PAID'"),), (PAID,)
    ),
    "a payment is of another customer": Corruption(
        "payments", (one("payments", "customer_id = 'cus_x'"),), (PAYMENTS,)
    ),
    "an attempt is numbered wrongly": Corruption(
        "payments", (one("payment_attempts", "number = number + 5"),), (ATTEMPTS,)
    ),
    "the gateway captured another amount": Corruption(
        GATEWAY, (one("captures", "amount_minor = amount_minor - 1", "outcome = 'CAPTURED'"),), (RECORD,)
    ),
    "the gateway captured twice": Corruption(
        GATEWAY,
        (
            "INSERT INTO captures (attempt_id, seller_id, invoice_id, token, amount_minor, currency, outcome, code,"
            " capture_number) SELECT 'att_twice', seller_id, invoice_id, token, amount_minor, currency, outcome, code,"
            " 99 FROM captures WHERE outcome = 'CAPTURED' LIMIT 1",
        ),
        (RECORD, CAPTURES),
    ),
    "an overdue invoice is not followed up": Corruption(
        "dunning", ("DELETE FROM campaigns WHERE state = 'EXHAUSTED'",), (FOLLOWED,)
    ),
    "dunning gave up and service goes on": Corruption(
        "dunning",
        ("UPDATE campaigns SET subscription_ids = subscription_ids || 'sub_x'::text WHERE state = 'EXHAUSTED'",),
        (CANCELLED,),
    ),
    "a change was not announced": Corruption(
        "subscriptions", (one("customers", "revision = revision + 1"),), (ANNOUNCED,)
    ),
    "a name is two customers'": Corruption(
        "subscriptions",
        (
            "INSERT INTO customer_names (seller_id, customer_id, key, add_time)"
            " SELECT seller_id, 'cus_x', key, add_time FROM customer_names LIMIT 1",
        ),
        (NAMED,),
    ),
    "a state was not announced": Corruption("catalog", (one("plans", "state = 'ARCHIVED'"),), (ANNOUNCED,)),
    "an event was lost": Corruption(
        "subscriptions",
        (
            "DELETE FROM outbox WHERE position = (SELECT max(position) FROM outbox"
            " WHERE subject LIKE '%BillingPeriodEnded')",
        ),
        (GAPLESS, TAKEN_IN, ENDS),
    ),
    "a count of events is wrong": Corruption("invoicing", (one("aggregate_sequences", "last = last + 1"),), (GAPLESS,)),
    "an event was never taken in": Corruption(
        "payments",
        (
            "DELETE FROM inbox WHERE event_id ="
            " (SELECT min(event_id) FROM inbox WHERE subject LIKE '%InvoiceFinalized')",
        ),
        (TAKEN_IN,),
    ),
    "an event was taken in that was never announced": Corruption(
        "payments",
        (
            "INSERT INTO inbox (event_id, seller_id, subject)"
            " SELECT 'evt_x', seller_id, subject FROM inbox WHERE subject LIKE '%InvoicePaid' LIMIT 1",
        ),
        (TAKEN_IN,),
    ),
    "an event waits": Corruption(
        "invoicing",
        ("INSERT INTO outbox_waiting (position, seller_id) SELECT position, seller_id FROM outbox LIMIT 1",),
        (PUBLISHED,),
    ),
    "a job fails": Corruption(
        "dunning",
        (
            "INSERT INTO job_failures (job, id, seller_id, attempts, next_try_time, error)"
            " SELECT 'follow up', id, seller_id, 3, now(), 'ValueError()' FROM campaigns LIMIT 1",
        ),
        (GIVEN_UP,),
    ),
    "a message was given up": Corruption(
        "payments",
        (
            "INSERT INTO dead_letters (id, seller_id, subject, headers, payload, error, attempts)"
            " SELECT 'evt_x', seller_id, subject, '{}', '', 'ValueError()', 8 FROM inbox LIMIT 1",
        ),
        (GIVEN_UP,),
    ),
    "a payment is under way": Corruption(
        "payments", (one("payments", "state = 'PROCESSING'", "state = 'FAILED'"),), (OPEN,)
    ),
    "a payment is given up and its invoice is owed": Corruption(
        "payments",
        (
            "UPDATE payments SET state = 'CANCELLED', invoice_settled = true, failure_code = '', collect_time = NULL"
            " WHERE state = 'FAILED'",
        ),
        (PAYMENTS, ANNOUNCED),
    ),
    "a customer was not billed in time": Corruption(
        "invoicing", ("UPDATE billing SET due_time = '2026-01-02' WHERE due_time IS NOT NULL",), (DUE,)
    ),
    "a card number was stored": Corruption(
        "subscriptions", (one("customers", "display_name = 'Visa 4242 4242-4242 4242'"),), (CARDS,)
    ),
    "a card number was stored in bytes": Corruption(
        "payments", (one("requests", "response = 'token 378282246310005'::bytea", of="request_id"),), (CARDS,)
    ),
    "a customer is paid for by somebody of whom nobody said so": Corruption(
        "subscriptions",
        (
            "UPDATE customers c SET payer_id = (SELECT max(id) FROM customers o WHERE o.seller_id = c.seller_id)"
            " WHERE id = (SELECT min(id) FROM customers)",
        ),
        (PAYER_SAID,),
    ),
    "a subscription names somebody of whom its log knows nothing": Corruption(
        "subscriptions",
        (
            "INSERT INTO subscription_payers (seller_id, subscription_id, start_time, payer_id)"
            " SELECT seller_id, id, create_time, customer_id FROM subscriptions LIMIT 1",
        ),
        (PAYER_NAMED,),
    ),
    "who pays was erased": Corruption(
        "subscriptions",
        (
            "UPDATE customers SET erase_time = update_time, sealed_personal_data = NULL WHERE id IN"
            " (SELECT customer_id FROM subscriptions WHERE state <> 'CANCELLED')",
        ),
        (PAYER_THERE,),
    ),
    "a seller is gone": Corruption("catalog", ("DELETE FROM sellers",), (SELLERS,)),
    "an answer was forgotten": Corruption(
        "catalog", (one("requests", "digest = '\\x00'", "method = 'ApplyCatalog'", of="request_id"),), (ANSWERED,)
    ),
}


async def test_a_true_story_holds(world: World) -> None:
    """And every invariant has something to look at, so that none holds for want of data."""
    report = await verify(world.sources)
    assert report.content, str(report)
    assert [finding.name for finding in report.findings if not finding.checked] == []


async def test_one_seller_alone_holds(world: World) -> None:
    """Of a suite with many sellers, the demo verifies its own."""
    report = await verify(replace(world.sources, seller_id=world.seller_id))
    assert report.content, str(report)


@pytest.mark.parametrize("corruption", CORRUPTIONS.values(), ids=[name.replace(" ", "-") for name in CORRUPTIONS])
async def test_a_corruption_is_named(world: World, corruption: Corruption) -> None:
    """Exactly what was corrupted is named, and nothing else."""
    report = await verify(await world.corrupted(corruption.service, *corruption.statements))
    assert report.broken == corruption.breaks, str(report)
    for finding in report.findings:
        assert finding.holds or finding.offenders


async def test_an_event_that_was_acknowledged_and_lost_is_named(world: World) -> None:
    """Only the client can know of it."""
    journal = world.journal.with_name("other.jsonl")
    sent = {"outcome": "DUPLICATE", "source": "usage", "id": "lost", "seller_id": world.seller_id, "method": "Ingest"}
    journal.write_text(world.journal.read_text() + json.dumps(sent) + "\n")
    report = await verify(replace(world.sources, journals=[journal]))
    assert report.broken == (STORED,)
    assert "lost" in report.findings[[each.name for each in report.findings].index(STORED)].offenders[0]


def test_every_invariant_is_seen_to_bite() -> None:
    """Whoever adds an invariant corrupts something for it."""
    bitten = {name for corruption in CORRUPTIONS.values() for name in corruption.breaks}
    assert {invariant.name for invariant in INVARIANTS} == bitten


async def test_data_that_is_missing_is_not_called_sound(world: World) -> None:
    """A suite without dunning is checked as far as it goes, and says how far that is."""
    databases = {name: url for name, url in world.urls.items() if name in ("catalog", "metering")}
    report = await verify(Sources(databases=databases))
    assert report.content, str(report)
    assert {finding.name for finding in report.findings if finding.checked is None} >= {PERIODS, PAID, RECORD}


async def test_the_table_names_the_first_offenders(world: World) -> None:
    """What a person sees, with markup in a name taken literally."""
    report = await verify(await world.corrupted("catalog", "UPDATE prices SET currency = '[b]'"))
    console = Console(width=200, file=io.StringIO())
    with console.capture() as captured:
        report.print(console)
    lines = captured.get().splitlines()
    named, also = [number for number, line in enumerate(lines) if "✗" in line]
    assert AMOUNTS in lines[named]
    assert AS_PUBLISHED in lines[also]
    assert "rated anew" in lines[named + 1]
    assert "[b]" in lines[named + 1]
