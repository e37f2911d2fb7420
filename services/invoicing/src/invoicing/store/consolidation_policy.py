"""Knows the consolidation policies that were declared, and which invoices came of one bill run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, Text, and_, any_, case, delete, func, literal, or_, select
from sqlalchemy.dialects.postgresql import ARRAY, insert

from common.db import Tx
from common.money import Money
from invoicing.domain.consolidation_policy import Consolidated, Consolidation, ConsolidationPolicy, PolicyId, Scope
from invoicing.domain.errors import ConsolidationPolicyNotFound, InvoiceNotFound
from invoicing.domain.invoice import InvoiceId
from invoicing.store.rows import consolidation_of
from invoicing.store.tables import consolidation_policies, invoice_lines, invoices

Policies = Mapping[tuple[Scope, str], ConsolidationPolicy]
"""By what they are declared for."""


async def policy(tx: Tx, policy_id: PolicyId) -> ConsolidationPolicy:
    query = select(consolidation_policies).where(
        consolidation_policies.c.seller_id == tx.seller_id, consolidation_policies.c.id == policy_id
    )
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        raise _not_found(policy_id)
    return _policy_of(row)


async def list_policies(tx: Tx, *, scope: Scope | None, after: str, limit: int) -> list[ConsolidationPolicy]:
    query = select(consolidation_policies).where(
        consolidation_policies.c.seller_id == tx.seller_id, consolidation_policies.c.id > after
    )
    if scope is not None:
        query = query.where(consolidation_policies.c.scope == scope.name)
    return [_policy_of(row) for row in await tx.execute(query.order_by(consolidation_policies.c.id).limit(limit))]


async def policies_for(tx: Tx, *, payer_ids: Collection[str], subscription_ids: Collection[str]) -> Policies:
    """All that can say how the lines of these subscriptions are put onto invoices of these customers."""
    wanted = {Scope.SELLER: {""}, Scope.CUSTOMER: set(payer_ids), Scope.SUBSCRIPTION: set(subscription_ids)}
    query = select(consolidation_policies).where(
        consolidation_policies.c.seller_id == tx.seller_id,
        or_(
            *(
                and_(
                    consolidation_policies.c.scope == scope.name,
                    consolidation_policies.c.scope_id == any_(literal(sorted(scope_ids), ARRAY(Text))),
                )
                for scope, scope_ids in wanted.items()
            )
        ),
    )
    found = [_policy_of(row) for row in await tx.execute(query)]
    return {(each.scope, each.scope_id): each for each in found}


async def declare_policy(tx: Tx, new: ConsolidationPolicy) -> ConsolidationPolicy:
    """As it is then: what was declared there before stays the same policy, with these keys. The same change nothing."""
    told = insert(consolidation_policies).values(
        seller_id=tx.seller_id,
        id=new.id,
        scope=new.scope.name,
        scope_id=new.scope_id,
        key_names=list(new.keys),
        revision=new.revision,
        create_time=new.create_time,
        update_time=new.update_time,
    )
    known = consolidation_policies.c
    is_same = known.key_names == told.excluded.key_names
    declared = told.on_conflict_do_update(
        constraint="consolidation_policies_scope",
        set_={
            "key_names": told.excluded.key_names,
            "revision": known.revision + case((is_same, 0), else_=1),
            "update_time": case((is_same, known.update_time), else_=told.excluded.update_time),
        },
    )
    return _policy_of((await tx.execute(declared.returning(consolidation_policies))).one())


async def remove_policy(tx: Tx, policy_id: PolicyId) -> ConsolidationPolicy:
    """What it was."""
    gone = delete(consolidation_policies).where(
        consolidation_policies.c.seller_id == tx.seller_id, consolidation_policies.c.id == policy_id
    )
    row = (await tx.execute(gone.returning(consolidation_policies))).one_or_none()
    if row is None:
        raise _not_found(policy_id)
    return _policy_of(row)


async def consolidated(tx: Tx, invoice_id: InvoiceId) -> tuple[Consolidated, str]:
    """An invoice as far as it tells why its lines are together, and whose it is."""
    query = select(invoices).where(invoices.c.seller_id == tx.seller_id, invoices.c.id == invoice_id)
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        raise InvoiceNotFound(f"there is no invoice {invoice_id}", invoice=invoice_id)
    return (await _consolidated(tx, [row]))[0], row.customer_id


async def consolidated_beside(tx: Tx, customer_id: str, invoice_id: InvoiceId, *, limit: int) -> list[Consolidated]:
    """Others to the same customer that were assembled in the same moment, or billed for the same one."""
    known = invoices.alias()
    same_run = or_(invoices.c.create_time == known.c.create_time, invoices.c.bill_time == known.c.bill_time)
    query = (
        select(invoices)
        .join(known, and_(known.c.seller_id == invoices.c.seller_id, same_run))
        .where(
            invoices.c.seller_id == tx.seller_id,
            invoices.c.customer_id == customer_id,
            invoices.c.id != invoice_id,
            known.c.seller_id == tx.seller_id,
            known.c.id == invoice_id,
        )
        .order_by(invoices.c.id)
        .limit(limit)
    )
    return await _consolidated(tx, (await tx.execute(query)).all())


async def _consolidated(tx: Tx, rows: Sequence[Row[Any]]) -> list[Consolidated]:  # Any: rows of `invoices`
    named = any_(literal([row.id for row in rows], ARRAY(Text)))
    sums = (
        select(invoice_lines.c.invoice_id, func.sum(invoice_lines.c.amount_minor).label("minor"))
        .where(invoice_lines.c.seller_id == tx.seller_id, invoice_lines.c.invoice_id == named)
        .group_by(invoice_lines.c.invoice_id)
    )
    subtotals = {row.invoice_id: int(row.minor) for row in await tx.execute(sums)} if rows else {}
    return [
        Consolidated(
            invoice_id=row.id,
            number=row.number or "",
            bill_time=row.bill_time,
            line_count=row.line_count,
            subtotal=Money(subtotals.get(row.id, 0), row.currency),
            consolidation=Consolidation.undeclared(row.customer_id, row.currency)
            if row.consolidation is None
            else consolidation_of(row.consolidation),
        )
        for row in rows
    ]


def _policy_of(row: Row[Any]) -> ConsolidationPolicy:  # Any: a row of `consolidation_policies`
    return ConsolidationPolicy(
        id=PolicyId(row.id),
        scope=Scope[row.scope],
        scope_id=row.scope_id,
        keys=tuple(row.key_names),
        revision=row.revision,
        create_time=row.create_time,
        update_time=row.update_time,
    )


def _not_found(policy_id: PolicyId) -> ConsolidationPolicyNotFound:
    return ConsolidationPolicyNotFound(f"there is no consolidation policy {policy_id}", policy=policy_id)
