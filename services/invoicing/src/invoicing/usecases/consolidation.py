"""Declares consolidation policies, and explains why lines are together and others are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from common.db import Tx
from common.money import sum_money
from common.rpc import Desk
from invoicing import clients, store
from invoicing.domain.consolidation import Bill, consolidate
from invoicing.domain.consolidation_policy import (
    Consolidated,
    ConsolidationPolicy,
    Difference,
    PolicyId,
    Scope,
)
from invoicing.domain.invoice import InvoiceId
from invoicing.usecases import outlook

OTHERS_MAX: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why the lines of an invoice are together, and what keeps those of others apart."""

    invoice: Consolidated | None
    others: Sequence[tuple[Consolidated, Sequence[Difference]]]

    @classmethod
    def of(cls, found: Sequence[Consolidated]) -> Explanation:
        """The first of them, and the others beside it."""
        if not found:
            return cls(invoice=None, others=())
        first, *others = found
        return cls(
            invoice=first,
            others=[(each, first.consolidation.differences(each.consolidation)) for each in others[:OTHERS_MAX]],
        )


async def check_scope(desk: Desk, scope: Scope, scope_id: str) -> None:
    """Fails unless there is such a customer or subscription."""
    match scope:
        case Scope.CUSTOMER:
            await clients.customer(desk, scope_id)
        case Scope.SUBSCRIPTION:
            await clients.customer_of_subscription(desk, scope_id)
        case Scope.SELLER:
            pass


async def declare(tx: Tx, scope: Scope, scope_id: str, keys: tuple[str, ...]) -> ConsolidationPolicy:
    new = ConsolidationPolicy(
        id=PolicyId(tx.new_id("cpol")),
        scope=scope,
        scope_id=scope_id,
        keys=keys,
        revision=1,
        create_time=tx.now,
        update_time=tx.now,
    )
    return await store.declare_policy(tx, new)


async def explain_invoice(tx: Tx, invoice_id: InvoiceId) -> Explanation:
    """As it was when it was billed."""
    invoice, customer_id = await store.consolidated(tx, invoice_id)
    others = await store.consolidated_beside(tx, customer_id, invoice_id, limit=OTHERS_MAX)
    return Explanation.of([invoice, *others])


async def explain_upcoming(desk: Desk, customer_id: str) -> Explanation:
    """Of what is due by the next bill time, in all currencies."""
    ahead = await outlook.look(desk, await outlook.next_bill(desk, customer_id))
    return Explanation.of([_consolidated(bill) for bill in consolidate(ahead.due(), ahead.arrangement)])


def _consolidated(bill: Bill) -> Consolidated:
    return Consolidated(
        invoice_id="",
        number="",
        bill_time=bill.bill_time,
        line_count=len(bill.lines),
        subtotal=sum_money((line.amount for line in bill.lines), bill.currency),
        consolidation=bill.consolidation,
    )
