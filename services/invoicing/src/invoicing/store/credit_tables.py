"""Knows the tables of what customers have to their credit; the migrations make them, and a test compares."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from invoicing.store.tables import Instant, metadata

_HOLDING = ("seller_id", "customer_id", "currency")


def _of_holding(name: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(_HOLDING, [f"credit_holdings.{column}" for column in _HOLDING], name=name)


credit_holdings = Table(
    "credit_holdings",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("id", Text, nullable=False),
    Column("low_threshold_minor", BigInteger),
    Column("is_low", Boolean, nullable=False),
    Column("low_count", BigInteger, nullable=False),
    Column("top_up_threshold_minor", BigInteger),
    Column("merged_into_id", Text, nullable=False, server_default=""),
    Column("revision", BigInteger, nullable=False),
    UniqueConstraint("seller_id", "id", name="credit_holdings_id"),
    comment="whose credit it is: locked by whoever moves any of it",
)

credit_grants = Table(
    "credit_grants",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("effective_time", Instant, nullable=False),
    Column("expire_time", Instant),
    Column("scope", JSONB, nullable=False),
    Column("source", Text, nullable=False),
    Column("document_id", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("remaining_minor", BigInteger, nullable=False),
    Column("reserved_minor", BigInteger, nullable=False),
    Column("expired_time", Instant),
    Column("expire_count", BigInteger, nullable=False, server_default="0"),
    Column("revoked_time", Instant),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("traceparent", Text, nullable=False),
    # What makes it impossible to grant the same payment, note or top-up twice.
    Index(
        "credit_grants_once",
        *("seller_id", "source", "document_id"),
        unique=True,
        # Of one grant several parts may become free one after the other, each of which moves.
        postgresql_where=text("document_id <> '' AND source <> 'MERGE'"),
    ),
    Index("credit_grants_of_customer", "seller_id", "customer_id", "id"),
    Index("credit_grants_open", *_HOLDING, postgresql_where=text("remaining_minor > 0")),
    Index(
        "credit_grants_expiring",
        "expire_time",
        postgresql_where=text("expire_time IS NOT NULL AND remaining_minor > reserved_minor"),
    ),
    Index(
        "credit_grants_expiring_of_seller",
        *("seller_id", "expire_time"),
        postgresql_where=text("expire_time IS NOT NULL AND remaining_minor > reserved_minor"),
    ),
    _of_holding("credit_grants_holding"),
)

credit_movements = Table(
    "credit_movements",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("grant_id", Text, primary_key=True),
    Column("ordinal", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("remaining_minor", BigInteger, nullable=False),
    Column("reserved_minor", BigInteger, nullable=False),
    Column("document_id", Text, nullable=False),
    Column("create_time", Instant, nullable=False),
    UniqueConstraint("seller_id", "id", name="credit_movements_id"),
    ForeignKeyConstraint(
        ["seller_id", "grant_id"], ["credit_grants.seller_id", "credit_grants.id"], name="credit_movements_grant"
    ),
    Index("credit_movements_of_customer", "seller_id", "customer_id", "id"),
    Index("credit_movements_of_document", "seller_id", "document_id", postgresql_where=text("document_id <> ''")),
    comment="everything that happened to grants: of each it adds up to what is left",
)

credit_reservations = Table(
    "credit_reservations",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("committed_minor", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("expire_time", Instant, nullable=False),
    Column("end_time", Instant),
    Column("reference", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("traceparent", Text, nullable=False),
    Index("credit_reservations_open", *_HOLDING, postgresql_where=text("state = 'OPEN'")),
    Index("credit_reservations_expiring", "expire_time", postgresql_where=text("state = 'OPEN'")),
    Index(
        "credit_reservations_expiring_of_seller",
        *("seller_id", "expire_time"),
        postgresql_where=text("state = 'OPEN'"),
    ),
    _of_holding("credit_reservations_holding"),
)

credit_top_up_rules = Table(
    "credit_top_up_rules",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("threshold_minor", BigInteger),
    Column("start_time", Instant),
    Column("months", Integer),
    Column("time_zone", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("expires_after_days", Integer, nullable=False),
    Column("per_day_max", Integer, nullable=False),
    Column("next_time", Instant),
    Column("delete_time", Instant),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("traceparent", Text, nullable=False),
    Index("credit_top_up_rules_one", *_HOLDING, unique=True, postgresql_where=text("delete_time IS NULL")),
    Index("credit_top_up_rules_due", "next_time", postgresql_where=text("next_time IS NOT NULL")),
    Index(
        "credit_top_up_rules_due_of_seller",
        *("seller_id", "next_time"),
        postgresql_where=text("next_time IS NOT NULL"),
    ),
    _of_holding("credit_top_up_rules_holding"),
)

merged_customers = Table(
    "merged_customers",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    Column("into_id", Text, nullable=False),
    Column("create_time", Instant, nullable=False),
    comment="customers that are part of another one, which has what credit they get from then on",
)

credit_moves = Table(
    "credit_moves",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("due_time", Instant, nullable=False),
    Column("traceparent", Text, nullable=False),
    UniqueConstraint("seller_id", "customer_id", "currency", name="credit_moves_once"),
    Index("credit_moves_due", "due_time"),
    Index("credit_moves_due_of_seller", "seller_id", "due_time"),
    _of_holding("credit_moves_holding"),
    comment="wallets of merged customers with something in them that is to go to another",
)
