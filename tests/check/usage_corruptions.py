"""What would be wrong with usage, and what must be named because of it."""

from __future__ import annotations

from tests.check.corruptions import ANNOUNCED, DUE, ISSUED, OVERLAP, PERIODS, Corruption, one

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
REFUSED_ONCE = "what was refused of late usage is what it comes to"
BECAME = "late usage became what is said of it"
COMMITTED_ONCE = "what is committed of a quota is used once"

USAGE_CORRUPTIONS = {
    "more late usage is refused than there was": Corruption(
        "invoicing", (one("late_usages", "amount_minor = amount_minor + 1", "outcome = 'REFUSED'"),), (REFUSED_ONCE,)
    ),
    "late usage is refused that nobody counted": Corruption(
        "invoicing",
        (one("late_usages", "usage_quantity = usage_quantity + 1", "outcome = 'REFUSED'"),),
        (REFUSED_ONCE,),
    ),
    "the same late usage is refused twice": Corruption(
        "invoicing",
        (
            "CREATE TEMP TABLE again AS SELECT * FROM late_usages WHERE outcome = 'REFUSED' LIMIT 1",
            "UPDATE again SET id = 'late_again', number = number + 1",
            "INSERT INTO late_usages SELECT * FROM again",
        ),
        (REFUSED_ONCE,),
    ),
    "another line is said to bill late usage": Corruption(
        "invoicing",
        (
            one(
                "late_usages",
                "line_id = (SELECT id FROM invoice_lines WHERE correction = 0 AND meter <> '' LIMIT 1)",
                "outcome = 'BILLED'",
            ),
        ),
        (BECAME,),
    ),
    "an invoice is said to be made anew that stands": Corruption(
        "invoicing",
        (
            one(
                "late_usages",
                "invoice_id = (SELECT id FROM invoices WHERE state = 'PAID' LIMIT 1)",
                "outcome = 'REISSUED'",
            ),
        ),
        (BECAME,),
    ),
    "nothing is said of late usage that was billed": Corruption(
        "invoicing",
        ("DELETE FROM late_usages WHERE ctid = (SELECT max(ctid) FROM late_usages WHERE outcome = 'BILLED')",),
        (BECAME,),
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
        "invoicing",
        (one("invoice_lines", "usage_digest = repeat('0', 64)", "usage_digest IS NOT NULL"),),
        (ISSUED, COUNTED),
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
        (PERIODS, OVERLAP, ISSUED, COUNTED, ONE_PERIOD),
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
        (ISSUED, IN_EFFECT),
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
}
