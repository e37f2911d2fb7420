"""Devices repeat themselves and are late: every reading counts once, in the period in which it happened."""

from __future__ import annotations

from datetime import UTC, datetime

from saldo.invoicing.v1.invoice_pb2 import Invoice
from saldo.invoicing.v1.invoicing_service_pb2 import IssuingPolicy, SetIssuingPolicyRequest
from saldo.invoicing.v1.proof_service_pb2 import LateUsageRecord, ListLateUsageRequest, ReplayInvoiceRequest
from saldo.metering.v1 import backfill_service_pb2 as backfills
from saldo.metering.v1 import corrections_service_pb2 as pb
from saldo.metering.v1.metering_service_pb2 import IngestEventsRequest, ListEventsRequest, UsageQuery
from saldo.metering.v1.usage_event_pb2 import EventResult
from tests.support.sandbox import Sandbox, per_unit, text, usage

JANUARY_20 = datetime(2026, 1, 20, tzinfo=UTC)


async def test_a_reading_sent_twice_is_billed_once(sandbox: Sandbox) -> None:
    """In one batch, in another, and with another value: the first one is the one."""
    await sandbox.meter("water")
    plan = await sandbox.plan("water", per_unit("m3", "2.00", meter="water"))
    ann = await sandbox.customer("ann", token="sim:ok")
    await sandbox.subscribe(ann, plan)
    await sandbox.travel(JANUARY_20)

    first, other = (usage(ann, "water", JANUARY_20, "3", event_id=name) for name in ("a", "b"))
    answer = await sandbox.use(first, first, other)
    accepted, duplicate = EventResult.ACCEPTED, EventResult.DUPLICATE
    assert [result.outcome for result in answer.results] == [accepted, duplicate, accepted]
    again = await sandbox.use(usage(ann, "water", JANUARY_20, "1000", event_id="a"))
    assert [result.outcome for result in again.results] == [duplicate]

    await sandbox.travel(datetime(2026, 2, 2, tzinfo=UTC))
    (invoice,) = await sandbox.invoices(ann)
    assert text(invoice.total) == "12.00 EUR"
    assert invoice.line_items[0].usage.event_count == 2


async def test_a_reading_that_comes_after_the_invoice_is_billed_with_the_next(sandbox: Sandbox) -> None:
    """Only the difference, for the true period, and it says that it is a correction."""
    await sandbox.meter("water")
    plan = await sandbox.plan("water", per_unit("m3", "2.00", meter="water"))
    ann = await sandbox.customer("ann", token="sim:ok")
    await sandbox.subscribe(ann, plan)
    await sandbox.travel(JANUARY_20)
    await sandbox.use(usage(ann, "water", JANUARY_20, "3", event_id="in-time"))
    await sandbox.travel(datetime(2026, 2, 10, tzinfo=UTC))
    await sandbox.use(
        usage(ann, "water", JANUARY_20, "4", event_id="late"),
        usage(ann, "water", datetime(2026, 2, 10, tzinfo=UTC), "5", event_id="february"),
    )
    await sandbox.travel(datetime(2026, 3, 2, tzinfo=UTC))

    january, february = await sandbox.invoices(ann)
    assert text(january.total) == "6.00 EUR"
    assert text(february.total) == "18.00 EUR"
    (correction,) = [line for line in february.line_items if line.correction]
    assert text(correction.amount) == "8.00 EUR"
    assert correction.usage.quantity.value == "7"
    assert correction.period == january.line_items[0].period


async def test_what_is_backfilled_after_the_invoice_is_billed_with_the_next(sandbox: Sandbox) -> None:
    """What was closed, and not what is still loaded."""
    await sandbox.meter("water")
    plan = await sandbox.plan("water", per_unit("m3", "2.00", meter="water"))
    ann = await sandbox.customer("ann", token="sim:ok")
    await sandbox.subscribe(ann, plan)
    await sandbox.travel(datetime(2026, 2, 10, tzinfo=UTC))
    client = sandbox.client
    for value in ("3", "40"):
        opened = await client.backfills.OpenBackfill(backfills.OpenBackfillRequest(reason="the meter was offline"))
        reading = usage(ann, "water", JANUARY_20, value, event_id=value)
        await client.metering.IngestEvents(IngestEventsRequest(events=[reading], backfill_id=opened.id))
        if value == "3":
            await client.backfills.CloseBackfill(backfills.CloseBackfillRequest(id=opened.id))
    await sandbox.travel(datetime(2026, 3, 2, tzinfo=UTC))

    assert [text(invoice.total) for invoice in await sandbox.invoices(ann)] == ["0.00 EUR", "6.00 EUR"]


async def test_a_reading_that_was_wrong_is_corrected_with_the_next(sandbox: Sandbox) -> None:
    """Voided, amended, or given to whom it belongs, after it was billed: each bill shows what became of it."""
    await sandbox.meter("water")
    plan = await sandbox.plan("water", per_unit("m3", "2.00", meter="water"))
    ann, bob = await sandbox.customer("ann", token="sim:ok"), await sandbox.customer("bob", token="sim:ok")
    await sandbox.subscribe(ann, plan)
    await sandbox.subscribe(bob, plan)
    await sandbox.travel(JANUARY_20)
    await sandbox.use(
        *(usage(ann, "water", JANUARY_20, value, event_id=name) for name, value in (("twice", "3"), ("read", "40"))),
        *(usage(ann, "water", JANUARY_20, value, event_id=name) for name, value in (("bob's", "5"), ("right", "7"))),
    )
    await sandbox.travel(datetime(2026, 2, 10, tzinfo=UTC))
    corrections = sandbox.client.corrections
    await corrections.VoidEvent(pb.VoidEventRequest(source="test", id="twice", reason="sent twice"))
    for amended in (
        usage(ann, "water", JANUARY_20, "4", event_id="read"),
        usage(bob, "water", JANUARY_20, "5", event_id="bob's"),
    ):
        await corrections.AmendEvent(pb.AmendEventRequest(event=amended, reason="read wrongly"))
    await sandbox.use(usage(ann, "water", datetime(2026, 2, 10, tzinfo=UTC), "100", event_id="february"))
    await sandbox.travel(datetime(2026, 3, 2, tzinfo=UTC))

    january, february = await sandbox.invoices(ann)
    assert (text(january.total), text(february.total)) == ("110.00 EUR", "112.00 EUR")
    (correction,) = [line for line in february.line_items if line.correction]
    assert (text(correction.amount), correction.usage.quantity.value) == ("-88.00 EUR", "11")
    *_, bobs = await sandbox.invoices(bob)
    assert text(bobs.total) == "10.00 EUR"


async def test_what_becomes_of_a_late_reading_is_as_the_seller_wants_it(sandbox: Sandbox) -> None:
    """On the next invoice, on one of its own, on the same made anew, or on none: told of each, with its readings."""
    policies = {
        "water": IssuingPolicy.NEXT_INVOICE,
        "gas": IssuingPolicy.CORRECT,
        "heat": IssuingPolicy.REISSUE,
        "cold": IssuingPolicy.REISSUE,
        "steam": IssuingPolicy.REFUSE,
    }
    client = sandbox.client
    policy = IssuingPolicy(meter_late_usage=policies)
    await client.invoicing.SetIssuingPolicy(SetIssuingPolicyRequest(policy=policy))
    customers = {}
    for meter in policies:
        await sandbox.meter(meter)
        plan = await sandbox.plan(meter, per_unit("m3", "2.00", meter=meter))
        token = "sim:ok" if meter == "cold" else ""
        customers[meter] = await sandbox.customer(meter, token=token, by_hand=not token, net_terms_days=60)
        await sandbox.subscribe(customers[meter], plan)
    await sandbox.travel(JANUARY_20)
    await sandbox.use(*(usage(each, meter, JANUARY_20, "3", event_id=meter) for meter, each in customers.items()))
    await sandbox.travel(datetime(2026, 2, 10, tzinfo=UTC))
    late = [usage(each, meter, JANUARY_20, "4", event_id=f"{meter}, late") for meter, each in customers.items()]
    await sandbox.use(*late)

    async def billed() -> dict[str, list[str]]:
        found = {meter: await sandbox.invoices(each) for meter, each in customers.items()}
        return {meter: [text(invoice.total) for invoice in own] for meter, own in found.items()}

    await sandbox.travel(datetime(2026, 2, 12, tzinfo=UTC))
    assert await billed() == {
        "water": ["6.00 EUR"],
        "gas": ["6.00 EUR", "8.00 EUR"],
        "heat": ["6.00 EUR", "14.00 EUR"],
        "cold": ["6.00 EUR", "14.00 EUR"],
        "steam": ["6.00 EUR"],
    }
    assert [invoice.state for invoice in await sandbox.invoices(customers["heat"])] == [Invoice.VOID, Invoice.OPEN]
    was_paid, anew = await sandbox.invoices(customers["cold"])
    assert (was_paid.state, anew.state, text(anew.credit_applied)) == (Invoice.PAID, Invoice.PAID, "6.00 EUR")
    await sandbox.travel(datetime(2026, 3, 2, tzinfo=UTC))
    assert await billed() == {
        "water": ["6.00 EUR", "8.00 EUR"],
        "gas": ["6.00 EUR", "8.00 EUR", "0.00 EUR"],
        "heat": ["6.00 EUR", "14.00 EUR", "0.00 EUR"],
        "cold": ["6.00 EUR", "14.00 EUR", "0.00 EUR"],
        "steam": ["6.00 EUR", "0.00 EUR"],
    }

    told = (await client.proof.ListLateUsage(ListLateUsageRequest())).late_usages
    outcomes = {each.usage.meter: LateUsageRecord.Outcome.Name(each.outcome) for each in told}
    made_anew = {"heat": "REISSUED", "cold": "REISSUED"}
    assert outcomes == {"water": "BILLED", "gas": "BILLED", "steam": "REFUSED", **made_anew}
    for each in told:
        assert (text(each.amount), each.quantity.value, each.event_count) == ("8.00 EUR", "4", 1)
        query = UsageQuery(
            customer_id=each.customer_id,
            external_id=each.usage.meter,
            meter=each.usage.meter,
            period=each.period,
            through_position=each.usage.through_position,
        )
        listed = [event.id for event in (await client.metering.ListEvents(ListEventsRequest(query=query))).events]
        query.through_position = each.after_position
        before = [event.id for event in (await client.metering.ListEvents(ListEventsRequest(query=query))).events]
        assert set(listed) - set(before) == {f"{each.usage.meter}, late"}
    for invoice in await sandbox.invoices():
        replay = await client.proof.ReplayInvoice(ReplayInvoiceRequest(invoice_id=invoice.id))
        assert replay.is_identical, (invoice.number, replay.differences)


async def test_a_reading_just_after_the_month_still_counts_within_the_grace_period(sandbox: Sandbox) -> None:
    """A draft waits an hour for what is on its way, so that few customers ever see a correction."""
    await sandbox.meter("water")
    plan = await sandbox.plan("water", per_unit("m3", "2.00", meter="water"))
    ann = await sandbox.customer("ann", token="sim:ok")
    await sandbox.subscribe(ann, plan)
    await sandbox.travel(datetime(2026, 2, 1, 0, 30, tzinfo=UTC))
    await sandbox.use(usage(ann, "water", datetime(2026, 1, 31, 23, 59, tzinfo=UTC), "3", event_id="on-its-way"))
    await sandbox.travel(datetime(2026, 2, 2, tzinfo=UTC))
    (invoice,) = await sandbox.invoices(ann)
    assert text(invoice.total) == "6.00 EUR"
    assert not invoice.line_items[0].correction
