"""Proves where an invoice comes from: a line is traced to its events, a whole invoice is made once more."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from common.rpc import Desk
from invoicing import clients, store
from invoicing.clients import recounting
from invoicing.domain.completing import taxed_again
from invoicing.domain.errors import InvoiceNotFinalized, LineNotFound, MeterNotCounted
from invoicing.domain.invoice import Invoice, InvoiceId, State
from invoicing.domain.line import Line, Usage
from invoicing.domain.lines_due import UsageKey, derived_again
from invoicing.domain.price import Price
from invoicing.domain.rating import Rating
from invoicing.domain.replay import Replay, billed_before, compared
from invoicing.store.tax import tax_rates_named
from invoicing.usecases import explain
from saldo.metering.v1 import usage_event_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """What a line was derived from."""

    price: Price
    rating: Rating
    share: str
    earlier: list[tuple[InvoiceId, Line]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The usage of a line, counted once more, and a page of its events."""

    usage: Usage
    is_alike: bool
    events: list[usage_event_pb2.UsageEvent]
    next_page_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """From a line back to what caused it."""

    invoice: Invoice
    traceparent: str
    line: Line
    derived: Derived | None
    """None for a line that was made by hand, or of what is missing to a commitment."""
    counted: Counted | None
    """None for a line that counts no usage."""


async def trace_line(
    desk: Desk, invoice_id: InvoiceId, line_id: str, *, meter: str, page_size: int, page_token: str
) -> Trace:
    """Fails with INVOICE_NOT_FOUND, LINE_NOT_FOUND or METER_NOT_COUNTED."""
    async with desk.transaction() as tx:
        invoice = await store.invoice(tx, invoice_id)
        line = next((line for line in invoice.lines if line.id == line_id), None)
        if line is None:
            raise LineNotFound(f"there is no line {line_id} on invoice {invoice_id}", invoice=invoice_id, line=line_id)
        earlier = (await store.lines_before(tx, [line])).get(line.id, [])
        traceparent = await store.traceparent_of(tx, invoice_id)
    derived = counted = None
    if line.is_of_item:
        price, rating, share = await explain.explain_line(desk, invoice_id, line_id)
        derived = Derived(price=price, rating=rating, share=share, earlier=earlier)
        if line.usage is not None:
            key = UsageKey(line.usage.meter, line.period, price.needs)
            counted = await _counted(
                desk, invoice, line, key, meter=meter or key.meter, page_size=page_size, page_token=page_token
            )
    if meter and counted is None:
        raise MeterNotCounted("is not what the line counts: it counts no usage", field="meter")
    return Trace(invoice=invoice, traceparent=traceparent, line=line, derived=derived, counted=counted)


async def _counted(
    desk: Desk, invoice: Invoice, line: Line, key: UsageKey, *, meter: str, page_size: int, page_token: str
) -> Counted:
    assert line.usage is not None, "asked for metered lines only"
    if meter not in key.meters:
        raise MeterNotCounted(f"must be one of {', '.join(key.meters)}", field="meter")
    customer = await clients.customer_as_called(desk, invoice.used_by(line), invoice.finalize_time)
    again = (await recounting.usages_again(desk, customer, {line.id: (key, line.usage)}))[line.id]
    events, next_page_token = await recounting.events_counted(
        desk, customer, key._replace(meter=meter), line.usage, page_size=page_size, page_token=page_token
    )
    return Counted(
        usage=again,
        is_alike=(again.quantity, again.digest) == (line.usage.quantity, line.usage.digest),
        events=events,
        next_page_token=next_page_token,
    )


async def replay_invoice(desk: Desk, invoice_id: InvoiceId) -> Replay:
    """Fails with INVOICE_NOT_FOUND, or INVOICE_NOT_FINALIZED for a draft."""
    async with desk.transaction() as tx:
        invoice = await store.invoice(tx, invoice_id)
        if invoice.state is State.DRAFT:
            raise InvoiceNotFinalized(f"invoice {invoice.id} is a draft", invoice=invoice.id)
        issued = await store.issued(tx, invoice_id)
        earlier = await store.lines_before(tx, invoice.lines)
        rates = await tax_rates_named(tx, [tax.rate_id for tax in invoice.taxes])
    before = {line_id: billed_before([line for _, line in lines]) for line_id, lines in earlier.items()}
    derived = [line for line in invoice.lines if line.is_of_item]
    # The catalog's, but for what the product was called then.
    prices = await clients.prices(desk, (line.price_id for line in derived))
    counted: dict[str, dict[str, tuple[UsageKey, Usage]]] = defaultdict(dict)
    for line in derived:
        if line.usage is not None:
            key = UsageKey(line.usage.meter, line.period, prices[line.price_id].needs)
            counted[invoice.used_by(line)][line.id] = key, line.usage
    usages: dict[str, Usage] = {}
    for customer_id, asked in counted.items():
        customer = await clients.customer_as_called(desk, customer_id, invoice.finalize_time)
        usages |= await recounting.usages_again(desk, customer, asked)
    replayed = {
        line.id: derived_again(
            line,
            price=replace(prices[line.price_id], unit_label=line.unit_label),
            usage=usages.get(line.id),
            billed=before.get(line.id),
        )
        for line in derived
    }
    return compared(
        invoice,
        taxed_again(replace(invoice, lines=tuple(replayed.get(line.id, line) for line in invoice.lines)), rates),
        issued_hash=None if issued is None else issued.content_hash,
        before=before,
    )
