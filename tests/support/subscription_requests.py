"""Knows a valid request for every RPC of subscriptions, in a sandbox that has a little of everything."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.message import Message
from google.type.decimal_pb2 import Decimal

from common import wire
from saldo.catalog.v1.plan_pb2 import Plan
from saldo.subscriptions.v1 import customers_service_pb2 as customers
from saldo.subscriptions.v1 import entitlement_service_pb2 as entitlements
from saldo.subscriptions.v1 import personal_data_service_pb2 as personal_data
from saldo.subscriptions.v1 import plan_migration_service_pb2 as migrations
from saldo.subscriptions.v1 import seat_service_pb2 as seats
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from saldo.subscriptions.v1 import tax_id_service_pb2 as tax_ids
from saldo.subscriptions.v1.customer_pb2 import BillingProfile, Contact, ContactPerson, Customer, TaxExemption
from saldo.subscriptions.v1.entitlement_pb2 import EntitlementGrant
from saldo.subscriptions.v1.subscription_pb2 import ItemSpec, Subscription, SubscriptionAction, SubscriptionChange, Term
from saldo.subscriptions.v1.tax_id_pb2 import TaxId
from tests.support.sandbox import ADDRESS, Sandbox, flat, per_unit

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)


async def subscription_requests(
    sandbox: Sandbox, *, payer: Customer, plan: Plan, subscription: Subscription
) -> list[Message]:
    profile = BillingProfile(currency="EUR", time_zone="Europe/Berlin", language_code="de", net_terms_days=14)
    contact = Contact(display_name="Somebody", email="somebody@example.com", address=ADDRESS)
    other = await sandbox.customer("other")
    teams = await sandbox.plan("teams", per_unit("seat", "5.00"))
    team = await sandbox.subscribe(other, teams, quantities={"seat": "10"})
    better = await sandbox.plan("better", flat("fee", "30.00"))
    quantity = SubscriptionAction(
        set_quantity=SubscriptionAction.SetQuantity(item_id=team.items[0].id, quantity=Decimal(value="12"))
    )
    later = await sandbox.client.subscriptions.ChangeSubscription(
        subscriptions.ChangeSubscriptionRequest(id=team.id, actions=[quantity], timing=SubscriptionChange.PERIOD_END)
    )
    changes = await sandbox.client.subscriptions.ListSubscriptionChanges(
        subscriptions.ListSubscriptionChangesRequest(subscription_id=later.id)
    )
    person = ContactPerson(display_name="Somebody Else", email="else@example.com", roles=[ContactPerson.BILLING])
    exemption = TaxExemption(country="DE", reason_code="RESALE", certificate_number="42")
    added = await sandbox.client.customers.AddContact(customers.AddContactRequest(customer_id=other.id, contact=person))
    exempt = await sandbox.client.customers.AddTaxExemption(
        customers.AddTaxExemptionRequest(customer_id=other.id, tax_exemption=exemption)
    )
    await sandbox.client.customers.AddCustomerAlias(customers.AddCustomerAliasRequest(id=other.id, alias="another"))
    tax_id = await sandbox.client.tax_ids.AddTaxId(
        tax_ids.AddTaxIdRequest(customer_id=other.id, kind=TaxId.EU_VAT, value="DE136695976")
    )
    invited = await sandbox.client.seats.InviteSeat(
        seats.InviteSeatRequest(subscription_id=team.id, item_id=team.items[0].id, holder="somebody")
    )
    migration = await sandbox.client.plan_migrations.CreatePlanMigration(
        migrations.CreatePlanMigrationRequest(from_plan_id=plan.id, to_plan_id=better.id)
    )
    change = subscriptions.ChangeSubscriptionRequest(id=team.id, actions=[quantity])
    revised = ContactPerson(id=added.id, display_name="Somebody Else", email="else@example.com")
    return [
        subscriptions.CreateCustomerRequest(external_id="fuzzed", contact=contact, billing_profile=profile),
        subscriptions.GetCustomerRequest(id=payer.id, names_known_time=wire.timestamp(JANUARY)),
        subscriptions.UpdateCustomerRequest(id=payer.id, contact=contact, billing_profile=profile),
        subscriptions.BatchGetCustomersRequest(ids=[payer.id]),
        subscriptions.ListCustomersRequest(page_size=10),
        subscriptions.CreateSubscriptionRequest(
            customer_id=payer.id,
            plan_id=plan.id,
            items=[ItemSpec(price_id=plan.prices[0].id, quantity=Decimal(value="2"))],
            start_time=wire.timestamp(JANUARY),
            billing_day=1,
            term=Term(months=12, renewal=Term.RENEW, notice_days=30),
        ),
        subscriptions.GetSubscriptionRequest(id=subscription.id),
        subscriptions.ListSubscriptionsRequest(customer_id=payer.id, page_size=10),
        change,
        subscriptions.PreviewChangeRequest(change=change),
        subscriptions.ListSubscriptionChangesRequest(subscription_id=team.id, page_size=10),
        subscriptions.RevokeSubscriptionChangeRequest(subscription_id=team.id, change_id=changes.changes[0].id),
        subscriptions.ActivateSubscriptionRequest(id=subscription.id),
        subscriptions.ExtendTrialRequest(id=subscription.id, trial_end_time=wire.timestamp(FEBRUARY)),
        subscriptions.EndTrialRequest(id=subscription.id),
        subscriptions.CancelSubscriptionRequest(
            id=subscription.id, timing=subscriptions.CancelSubscriptionRequest.PERIOD_END
        ),
        subscriptions.RevokeCancellationRequest(id=subscription.id),
        subscriptions.ReactivateSubscriptionRequest(id=subscription.id),
        subscriptions.PauseSubscriptionRequest(id=subscription.id),
        subscriptions.ResumeSubscriptionRequest(id=subscription.id),
        subscriptions.TransferSubscriptionRequest(id=subscription.id, customer_id=other.id),
        subscriptions.AlignSubscriptionsRequest(customer_id=other.id, billing_day=1),
        subscriptions.ListBillablePeriodsRequest(
            customer_ids=[payer.id], after_time=wire.timestamp(JANUARY), through_time=wire.timestamp(FEBRUARY)
        ),
        subscriptions.BatchListBillablePeriodsRequest(
            customer_ids=[payer.id], after_time=wire.timestamp(JANUARY), through_time=wire.timestamp(FEBRUARY)
        ),
        customers.LookupCustomerRequest(key="other"),
        customers.SetCustomerParentRequest(id=other.id, parent_id=payer.id),
        customers.ListDescendantsRequest(id=payer.id, page_size=10),
        customers.SetCustomerPayerRequest(id=other.id, payer_id=payer.id),
        customers.ListPaidCustomersRequest(payer_ids=[payer.id], page_size=10),
        customers.AddCustomerAliasRequest(id=other.id, alias="fuzzed-alias"),
        customers.RemoveCustomerAliasRequest(id=other.id, alias="another"),
        customers.AddContactRequest(customer_id=other.id, contact=person),
        customers.UpdateContactRequest(customer_id=other.id, contact=revised),
        customers.RemoveContactRequest(customer_id=other.id, id=added.id),
        customers.AddTaxExemptionRequest(customer_id=other.id, tax_exemption=exemption),
        customers.RemoveTaxExemptionRequest(customer_id=other.id, id=exempt.id),
        customers.SetCustomFieldsRequest(id=other.id, custom_fields={"cost_center": "42"}),
        customers.MergeCustomersRequest(source_id=other.id, target_id=payer.id),
        tax_ids.AddTaxIdRequest(customer_id=other.id, kind=TaxId.EU_VAT, value="DE811569869"),
        tax_ids.RemoveTaxIdRequest(id=tax_id.id),
        tax_ids.ListTaxIdsRequest(customer_id=other.id, page_size=10),
        tax_ids.VerifyTaxIdRequest(id=tax_id.id),
        personal_data.ErasePersonalDataRequest(customer_id=other.id),
        personal_data.ExportPersonalDataRequest(customer_id=other.id),
        entitlements.ListEntitlementsRequest(customer_id=other.id, page_size=10),
        entitlements.GetEntitlementRequest(customer_id=other.id, feature="reports"),
        entitlements.SetEntitlementOverrideRequest(
            customer_id=other.id, feature="reports", grant=EntitlementGrant(enabled=True), reason="as agreed"
        ),
        entitlements.RemoveEntitlementOverrideRequest(customer_id=other.id, feature="reports"),
        seats.InviteSeatRequest(subscription_id=team.id, item_id=team.items[0].id, holder="somebody-else"),
        seats.ClaimSeatRequest(token=invited.token),
        seats.RevokeSeatRequest(id=invited.seat.id),
        seats.ListSeatsRequest(subscription_id=team.id, item_id=team.items[0].id, page_size=10),
        seats.GetSeatUsageRequest(subscription_id=team.id, item_id=team.items[0].id),
        migrations.CreatePlanMigrationRequest(from_plan_id=plan.id, to_plan_id=better.id),
        migrations.StartPlanMigrationRequest(id=migration.id),
        migrations.GetPlanMigrationRequest(id=migration.id),
        migrations.ListPlanMigrationOutcomesRequest(migration_id=migration.id, page_size=10),
        migrations.CancelPlanMigrationRequest(id=migration.id),
        migrations.RevertPlanMigrationRequest(id=migration.id),
    ]
