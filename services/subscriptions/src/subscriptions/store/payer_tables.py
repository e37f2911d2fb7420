"""Knows the tables of who pays for whom, beside the others."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKeyConstraint, Index, Table, Text

from subscriptions.store.tables import Instant, metadata

customer_payers = Table(
    "customer_payers",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    Column("since_time", Instant, primary_key=True),
    Column("payer_id", Text, comment="null: the customer itself, as before the first row"),
    ForeignKeyConstraint(
        ["seller_id", "customer_id"], ["customers.seller_id", "customers.id"], name="customer_payers_customer"
    ),
    ForeignKeyConstraint(
        ["seller_id", "payer_id"], ["customers.seller_id", "customers.id"], name="customer_payers_payer"
    ),
    comment="who gets the invoices of each customer, since when",
)
Index(
    "customer_payers_of_payer",
    customer_payers.c.seller_id,
    customer_payers.c.payer_id,
    postgresql_where=customer_payers.c.payer_id.is_not(None),
)

subscription_payers = Table(
    "subscription_payers",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("subscription_id", Text, primary_key=True),
    Column("start_time", Instant, primary_key=True),
    Column("end_time", Instant),
    Column("payer_id", Text, comment="null: nobody, so that the customer's payer pays"),
    ForeignKeyConstraint(
        ["seller_id", "subscription_id"],
        ["subscriptions.seller_id", "subscriptions.id"],
        name="subscription_payers_subscription",
    ),
    comment="what follows from the log: whom each subscription that ever named a payer names when",
)
Index(
    "subscription_payers_of_payer",
    subscription_payers.c.seller_id,
    subscription_payers.c.payer_id,
    subscription_payers.c.subscription_id,
    postgresql_where=subscription_payers.c.payer_id.is_not(None),
)
