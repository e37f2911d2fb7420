"""Knows the tables of invoicing; the migrations make them, and a test compares."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

metadata = MetaData()
Instant = TIMESTAMP(timezone=True)


invoices = Table(
    "invoices",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("number", Text),
    Column("state", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("seller_party", JSONB(none_as_null=True)),
    Column("customer_party", JSONB(none_as_null=True)),
    Column("currency", Text, nullable=False),
    Column("line_count", Integer, nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    Column("amount_paid_minor", BigInteger, nullable=False),
    Column("collection_method", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("bill_time", Instant, nullable=False),
    Column("finalize_time", Instant),
    Column("due_time", Instant),
    Column("paid_time", Instant),
    Column("overdue_from_time", Instant),
    Column("overdue_time", Instant),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("traceparent", Text, nullable=False),
    Column("discount_minor", BigInteger, nullable=False, server_default="0"),
    Column("tax_minor", BigInteger, nullable=False, server_default="0"),
    Column("taxes", JSONB, nullable=False, server_default="[]"),
    Column("rounding_minor", BigInteger, nullable=False, server_default="0"),
    Column("credit_applied_minor", BigInteger, nullable=False, server_default="0"),
    Column("amount_credited_minor", BigInteger, nullable=False, server_default="0"),
    Column("amount_written_off_minor", BigInteger, nullable=False, server_default="0"),
    Column("hold_reason", Text, nullable=False, server_default=""),
    Column("consolidation", JSONB(none_as_null=True), comment="why its lines are together, as it was then"),
    Column("consolidation_key", Text, nullable=False, server_default="", comment="the same for the same declared keys"),
    Column(
        "tax_time", Instant, comment="as of when its taxes were asked for; null for what was made before there were any"
    ),
    Column("top_up_rule_id", Text, nullable=False, server_default=""),
    Column("void_time", Instant),
    Column("uncollectible_time", Instant),
    Column("origin", Text, nullable=False, server_default="BILL_RUN"),
    Column("given_discounts", JSONB, nullable=False, server_default="[]"),
    Column("net_terms_days", Integer),
    Column("memo", Text, nullable=False, server_default=""),
    Column("purchase_order", Text, nullable=False, server_default=""),
    Column("section_names", JSONB, nullable=False, server_default="{}", comment="what its sections are called, by id"),
    UniqueConstraint("seller_id", "number", name="invoices_number"),
    Index("invoices_of_customer", "seller_id", "customer_id", "id"),
    Index(
        "invoices_one_draft",
        *("seller_id", "customer_id", "currency", "bill_time", "consolidation_key"),
        unique=True,
        postgresql_where=text("state = 'DRAFT' AND origin = 'BILL_RUN'"),
    ),
    Index("invoices_drafts", "finalize_time", postgresql_where=text("state = 'DRAFT'")),
    Index("invoices_drafts_of_seller", "seller_id", "finalize_time", postgresql_where=text("state = 'DRAFT'")),
    Index("invoices_overdue", "overdue_from_time", postgresql_where=text("overdue_from_time IS NOT NULL")),
    Index(
        "invoices_overdue_of_seller",
        *("seller_id", "overdue_from_time"),
        postgresql_where=text("overdue_from_time IS NOT NULL"),
    ),
    # What makes it impossible to ask twice for the same top-up.
    Index(
        "invoices_one_top_up",
        *("seller_id", "customer_id", "currency"),
        unique=True,
        postgresql_where=text("top_up_rule_id <> '' AND state = 'OPEN'"),
    ),
    Index(
        "invoices_top_ups",
        *("seller_id", "customer_id", "currency", "create_time"),
        postgresql_where=text("top_up_rule_id <> ''"),
    ),
)

invoice_lines = Table(
    "invoice_lines",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("invoice_id", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("description", Text, nullable=False),
    Column("subscription_id", Text, nullable=False),
    Column("item_id", Text, nullable=False),
    Column("price_id", Text, nullable=False),
    Column("period_start", Instant, nullable=False),
    Column("period_end", Instant, nullable=False),
    Column("full_period_start", Instant, nullable=False),
    Column("full_period_end", Instant, nullable=False),
    Column("quantity", Numeric, nullable=False),
    Column("unit_label", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("rating_steps", JSONB, nullable=False),
    Column("exact_amount", Numeric, nullable=False),
    Column("proration_numerator", BigInteger, nullable=False),
    Column("proration_denominator", BigInteger, nullable=False),
    Column("meter", Text, nullable=False),
    Column("usage_quantity", Numeric),
    Column("usage_event_count", BigInteger),
    Column("usage_digest", Text),
    Column("usage_through_position", BigInteger),
    Column("usage_meter_versions", JSONB(none_as_null=True)),
    Column("usage_traceparents", ARRAY(Text)),
    Column("correction", Integer, nullable=False),
    Column("kind", Text, nullable=False, server_default="OWED"),
    Column("change_id", Text, nullable=False, server_default=""),
    Column("discount_minor", BigInteger, nullable=False, server_default="0"),
    Column("discounts", JSONB, nullable=False, server_default="[]"),
    Column("customer_id", Text, nullable=False, server_default="", comment="who used it, if the invoice is another's"),
    Column("given_discounts", JSONB, nullable=False, server_default="[]"),
    Column("coupon_ids", ARRAY(Text), nullable=False, server_default="{}"),
    Column("tax_code", Text, nullable=False, server_default=""),
    Column("tax_rate_ids", ARRAY(Text), nullable=False, server_default="{}"),
    Column("product_id", Text, nullable=False, server_default=""),
    Column("voided", Boolean, nullable=False, server_default="false"),
    # What makes it impossible to bill a period of an item twice, whatever else goes wrong. Manual lines are of no
    # item, and what is on a void invoice was never billed.
    Index(
        "invoice_lines_billed_once",
        *("seller_id", "item_id", "price_id", "period_start", "kind", "change_id", "correction"),
        unique=True,
        postgresql_where=text("item_id <> '' AND NOT voided"),
    ),
    Index(
        "invoice_lines_discounted",
        *("seller_id", "invoice_id"),
        postgresql_where=text("discount_minor <> 0 OR coupon_ids <> '{}'"),
    ),
    UniqueConstraint("seller_id", "invoice_id", "position", name="invoice_lines_position"),
    Index("invoice_lines_of_price", "seller_id", "price_id", "period_end"),
    ForeignKeyConstraint(
        ["seller_id", "invoice_id"], ["invoices.seller_id", "invoices.id"], name="invoice_lines_invoice"
    ),
)

invoice_payments = Table(
    "invoice_payments",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("payment_id", Text, primary_key=True),
    Column("invoice_id", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("overpaid_minor", BigInteger, nullable=False, server_default="0"),
    ForeignKeyConstraint(
        ["seller_id", "invoice_id"], ["invoices.seller_id", "invoices.id"], name="invoice_payments_invoice"
    ),
    Index("invoice_payments_of_invoice", "seller_id", "invoice_id"),
)

pending_lines = Table(
    "pending_lines",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("line", JSONB, nullable=False),
    Column("bill_alone_time", Instant),
    Column("create_time", Instant, nullable=False),
    Index("pending_lines_of_customer", "seller_id", "customer_id", "id"),
    comment="lines that wait for the next invoice; those on it are no more here",
)

number_series = Table(
    "number_series",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("prefix", Text, primary_key=True),
    Column("last", BigInteger, nullable=False),
)

issued_documents = Table(
    "issued_documents",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("series", Text, primary_key=True),
    Column("ordinal", BigInteger, primary_key=True, autoincrement=False),
    Column("invoice_id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("content_hash", LargeBinary, nullable=False),
    Column("link", LargeBinary, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("kind", Text, nullable=False, server_default="INVOICE"),
    Column("credit_note_id", Text),
    Index(
        "issued_documents_invoice",
        *("seller_id", "invoice_id"),
        unique=True,
        postgresql_where=text("kind = 'INVOICE'"),
    ),
    Index(
        "issued_documents_credit_note",
        *("seller_id", "credit_note_id"),
        unique=True,
        postgresql_where=text("kind = 'CREDIT_NOTE'"),
    ),
    comment="of every number of a series, a hash of its document, and one that links it to the number before",
)

ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("document_kind", Text, nullable=False),
    # What makes it impossible to post a document twice: this is how an entry is told from all others.
    Column("document_id", Text, primary_key=True),
    Column("event", Text, primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("invoice_id", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("effective_date", Date, nullable=False),
    Column("accounts", ARRAY(Text), nullable=False),
    Column("amounts", ARRAY(BigInteger), nullable=False),
    Column("create_time", Instant, nullable=False),
    Index("ledger_entries_of_day", "seller_id", "effective_date", "id"),
    Index("ledger_entries_of_customer", "seller_id", "customer_id", "effective_date", "id"),
    Index(
        "ledger_entries_of_invoice",
        *("seller_id", "invoice_id"),
        postgresql_where=text("invoice_id <> document_id"),
    ),
    comment="what every document moved between accounts: debits positive, credits negative, in minor units",
)

ledger_backfills = Table(
    "ledger_backfills",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("next_time", Instant, nullable=False),
    Column("after_id", Text, nullable=False),
    Index("ledger_backfills_next_time", "next_time"),
    comment="sellers with invoices of a release that posted nothing, until these are posted",
)

consolidation_policies = Table(
    "consolidation_policies",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("scope_id", Text, nullable=False),
    Column("key_names", ARRAY(Text), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("update_time", Instant, nullable=False),
    UniqueConstraint("seller_id", "scope", "scope_id", name="consolidation_policies_scope"),
    comment="by which keys lines may share an invoice, on which level",
)

billing = Table(
    "billing",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    Column("due_time", Instant),
    Column("billed_through_time", Instant),
    Column("credit_since", Instant, comment="the bill time of the oldest credit that no invoice had room for"),
    Column("revision", BigInteger, nullable=False),
    Column("traceparent", Text, nullable=False),
    Index("billing_due", "due_time", postgresql_where=text("due_time IS NOT NULL")),
    Index("billing_due_of_seller", "seller_id", "due_time", postgresql_where=text("due_time IS NOT NULL")),
)

issuing_policies = Table(
    "issuing_policies",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("grace_seconds", Integer),
    Column("meter_grace_seconds", JSONB, nullable=False),
    Column("requires_approval", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("update_time", Instant, nullable=False),
    Column("late_usage", Text),
    Column("meter_late_usage", JSONB, nullable=False, server_default="{}"),
    comment="how long drafts wait for late usage, and whether for somebody's word",
)

sweeps = Table(
    "sweeps",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("next_time", Instant, nullable=False),
    Column("swept_through_time", Instant, nullable=False),
    Column("page_token", Text, nullable=False),
    Index("sweeps_next_time", "next_time"),
)

tax_rates = Table(
    "tax_rates",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("percent", Numeric, nullable=False),
    Column("is_inclusive", Boolean, nullable=False),
    Column("is_compound", Boolean, nullable=False),
    Column("exemption_reason", Text, nullable=False),
    Column("country", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("archive_time", Instant),
    Index(
        "tax_rates_told_apart",
        *("seller_id", "name", "category", "percent", "is_inclusive", "is_compound", "exemption_reason"),
        *("country", "region"),
        unique=True,
        postgresql_where=text("archive_time IS NULL"),
    ),
)

tax_rules = Table(
    "tax_rules",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("scope_key", Text, nullable=False),
    Column("rate_ids", ARRAY(Text), nullable=False),
    Column("start_time", Instant, nullable=False),
    Column("end_time", Instant),
    Column("create_time", Instant, nullable=False),
    Index(
        "tax_rules_one_at_a_time",
        *("seller_id", "scope", "scope_key", "start_time"),
        unique=True,
        postgresql_where=text("end_time IS NULL"),
    ),
    Index("tax_rules_of_scope", "seller_id", "scope", "scope_key"),
)

credit_notes = Table(
    "credit_notes",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("number", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("invoice_id", Text, nullable=False),
    Column("invoice_number", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("seller_party", JSONB, nullable=False),
    Column("customer_party", JSONB, nullable=False),
    Column("reason", Text, nullable=False),
    Column("memo", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("line_count", Integer, nullable=False),
    Column("discount_minor", BigInteger, nullable=False),
    Column("tax_minor", BigInteger, nullable=False),
    Column("taxes", JSONB, nullable=False),
    Column("rounding_minor", BigInteger, nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    Column("debt_minor", BigInteger, nullable=False),
    Column("customer_credit_minor", BigInteger, nullable=False),
    Column("refund_minor", BigInteger, nullable=False),
    Column("refunded_minor", BigInteger, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("issue_time", Instant, nullable=False),
    Column("revision", BigInteger, nullable=False),
    UniqueConstraint("seller_id", "number", name="credit_notes_number"),
    ForeignKeyConstraint(
        ["seller_id", "invoice_id"], ["invoices.seller_id", "invoices.id"], name="credit_notes_invoice"
    ),
    Index("credit_notes_of_invoice", "seller_id", "invoice_id", "id"),
    Index("credit_notes_of_customer", "seller_id", "customer_id", "id"),
    Index(
        "credit_notes_one_void",
        *("seller_id", "invoice_id"),
        unique=True,
        postgresql_where=text("kind = 'VOID'"),
    ),
)

credit_note_lines = Table(
    "credit_note_lines",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("credit_note_id", Text, primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("line_id", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("quantity", Numeric),
    Column("unit_label", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("discount_minor", BigInteger, nullable=False),
    UniqueConstraint("seller_id", "credit_note_id", "line_id", name="credit_note_lines_line"),
    ForeignKeyConstraint(
        ["seller_id", "credit_note_id"],
        ["credit_notes.seller_id", "credit_notes.id"],
        name="credit_note_lines_note",
    ),
    ForeignKeyConstraint(
        ["seller_id", "line_id"],
        ["invoice_lines.seller_id", "invoice_lines.id"],
        name="credit_note_lines_invoice_line",
    ),
)

credit_note_refunds = Table(
    "credit_note_refunds",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("reference", Text, primary_key=True),
    Column("credit_note_id", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    ForeignKeyConstraint(
        ["seller_id", "credit_note_id"],
        ["credit_notes.seller_id", "credit_notes.id"],
        name="credit_note_refunds_note",
    ),
    Index("credit_note_refunds_of_note", "seller_id", "credit_note_id"),
)
