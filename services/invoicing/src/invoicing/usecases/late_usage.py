"""Settles usage that changed after it was billed, as the seller wants it: billed, refused, or the invoice made anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from common.db import Tx
from common.rpc import Desk
from invoicing import store
from invoicing.domain.errors import InvoiceCorrectedSince, InvoiceIsVoid, NothingLeftToCredit
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.late_usage import LateRecord, LateUsage, Outcome, Refused
from invoicing.domain.line import LineKey
from invoicing.domain.lines_due import Due
from invoicing.usecases import voiding


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What becomes of differences."""

    differences: Sequence[Due]
    """All of them, also those that are billed."""
    refused: Sequence[Due]
    reissued: Mapping[InvoiceId, Sequence[Due]]
    """The invoices to be annulled, each with what makes it so."""

    @property
    def held_payers(self) -> set[str]:
        """Whoever gets no bill before what is annulled is billed anew: both would bill the same."""
        return {each.payer_id for own in self.reissued.values() for each in own}


async def settle(tx: Tx, proposed: Iterable[Sequence[Due]]) -> Settled:
    """Decide what becomes of each difference. What cannot be made anew is billed, as what is corrected."""
    late = [each for own in proposed for each in own if each.late_usage is not None]
    wanted = {each.line.key: each for each in late if each.late_usage is LateUsage.REISSUE}
    reissued: dict[InvoiceId, list[Due]] = {}
    for key, invoice_id in (await store.can_be_reissued(tx, wanted)).items():
        reissued.setdefault(invoice_id, []).append(wanted[key])
    refused = [each for each in late if each.late_usage is LateUsage.REFUSE]
    return Settled(differences=late, refused=refused, reissued=reissued)


async def record_refused(tx: Tx, refused: Sequence[Due], before: Mapping[LineKey, Refused]) -> None:
    """It is on record, and so never billed."""
    numbers = {key: each.times for key, each in before.items()}
    await store.add_late_usages(
        tx,
        [_record(tx, each, Outcome.REFUSED, number=numbers.get(each.line.key, 0) + 1) for each in refused],
    )


async def record_billed(tx: Tx, proposed: Iterable[Sequence[Due]], invoices: Iterable[Invoice]) -> None:
    """Which lines are for what differences."""
    late = {each.line.key: each for own in proposed for each in own if each.late_usage is not None}
    if not late:
        return
    records = [
        _record(tx, late[line.key], Outcome.BILLED, line_id=line.id, invoice_id=invoice.id)
        for invoice in invoices
        for line in invoice.lines
        if line.key in late and line.correction == late[line.key].line.correction
    ]
    await store.add_late_usages(tx, records)


async def reissue(desk: Desk, reissued: Mapping[InvoiceId, Sequence[Due]]) -> None:
    """Take invoices back one by one, and have what they billed billed anew. Whoever annuls, credits or corrects one
    meanwhile is first: the customer is still due, and it is decided anew.
    """
    for invoice_id, because in reissued.items():
        try:
            async with desk.transaction() as tx:
                await voiding.replace_invoice(tx, invoice_id)
                records = [_record(tx, each, Outcome.REISSUED, invoice_id=invoice_id) for each in because]
                await store.add_late_usages(tx, records)
        except (InvoiceIsVoid, InvoiceCorrectedSince, NothingLeftToCredit):
            continue


def _record(
    tx: Tx, due: Due, outcome: Outcome, *, number: int = 0, line_id: str = "", invoice_id: str = ""
) -> LateRecord:
    assert due.counted_before is not None, "as of all that is late"
    line = replace(due.line, id=line_id)
    return LateRecord(
        id=tx.new_id("late"),
        outcome=outcome,
        customer_id=due.customer_id,
        payer_id=due.payer_id,
        line=line,
        before=due.counted_before,
        invoice_id=invoice_id,
        number=number,
        create_time=tx.now,
    )
