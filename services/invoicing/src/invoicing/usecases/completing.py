"""Completes drafts from their own lines: what is missing to commitments, discounts, and what they have room for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from common.db import Tx
from invoicing import store
from invoicing.domain.commitments import committed_by, true_up_anew
from invoicing.domain.consolidation import payable
from invoicing.domain.coupons import Coupon, Used, with_discounts
from invoicing.domain.invoice import Invoice, InvoiceId
from invoicing.domain.line import Line, LineKey, LineKind
from invoicing.domain.lines_due import Billed


async def completed(
    tx: Tx,
    drafts: Sequence[Invoice],
    elsewhere: Mapping[InvoiceId, Mapping[LineKey, Billed]],
    coupons: Mapping[str, Coupon],
) -> list[Invoice]:
    """In their order. `elsewhere` is what was billed on other invoices for the same as their corrections."""
    # What stands on any of them is looked at as it is now, and not as it is stored.
    draft_ids = [draft.id for draft in drafts]
    users = {draft.used_by(line) for draft in drafts for line in draft.lines}
    customer_ids = users | {draft.customer_id for draft in drafts}
    commitments = [committed_by(line) for draft in drafts for line in draft.lines if line.kind is LineKind.TRUE_UP]
    spent = await store.lines_spent(tx, commitments, but_on=draft_ids)
    spent += [line for draft in drafts for line in draft.lines]
    owners = {line.subscription_id: draft.used_by(line) for draft in drafts for line in draft.lines if line.coupon_ids}
    shares = await store.coupon_shares(tx, customer_ids, coupons, owners=owners, but_on=draft_ids)
    # Two drafts of one customer use a coupon one after the other; so do those whom somebody else pays for.
    used = {customer_id: Used.of(shares.get(customer_id, ())) for customer_id in customer_ids}
    found: list[Invoice] = []
    for draft in drafts:
        lines = _trued_up(draft, spent, elsewhere.get(draft.id, {}))
        lines = _discounted(replace(draft, lines=tuple(lines)), coupons, used)
        # A correction that fitted when it was drafted may by now take off more than there is: then it waits again.
        found.append(draft.with_lines([line for line in payable(lines) if line is not None]))
    return found


def _discounted(draft: Invoice, coupons: Mapping[str, Coupon], used: Mapping[str, Used]) -> list[Line]:
    """Everybody's lines with their own coupons. What was given by hand is on invoices of one customer only."""
    by_user: dict[str, list[int]] = defaultdict(list)
    for n, line in enumerate(draft.lines):
        by_user[draft.used_by(line)].append(n)
    found = list(draft.lines)
    for user, those in by_user.items():
        mine = [draft.lines[n] for n in those]
        discounted = with_discounts(mine, coupons=coupons, used=used[user], given=draft.given_discounts)
        for n, line in zip(those, discounted, strict=True):
            found[n] = line
    return found


def _trued_up(draft: Invoice, spent: Sequence[Line], elsewhere: Mapping[LineKey, Billed]) -> list[Line]:
    found = [
        true_up_anew(line, spent, billed_elsewhere=elsewhere.get(line.key), zone=draft.time_zone)
        if line.kind is LineKind.TRUE_UP
        else line
        for line in draft.lines
    ]
    return [line for line in found if line.kind is not LineKind.TRUE_UP or line.amount.minor]
