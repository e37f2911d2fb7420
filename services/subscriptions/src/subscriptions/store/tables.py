"""Knows the tables; `migrations` makes them, and a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Identity,
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

customers = Table(
    "customers",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("external_id", Text),
    Column("display_name", Text, nullable=False, comment="empty once sealed, as are email and address"),
    Column("email", Text, nullable=False),
    Column("address", LargeBinary, nullable=False),
    Column("currency", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("language_code", Text, nullable=False),
    Column("net_terms_days", Integer, nullable=False),
    Column("collection_method", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("update_time", Instant, nullable=False),
    Column("state", Text, nullable=False, server_default="ACTIVE"),
    Column("merged_into_id", Text),
    Column("aliases", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("merged_ids", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("parent_id", Text),
    Column("payer_id", Text),
    Column("tax_exemptions", JSONB, nullable=False, server_default=text("'[]'")),
    Column("billing_day", Integer, nullable=False, server_default="0"),
    Column("delivery", Text, nullable=False, server_default="EMAIL"),
    Column("purchase_order", Text, nullable=False, server_default=""),
    Column("sealed_personal_data", LargeBinary),
    Column("retained_country", Text, comment="what an erased customer's address keeps, for tax"),
    Column("erase_time", Instant),
    Column("sealed_certificates", LargeBinary, comment="the certificate numbers that tax_exemptions has empty"),
    UniqueConstraint("seller_id", "external_id", name="customers_external_id"),
    ForeignKeyConstraint(
        ["seller_id", "merged_into_id"], ["customers.seller_id", "customers.id"], name="customers_merged_into"
    ),
    ForeignKeyConstraint(["seller_id", "parent_id"], ["customers.seller_id", "customers.id"], name="customers_parent"),
    ForeignKeyConstraint(["seller_id", "payer_id"], ["customers.seller_id", "customers.id"], name="customers_payer"),
)
for _name in ("parent", "payer"):
    _column = customers.c[f"{_name}_id"]
    Index(
        f"customers_of_{_name}",
        customers.c.seller_id,
        _column,
        customers.c.id,
        postgresql_where=_column.is_not(None),
    )

customer_keys = Table(
    "customer_keys",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    ForeignKeyConstraint(
        ["seller_id", "customer_id"], ["customers.seller_id", "customers.id"], name="customer_keys_customer"
    ),
    comment="what customers are called beside their ids: a key names one customer",
)
Index("customer_keys_of_customer", customer_keys.c.seller_id, customer_keys.c.customer_id)

customer_names = Table(
    "customer_names",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("since_time", Instant),
    Column("until_time", Instant),
    Column("add_time", Instant, nullable=False, comment="since when it is known"),
    Column("remove_time", Instant, comment="when it was taken back: it counts for nothing any more"),
    ForeignKeyConstraint(
        ["seller_id", "customer_id"], ["customers.seller_id", "customers.id"], name="customer_names_customer"
    ),
    comment="for which periods usage under a key is whose, and when that was known",
)
_standing = customer_names.c.remove_time.is_(None)
Index(
    "customer_names_of_customer",
    customer_names.c.seller_id,
    customer_names.c.customer_id,
    customer_names.c.key,
    unique=True,
    postgresql_where=_standing,
)
Index(
    "customer_names_ended",
    customer_names.c.seller_id,
    customer_names.c.key,
    postgresql_where=_standing & customer_names.c.until_time.is_not(None),
)

_unsealed = customers.c.display_name != ""
Index("customers_unsealed", customers.c.create_time, postgresql_where=_unsealed)
Index("customers_unsealed_of_seller", customers.c.seller_id, customers.c.create_time, postgresql_where=_unsealed)
certificates_unsealed = text("""tax_exemptions @? '$[*] ? (@.certificate_number != "")'""")
Index("customers_certificates_unsealed", customers.c.create_time, postgresql_where=certificates_unsealed)
Index(
    "customers_certificates_unsealed_of_seller",
    customers.c.seller_id,
    customers.c.create_time,
    postgresql_where=certificates_unsealed,
)


data_keys = Table(
    "data_keys",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    Column("master_key_id", Text, nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("create_time", Instant, nullable=False),
    ForeignKeyConstraint(
        ["seller_id", "customer_id"],
        ["customers.seller_id", "customers.id"],
        name="data_keys_customer",
        deferrable=True,
        initially="DEFERRED",
    ),
    comment="the key of each customer's personal data, wrapped by a master key",
)
Index("data_keys_master_key", data_keys.c.master_key_id)

tax_ids = Table(
    "tax_ids",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("country", Text, nullable=False),
    Column("sealed_value", LargeBinary, nullable=False),
    Column("value_digest", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("tries", Integer, nullable=False, comment="how often the authority was asked without an answer"),
    Column("next_try_time", Instant),
    Column("check_time", Instant),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    UniqueConstraint("seller_id", "customer_id", "value_digest", name="tax_ids_value"),
    ForeignKeyConstraint(
        ["seller_id", "customer_id"], ["customers.seller_id", "customers.id"], name="tax_ids_customer"
    ),
)
_to_try = tax_ids.c.next_try_time.is_not(None)
Index("tax_ids_try_due", tax_ids.c.next_try_time, postgresql_where=_to_try)
Index("tax_ids_try_due_of_seller", tax_ids.c.seller_id, tax_ids.c.next_try_time, postgresql_where=_to_try)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("plan_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("start_time", Instant, nullable=False),
    Column("cancel_time", Instant),
    Column("end_time", Instant),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("update_time", Instant, nullable=False),
    Column("opening", JSONB, nullable=False, comment="what was agreed at first"),
    Column("plan_code", Text, nullable=False),
    Column("is_followed_up", Boolean, nullable=False, comment="whether an open dunning campaign is about it"),
    Column("announced_through", Instant, nullable=False, comment="what happened by itself up to here was announced"),
    Column("next_moment_time", Instant, comment="when something happens by itself next"),
    Column("closed_time", Instant, comment="after this nothing of it comes to be billed"),
    ForeignKeyConstraint(
        ["seller_id", "customer_id"], ["customers.seller_id", "customers.id"], name="subscriptions_customer"
    ),
)
Index("subscriptions_of_customer", subscriptions.c.seller_id, subscriptions.c.customer_id, subscriptions.c.id)
Index("subscriptions_of_plan", subscriptions.c.seller_id, subscriptions.c.plan_id, subscriptions.c.id)
# What the job looks for: by time for all sellers, by seller for one sandbox.
_to_come = subscriptions.c.next_moment_time.is_not(None)
Index("subscriptions_moment_due", subscriptions.c.next_moment_time, postgresql_where=_to_come)
Index(
    "subscriptions_moment_due_of_seller",
    subscriptions.c.seller_id,
    subscriptions.c.next_moment_time,
    postgresql_where=_to_come,
)

subscription_changes = Table(
    "subscription_changes",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("subscription_id", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("recorded_time", Instant, nullable=False),
    Column("effective_time", Instant, nullable=False),
    Column("revoked_time", Instant),
    Column("revoked_after", Integer, comment="how long the log was; null: before all that was decided then"),
    Column("decided_with", Text, comment="a change decided in the same breath; empty for the agreement itself"),
    Column("after_months", Integer, comment="of a step of a ramp: counted from the beginning of billing"),
    Column("proration", Text, nullable=False),
    Column("unused", Text, nullable=False),
    Column("actions", JSONB, nullable=False),
    UniqueConstraint("seller_id", "subscription_id", "position", name="subscription_changes_position"),
    ForeignKeyConstraint(
        ["seller_id", "subscription_id"],
        ["subscriptions.seller_id", "subscriptions.id"],
        name="subscription_changes_subscription",
    ),
    comment="the log of what was decided about each subscription",
)

subscription_terms = Table(
    "subscription_terms",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("item_id", Text, primary_key=True),
    Column("start_time", Instant, primary_key=True),
    Column("end_time", Instant),
    Column("subscription_id", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("plan_id", Text, nullable=False),
    Column("price_id", Text, nullable=False),
    Column("quantity", Numeric),
    ForeignKeyConstraint(
        ["seller_id", "subscription_id"],
        ["subscriptions.seller_id", "subscriptions.id"],
        name="subscription_terms_subscription",
    ),
    comment="what follows from the log: by what terms each item is billed when",
)
Index("subscription_terms_of", subscription_terms.c.seller_id, subscription_terms.c.subscription_id)
Index(
    "subscription_terms_of_customer",
    subscription_terms.c.seller_id,
    subscription_terms.c.customer_id,
    subscription_terms.c.subscription_id,
)

payment_methods_on_file = Table(
    "payment_methods_on_file",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    comment="the customers of whom payments has said that they have a payment method",
)

dunning_campaigns = Table(
    "dunning_campaigns",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("subscription_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("is_open", Boolean, nullable=False),
    ForeignKeyConstraint(
        ["seller_id", "subscription_id"],
        ["subscriptions.seller_id", "subscriptions.id"],
        name="dunning_campaigns_subscription",
    ),
    comment="the newest word of dunning about each subscription",
)

plan_migrations = Table(
    "plan_migrations",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("from_plan_id", Text, nullable=False),
    Column("to_plan_id", Text, nullable=False),
    Column("timing", Text, nullable=False),
    Column("effective_time", Instant),
    Column("proration", Text, comment="null: as each subscription says"),
    Column("unused", Text, nullable=False),
    Column("successions", JSONB, nullable=False, comment="which price takes the place of which"),
    Column("customer_ids", ARRAY(Text), nullable=False, comment="empty: of all customers"),
    Column("state", Text, nullable=False),
    Column("cursor", Text, nullable=False, comment="the last subscription that the walk under way has been at"),
    Column("counts", JSONB, nullable=False, comment="how many subscriptions have come to which result"),
    Column("due_time", Instant, comment="when the walk is to go on"),
    Column("traceparent", Text, nullable=False),
    Column("preview_time", Instant),
    Column("start_time", Instant),
    Column("finish_time", Instant),
    Column("revert_time", Instant),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("update_time", Instant, nullable=False),
)
_walking = plan_migrations.c.due_time.is_not(None)
Index("plan_migrations_due", plan_migrations.c.due_time, postgresql_where=_walking)
Index(
    "plan_migrations_due_of_seller", plan_migrations.c.seller_id, plan_migrations.c.due_time, postgresql_where=_walking
)

plan_migration_outcomes = Table(
    "plan_migration_outcomes",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("migration_id", Text, primary_key=True),
    Column("subscription_id", Text, primary_key=True),
    Column("result", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("change_id", Text),
    Column("effective_time", Instant),
    Column("items_kept", Integer, nullable=False),
    Column("items_added", Integer, nullable=False),
    Column("items_removed", Integer, nullable=False),
    Column("revert_change_id", Text),
    Column("update_time", Instant, nullable=False),
    ForeignKeyConstraint(
        ["seller_id", "migration_id"],
        ["plan_migrations.seller_id", "plan_migrations.id"],
        name="plan_migration_outcomes_migration",
    ),
    ForeignKeyConstraint(
        ["seller_id", "subscription_id"],
        ["subscriptions.seller_id", "subscriptions.id"],
        name="plan_migration_outcomes_subscription",
    ),
    comment="what a plan migration would do, or has done, with each subscription",
)
Index(
    "plan_migration_outcomes_by_result",
    plan_migration_outcomes.c.seller_id,
    plan_migration_outcomes.c.migration_id,
    plan_migration_outcomes.c.result,
    plan_migration_outcomes.c.subscription_id,
)

plan_entitlements = Table(
    "plan_entitlements",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("plan_id", Text, primary_key=True),
    Column("entitlements", JSONB, comment="null until the catalog was asked"),
    Column("create_time", Instant, nullable=False),
    comment="what each version of a plan entitles to, for ever",
)
_unknown = plan_entitlements.c.entitlements.is_(None)
Index("plan_entitlements_unknown", plan_entitlements.c.create_time, postgresql_where=_unknown)
Index(
    "plan_entitlements_unknown_of_seller",
    plan_entitlements.c.seller_id,
    plan_entitlements.c.create_time,
    postgresql_where=_unknown,
)

entitlement_overrides = Table(
    "entitlement_overrides",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("feature", Text, nullable=False),
    Column("granted", JSONB, nullable=False),
    Column("reason", Text, nullable=False),
    Column("start_time", Instant, nullable=False),
    Column("end_time", Instant),
    ForeignKeyConstraint(
        ["seller_id", "customer_id"], ["customers.seller_id", "customers.id"], name="entitlement_overrides_customer"
    ),
    comment="what sellers decided that a customer has of a feature, whatever its plans say",
)
Index(
    "entitlement_overrides_of_customer",
    entitlement_overrides.c.seller_id,
    entitlement_overrides.c.customer_id,
    entitlement_overrides.c.feature,
)

customer_entitlements = Table(
    "customer_entitlements",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False, comment="0 until something was announced"),
    Column("digest", LargeBinary, nullable=False, comment="of the grants that were announced last"),
    Column("through_time", Instant, nullable=False, comment="up to when everything that happened is in it"),
    Column("refresh_time", Instant, comment="when something ends by itself that no subscription says"),
    comment="what was announced about the entitlements of each customer",
)
_to_refresh = customer_entitlements.c.refresh_time.is_not(None)
Index("customer_entitlements_due", customer_entitlements.c.refresh_time, postgresql_where=_to_refresh)
Index(
    "customer_entitlements_due_of_seller",
    customer_entitlements.c.seller_id,
    customer_entitlements.c.refresh_time,
    postgresql_where=_to_refresh,
)

seats = Table(
    "seats",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("subscription_id", Text, nullable=False),
    Column("item_id", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("token_digest", LargeBinary, nullable=False),
    Column("sealed_email", LargeBinary, comment="while somebody is invited"),
    Column("sealed_for", Text, comment="the customer under whose key the mail address is sealed"),
    Column("invite_time", Instant, nullable=False),
    Column("expire_time", Instant),
    Column("claim_time", Instant),
    Column("revoke_time", Instant),
    Column("revoke_reason", Text),
    Column("revision", BigInteger, nullable=False),
    UniqueConstraint("seller_id", "token_digest", name="seats_token"),
    ForeignKeyConstraint(
        ["seller_id", "subscription_id"],
        ["subscriptions.seller_id", "subscriptions.id"],
        name="seats_subscription",
    ),
    comment="to whom the places of an item are assigned",
)
Index("seats_of_subscription", seats.c.seller_id, seats.c.subscription_id, seats.c.id)
Index(
    "seats_assigned",
    seats.c.seller_id,
    seats.c.item_id,
    seats.c.holder,
    unique=True,
    postgresql_where=seats.c.state != "REVOKED",
)
_to_expire = seats.c.expire_time.is_not(None)
Index("seats_expiry_due", seats.c.expire_time, postgresql_where=_to_expire)
Index("seats_expiry_due_of_seller", seats.c.seller_id, seats.c.expire_time, postgresql_where=_to_expire)
