"""One request for each RPC about customer credit, that names only things which exist."""

from __future__ import annotations

from google.protobuf.message import Message
from google.type.money_pb2 import Money

from common import wire
from saldo.catalog.v1.plan_pb2 import Plan
from saldo.invoicing.v1 import credit_pb2
from saldo.invoicing.v1 import credit_service_pb2 as credit
from saldo.subscriptions.v1.customer_pb2 import Customer
from saldo.subscriptions.v1.subscription_pb2 import Subscription
from tests.support.sandbox import Sandbox
from tests.support.subscription_requests import FEBRUARY, JANUARY


async def credit_requests(
    sandbox: Sandbox, payer: Customer, plan: Plan, subscription: Subscription, product_id: str
) -> list[Message]:
    grant = await sandbox.client.credit.GrantCredit(
        credit.GrantCreditRequest(
            customer_id=payer.id, amount=Money(currency_code="GBP", units=50), kind=credit_pb2.CreditGrant.PAID
        )
    )
    aside = await sandbox.client.credit.ReserveCredit(
        credit.ReserveCreditRequest(
            customer_id=payer.id, amount=Money(currency_code="GBP", units=2), time_to_live_seconds=86_400
        )
    )
    await sandbox.client.credit.SetTopUpRule(
        credit.SetTopUpRuleRequest(
            customer_id=payer.id,
            amount=Money(currency_code="GBP", units=10),
            schedule=credit_pb2.CreditTopUpRule.Schedule(start_time=wire.timestamp(FEBRUARY), months=1),
        )
    )
    return [
        credit.GrantCreditRequest(
            customer_id=payer.id,
            amount=Money(currency_code="GBP", units=5),
            kind=credit_pb2.CreditGrant.PROMOTIONAL,
            priority=7,
            effective_time=wire.timestamp(JANUARY),
            expire_time=wire.timestamp(FEBRUARY),
            scope=credit_pb2.CreditScope(
                product_ids=[product_id],
                price_ids=[plan.prices[0].id],
                meters=["water"],
                subscription_ids=[subscription.id],
            ),
            note="Fuzzed",
        ),
        credit.GetCreditGrantRequest(id=grant.id),
        credit.ListCreditGrantsRequest(customer_id=payer.id, open_only=True, page_size=10),
        credit.RevokeCreditGrantRequest(id=grant.id),
        credit.GetCreditBalanceRequest(customer_id=payer.id, currency="GBP"),
        credit.ListCreditBalancesRequest(customer_id=payer.id, page_size=10),
        credit.ListCreditMovementsRequest(customer_id=payer.id, grant_id=grant.id, page_size=10),
        credit.SetLowCreditThresholdRequest(
            customer_id=payer.id, currency="GBP", threshold=Money(currency_code="GBP", units=1)
        ),
        credit.ReserveCreditRequest(
            customer_id=payer.id,
            amount=Money(currency_code="GBP", units=1),
            time_to_live_seconds=60,
            use=credit.CreditUse(
                product_id=product_id, price_id=plan.prices[0].id, meter="water", subscription_id=subscription.id
            ),
            reference="fuzzed",
        ),
        credit.GetCreditReservationRequest(id=aside.id),
        credit.CommitCreditReservationRequest(id=aside.id, amount=Money(currency_code="GBP", units=1)),
        credit.ReleaseCreditReservationRequest(id=aside.id),
        credit.SetTopUpRuleRequest(
            customer_id=payer.id,
            amount=Money(currency_code="GBP", units=10),
            schedule=credit_pb2.CreditTopUpRule.Schedule(start_time=wire.timestamp(JANUARY), months=3),
            priority=7,
            expires_after_days=90,
            top_ups_per_day_max=2,
        ),
        credit.GetTopUpRuleRequest(customer_id=payer.id, currency="GBP"),
        credit.ListTopUpRulesRequest(page_size=10),
        credit.DeleteTopUpRuleRequest(customer_id=payer.id, currency="GBP"),
    ]
