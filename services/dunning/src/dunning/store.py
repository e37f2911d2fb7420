"""Knows how dunning is stored: its tables, and the questions asked of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Row,
    Select,
    Table,
    Text,
    UniqueConstraint,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP, insert

from common import telemetry
from common.db import Tx
from common.money import Money
from dunning.domain.campaign import Action, Campaign, CampaignId, OverdueInvoice, State, Step
from dunning.domain.errors import DunningCampaignNotFound
from dunning.domain.policy import FinalAction, Policy, PolicyId, Terms

metadata = MetaData()
Instant = TIMESTAMP(timezone=True)

policies = Table(
    "policies",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("display_name", Text, nullable=False),
    Column("retry_wait_days", ARRAY(Integer), nullable=False),
    Column("final_wait_days", Integer, nullable=False),
    Column("final_action", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
)

# Its row is also the lock between the two facts about an invoice that may arrive at once.
invoices = Table(
    "invoices",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("paid", Boolean, nullable=False),
    comment="what was heard of each invoice that was overdue or paid",
)

campaigns = Table(
    "campaigns",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("invoice_id", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("subscription_ids", ARRAY(Text), nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("policy", JSONB, nullable=False),
    Column("state", Text, nullable=False),
    Column("next_step_time", Instant),
    Column("revision", BigInteger, nullable=False),
    Column("start_time", Instant, nullable=False),
    Column("end_time", Instant),
    Column("traceparent", Text, nullable=False),
    UniqueConstraint("seller_id", "invoice_id", name="campaigns_invoice"),
    Index("campaigns_customer", "seller_id", "customer_id", "id"),
)
_due = campaigns.c.next_step_time.is_not(None)
Index("campaigns_due", campaigns.c.next_step_time, postgresql_where=_due)
Index("campaigns_due_of_seller", campaigns.c.seller_id, campaigns.c.next_step_time, postgresql_where=_due)

steps = Table(
    "steps",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("campaign_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("action", Text, nullable=False),
    Column("time", Instant, nullable=False),
    Column("note", Text, nullable=False),
    ForeignKeyConstraint(["seller_id", "campaign_id"], ["campaigns.seller_id", "campaigns.id"], name="steps_campaign"),
)

STEPS_DUE: Final = select(
    campaigns.c.seller_id, campaigns.c.id, campaigns.c.next_step_time.label("due_time"), campaigns.c.traceparent
).where(_due)


async def add_policy(tx: Tx, policy: Policy) -> None:
    await tx.execute(
        insert(policies).values(
            seller_id=tx.seller_id,
            id=policy.id,
            display_name=policy.terms.display_name,
            retry_wait_days=list(policy.terms.retry_wait_days),
            final_wait_days=policy.terms.final_wait_days,
            final_action=policy.terms.final_action.name,
            revision=policy.revision,
            create_time=policy.create_time,
        )
    )


async def newest_policy(tx: Tx) -> Policy | None:
    query = (
        select(policies)
        .where(policies.c.seller_id == tx.seller_id)
        .order_by(policies.c.create_time.desc(), policies.c.id.desc())
        .limit(1)
    )
    row = (await tx.execute(query)).one_or_none()
    return None if row is None else _policy(row)


async def list_policies(tx: Tx, *, after: str, limit: int) -> list[Policy]:
    query = (
        select(policies)
        .where(policies.c.seller_id == tx.seller_id, policies.c.id > after)
        .order_by(policies.c.id)
        .limit(limit)
    )
    return [_policy(row) for row in await tx.execute(query)]


async def is_over(tx: Tx, invoice_id: str) -> bool:
    """Whether it was ever heard to be paid or called off; locked, so that whoever hears it now waits for this one."""
    return await _hear_of_invoice(tx, invoice_id, paid=False)


async def mark_over(tx: Tx, invoice_id: str) -> None:
    await _hear_of_invoice(tx, invoice_id, paid=True)


async def _hear_of_invoice(tx: Tx, invoice_id: str, *, paid: bool) -> bool:
    statement = insert(invoices).values(seller_id=tx.seller_id, id=invoice_id, paid=paid)
    known = statement.on_conflict_do_update(
        index_elements=[invoices.c.seller_id, invoices.c.id],
        set_={"paid": or_(invoices.c.paid, statement.excluded.paid)},
    )
    heard: bool = (await tx.execute(known.returning(invoices.c.paid))).scalar_one()
    return heard


async def add_campaign(tx: Tx, campaign: Campaign) -> bool:
    """False when its invoice has a campaign already."""
    invoice = campaign.invoice
    statement = (
        insert(campaigns)
        .values(
            seller_id=tx.seller_id,
            id=campaign.id,
            invoice_id=invoice.invoice_id,
            customer_id=invoice.customer_id,
            subscription_ids=list(invoice.subscription_ids),
            amount_minor=invoice.amount.minor,
            currency=invoice.amount.currency,
            policy=_policy_json(campaign.policy),
            start_time=campaign.start_time,
            traceparent=telemetry.traceparent(),
            **_changing(campaign),
        )
        .on_conflict_do_nothing()
    )
    return bool((await tx.execute(statement)).rowcount)


async def save_campaign(tx: Tx, campaign: Campaign) -> None:
    await tx.execute(
        update(campaigns)
        .where(campaigns.c.seller_id == tx.seller_id, campaigns.c.id == campaign.id)
        .values(_changing(campaign))
    )
    if campaign.steps:
        # Steps are only ever added, and those before are here already.
        rows = [
            {
                "seller_id": tx.seller_id,
                "campaign_id": campaign.id,
                "number": number,
                "action": step.action.name,
                "time": step.time,
                "note": step.note,
            }
            for number, step in enumerate(campaign.steps, start=1)
        ]
        await tx.execute(insert(steps).values(rows).on_conflict_do_nothing())


async def campaign(tx: Tx, campaign_id: CampaignId, *, lock: bool = False) -> Campaign:
    found = await _one(tx, select(campaigns).where(campaigns.c.id == campaign_id), lock=lock)
    if found is None:
        raise DunningCampaignNotFound(f"there is no campaign {campaign_id}", campaign=campaign_id)
    return found


async def campaign_of_invoice(tx: Tx, invoice_id: str) -> Campaign:
    found = await find_campaign_of_invoice(tx, invoice_id)
    if found is None:
        raise DunningCampaignNotFound(f"there is no campaign for invoice {invoice_id}", invoice=invoice_id)
    return found


async def find_campaign_of_invoice(tx: Tx, invoice_id: str, *, lock: bool = False) -> Campaign | None:
    return await _one(tx, select(campaigns).where(campaigns.c.invoice_id == invoice_id), lock=lock)


async def active_campaigns(tx: Tx, customer_id: str, *, begun_by: datetime) -> list[Campaign]:
    """Locked, in one order for everybody; an invoice has one at most."""
    query = (
        select(campaigns)
        .where(
            campaigns.c.seller_id == tx.seller_id,
            campaigns.c.customer_id == customer_id,
            campaigns.c.state == State.ACTIVE.name,
            campaigns.c.start_time <= begun_by,
        )
        .order_by(campaigns.c.id)
        .with_for_update()
    )
    rows = (await tx.execute(query)).all()
    taken = await _steps(tx, [row.id for row in rows])
    return [_campaign(row, taken[row.id]) for row in rows]


async def list_campaigns(tx: Tx, *, customer_id: str, after: str, limit: int) -> list[Campaign]:
    """Of one customer, or of all when that is empty."""
    query = select(campaigns).where(campaigns.c.seller_id == tx.seller_id, campaigns.c.id > after)
    if customer_id:
        query = query.where(campaigns.c.customer_id == customer_id)
    rows = (await tx.execute(query.order_by(campaigns.c.id).limit(limit))).all()
    taken = await _steps(tx, [row.id for row in rows])
    return [_campaign(row, taken[row.id]) for row in rows]


async def _one(tx: Tx, query: Select[Any], *, lock: bool) -> Campaign | None:  # Any: rows of `campaigns`
    query = query.where(campaigns.c.seller_id == tx.seller_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        return None
    # Read after the row: what was added before it was locked is seen.
    taken = await _steps(tx, [row.id])
    return _campaign(row, taken[row.id])


async def _steps(tx: Tx, campaign_ids: Collection[str]) -> dict[str, list[Step]]:
    query = (
        select(steps)
        .where(steps.c.seller_id == tx.seller_id, steps.c.campaign_id.in_(campaign_ids))
        .order_by(steps.c.campaign_id, steps.c.number)
    )
    taken: dict[str, list[Step]] = defaultdict(list)
    for row in await tx.execute(query):
        taken[row.campaign_id].append(Step(action=Action[row.action], time=row.time, note=row.note))
    return taken


def _changing(campaign: Campaign) -> dict[str, object]:
    return {
        "state": campaign.state.name,
        "next_step_time": campaign.next_step_time,
        "revision": campaign.revision,
        "end_time": campaign.end_time,
    }


def _campaign(row: Row[Any], taken: list[Step]) -> Campaign:  # Any: a row of `campaigns`
    return Campaign(
        id=CampaignId(row.id),
        invoice=OverdueInvoice(
            invoice_id=row.invoice_id,
            customer_id=row.customer_id,
            subscription_ids=tuple(row.subscription_ids),
            amount=Money(row.amount_minor, row.currency),
        ),
        policy=_policy_of_json(row.policy),
        state=State[row.state],
        steps=tuple(taken),
        next_step_time=row.next_step_time,
        revision=row.revision,
        start_time=row.start_time,
        end_time=row.end_time,
    )


def _policy(row: Row[Any]) -> Policy:  # Any: a row of `policies`
    return Policy(
        id=PolicyId(row.id),
        terms=Terms(
            display_name=row.display_name,
            retry_wait_days=tuple(row.retry_wait_days),
            final_wait_days=row.final_wait_days,
            final_action=FinalAction[row.final_action],
        ),
        revision=row.revision,
        create_time=row.create_time,
    )


def _policy_json(policy: Policy) -> dict[str, object]:
    return {
        "id": policy.id,
        "display_name": policy.terms.display_name,
        "retry_wait_days": list(policy.terms.retry_wait_days),
        "final_wait_days": policy.terms.final_wait_days,
        "final_action": policy.terms.final_action.name,
        "revision": policy.revision,
        "create_time": policy.create_time.isoformat(),
    }


def _policy_of_json(stored: dict[str, Any]) -> Policy:  # Any: JSON as `_policy_json` wrote it
    return Policy(
        id=PolicyId(stored["id"]),
        terms=Terms(
            display_name=stored["display_name"],
            retry_wait_days=tuple(stored["retry_wait_days"]),
            final_wait_days=stored["final_wait_days"],
            final_action=FinalAction[stored["final_action"]],
        ),
        revision=stored["revision"],
        create_time=datetime.fromisoformat(stored["create_time"]),
    )
