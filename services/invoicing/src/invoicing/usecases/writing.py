"""Writes what is owed: into the drafts that there are for the same moments, or as invoices of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from common.db import Tx
from invoicing import store
from invoicing.domain.completing import Terms, completed
from invoicing.domain.consolidation import Bill
from invoicing.domain.invoice import Invoice
from invoicing.domain.issuing_policy import IssuingPolicy
from invoicing.domain.line import Line
from invoicing.domain.party import Customer, Seller
from invoicing.store import Draft, DraftKey
from invoicing.usecases import issuing


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """The lines of an invoice to be, who owes them, and the trace that made them due."""

    bill: Bill
    terms: Terms
    traceparent: str

    @property
    def customer(self) -> Customer:
        return self.terms.customer

    @property
    def key(self) -> DraftKey:
        key = self.bill.consolidation.fingerprint
        return DraftKey(self.customer.party.id, self.bill.currency, self.bill.bill_time, key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What sections of invoices are called, by id."""

    subscriptions: Mapping[str, str]
    customers: Mapping[str, str]


async def write(
    tx: Tx, owed: Sequence[Owed], *, seller: Seller, names: Names, policy: IssuingPolicy, grace: timedelta
) -> list[Invoice]:
    """The invoice that each is on, in their order: as it is then, finalized if nothing has to be waited for."""
    drafts = await store.lock_drafts_for(tx, [each.key for each in owed])
    new_ids = await store.new_invoice_ids(tx, [each.key for each in owed if each.key not in drafts])
    found: dict[DraftKey, Invoice] = {}
    grown: list[tuple[Invoice, Invoice]] = []
    waiting: list[Draft] = []
    ready: list[issuing.Ready] = []
    for each in owed:
        lines = (replace(line, id=line.id or tx.new_id("line")) for line in each.bill.lines)
        bill = replace(each.bill, lines=tuple(lines))
        draft = drafts.get(each.key)
        if draft is not None:
            more = draft.invoice.add(bill.lines, because=bill.consolidation, names=names.subscriptions)
            found[each.key] = completed(more, each.terms)
            grown.append((found[each.key], draft.invoice))
            continue
        invoice = Invoice.draft(
            id=new_ids[each.key],
            customer=each.customer,
            bill=bill,
            at=tx.now,
            grace=policy.grace_of(_waiting_for_usage(bill), otherwise=grace),
            hold_reason=policy.hold_reason,
            names=names.subscriptions,
        )
        invoice = found[each.key] = completed(invoice, each.terms)
        if invoice.is_waiting:
            waiting.append(Draft(invoice, each.traceparent))
        else:
            one = issuing.Ready(
                draft=invoice, customer=each.customer, users=names.customers, traceparent=each.traceparent
            )
            ready.append(one)
    await store.save_drafts(tx, grown)
    await store.add_invoices(tx, waiting)
    # The numbers last: everyone else who finalizes waits for them.
    issued = await issuing.issue(tx, ready, seller=seller, policy=policy)
    await store.add_invoices(
        tx, [Draft(invoice, each.traceparent) for invoice, each in zip(issued, ready, strict=True)]
    )
    found |= {DraftKey.of(invoice): invoice for invoice in issued}
    return [found[each.key] for each in owed]


def _waiting_for_usage(bill: Bill) -> Sequence[Line]:
    """What is billed early is billed once more when its period ends: late usage is on time for that."""
    return [line for line in bill.lines if line.key not in bill.early] if bill.early else bill.lines
