"""Looks for late usage of a customer that nobody has settled yet. Nothing is stored."""

from __future__ import annotations

from common.money import exact_sum
from common.rpc import Desk
from invoicing import store
from invoicing.domain.errors import TooManyLines
from invoicing.domain.late_usage import Outcome, Statement
from invoicing.domain.lines_due import Due
from invoicing.usecases import facts, proposing


async def unsettled(desk: Desk, customer_id: str) -> list[Statement]:
    """What the next bill run would find of it, if it came now."""
    async with desk.transaction() as tx:
        billing = await store.find_billing(tx, customer_id)
        now = tx.now
    since = {customer_id: facts.corrections_since(billing)}
    ahead = frozenset[str]() if billing is not None and billing.may_be_early else None
    asked = await facts.gather(desk, since, through=now, as_of=now, proven=True, counted_ahead=ahead)
    found = list(asked.values())
    if any(each.through < now for each in found):
        raise TooManyLines(f"too much is due for customer {customer_id} to be shown at once", customer=customer_id)
    async with desk.transaction() as tx:
        policy = await store.issuing_policy(tx)
        times = [each.next_bill_time for each in found]
        proposed = await proposing.propose(tx, found, as_of=now, next_bill_times=times, policy=policy, lock=False)
        return [_waiting(each) for each in proposed.late.differences]


def _waiting(due: Due) -> Statement:
    line, before = due.line, due.counted_before
    assert line.usage is not None, "only usage comes late"
    assert before is not None, "as of all that is late"
    return Statement(
        id="",
        outcome=Outcome.WAITING,
        is_counted_anew=not line.usage.is_defined_like(before),
        customer_id=due.customer_id,
        payer_id=due.payer_id,
        subscription_id=line.subscription_id,
        item_id=line.item_id,
        price_id=line.price_id,
        period=line.period,
        quantity=exact_sum((line.usage.quantity, before.quantity.copy_negate())),
        event_count=line.usage.event_count - before.event_count,
        amount=line.amount,
        usage=line.usage,
        after_position=before.through_position,
        invoice_id="",
        line_id="",
        credit_note_id="",
        new_invoice_id="",
        create_time=due.bill_time,
        policy=due.late_usage,
    )
