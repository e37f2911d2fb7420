"""A small world in which everything has happened that the checker looks at, and what it would be, corrupted."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
from google.type import decimal_pb2, money_pb2
from google.type.money_pb2 import Money

from common import ids, wire
from common.bus import MemoryBus
from common.caller import Role
from common.ids import SellerId
from common.period import Period
from common.testing import SANDBOX_START, SERVICES, Databases, Keys, Suite
from common.travel import quiet, travel
from saldo.catalog.v1 import catalog_service_pb2, coupon_pb2, coupon_service_pb2, product_pb2
from saldo.catalog.v1.coupon_service_pb2_grpc import CouponServiceStub
from saldo.invoicing.v1 import (
    bill_run_pb2,
    bill_runs_service_pb2,
    credit_note_pb2,
    credit_notes_service_pb2,
    credit_pb2,
    credit_service_pb2,
    invoice_pb2,
    invoicing_service_pb2,
    manual_invoice_pb2,
)
from saldo.invoicing.v1 import manual_invoices_service_pb2 as manual_pb
from saldo.metering.v1 import (
    backfill_service_pb2,
    corrections_service_pb2,
    freeze_service_pb2,
    meter_pb2,
    metering_service_pb2,
    quota_service_pb2,
    usage_event_pb2,
    usage_threshold_pb2,
    usage_threshold_service_pb2,
)
from saldo.operations.v1 import operations_service_pb2
from saldo.payments.v1 import payments_service_pb2
from saldo.subscriptions.v1 import customer_pb2, entitlement_pb2, entitlement_service_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.subscription_pb2 import SubscriptionAction, SubscriptionChange
from tests.check.early import begin_early_bills, go_on_with_early_bills
from tests.check.given_back import leave_what_was_credited
from tests.check.late_usage import settle_late_usage
from tests.check.merged import merge_with_credit
from tests.check.taxes import bill_with_taxes
from tests.check.zero_invoices import bill_for_nothing
from tools.check.journal import Journal
from tools.check.records import Records, Sources, read_records, read_tables
from tools.client import Client
from tools.demo import requests
from tools.demo.folder import read_folder
from tools.demo.loading import load
from tools.demo.timeline import end_of, play

CHECKS = "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0"
STORY = Path(__file__).parent / "story"


class World:
    """The databases after the story, with no service running any more."""

    def __init__(self, urls: dict[str, str], admin_url: str, journal: Path, seller_id: str) -> None:
        self.urls = urls
        self.seller_id = seller_id
        self.journal = journal
        self._admin_url = admin_url
        self._bare: dict[str, str] = {}
        self._true: Records | None = None

    @property
    def sources(self) -> Sources:
        return Sources(databases=self.urls, journals=[self.journal])

    async def corrupted(self, service: str, *statements: str) -> Records:
        """What would be read if one thing had been done to the data of one service, as no service would."""
        if self._true is None:
            self._true = await read_records(self.sources)
        if service not in self._bare:
            self._bare[service] = await self._copy_without_checks(urlsplit(self.urls[service]).path[1:])
        # The administrator is above row-level security, and whatever else would forbid it is taken away.
        connection = await asyncpg.connect(
            self._url(self._bare[service]), server_settings={"session_replication_role": "replica", "timezone": "UTC"}
        )
        transaction = connection.transaction()
        try:
            await transaction.start()
            for statement in statements:
                outcome = await connection.execute(statement)
                assert not outcome.endswith(" 0"), f"nothing was corrupted by {statement}"
            tables = await read_tables(connection)
            await transaction.rollback()
        finally:
            await connection.close()
        true = self._true
        return Records(tables={**true.tables, service: tables}, entries=true.entries, at=true.at)

    async def _copy_without_checks(self, database: str) -> str:
        name = f"{database}_copy"
        admin = await asyncpg.connect(self._admin_url)
        try:
            await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{database}" STRATEGY FILE_COPY')
        finally:
            await admin.close()
        connection = await asyncpg.connect(self._url(name))
        try:
            for table, constraint in await connection.fetch(CHECKS):
                await connection.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{constraint}"')
        finally:
            await connection.close()
        return name

    def _url(self, database: str) -> str:
        return urlsplit(self._admin_url)._replace(path=f"/{database}").geturl()


async def redeem_coupons(suite: Suite, seller_id: SellerId) -> None:
    """With and without a code, more than once by one customer, and once for nothing."""
    api = suite.stub(CouponServiceStub, "catalog", seller=seller_id)
    tenth = coupon_pb2.PercentOff(percent=decimal_pb2.Decimal(value="10"))
    spring, autumn = [
        await api.CreateCoupon(
            coupon_service_pb2.CreateCouponRequest(
                coupon=coupon_pb2.Coupon(
                    code=code, display_name=code, percent_off=tenth, duration=coupon_pb2.Coupon.ONCE, redemptions_max=9
                )
            )
        )
        for code in ("spring", "autumn")
    ]
    await api.CreateCouponCodes(coupon_service_pb2.CreateCouponCodesRequest(coupon_id=spring.id, code="HELLO"))
    ada, bob = (ids.mint("cus", SANDBOX_START) for _ in range(2))
    for _ in range(2):
        await api.RedeemCoupon(coupon_service_pb2.RedeemCouponRequest(coupon_code="HELLO", customer_id=ada))
    await api.RedeemCoupon(coupon_service_pb2.RedeemCouponRequest(coupon_id=spring.id, customer_id=bob))
    mistake = await api.RedeemCoupon(coupon_service_pb2.RedeemCouponRequest(coupon_id=autumn.id, customer_id=bob))
    await api.ReleaseRedemption(coupon_service_pb2.ReleaseRedemptionRequest(id=mistake.id))


async def give_credit(client: Client) -> None:
    """To two who pay: one is given some in every way that there is, and it goes in every way; the other buys some every
    month.
    """
    listed = await client.subscriptions.ListCustomers(pb.ListCustomersRequest(page_size=100))
    customers = {each.external_id: each.id for each in listed.customers}

    def euros(units: int) -> Money:
        return Money(currency_code="EUR", units=units)

    async def give(units: int, **told: Any) -> str:  # Any: fields of the request
        terms = {"customer_id": customers["models"], "kind": credit_pb2.CreditGrant.PAID, **told}
        made = await client.credit.GrantCredit(credit_service_pb2.GrantCreditRequest(amount=euros(units), **terms))
        return str(made.id)

    async def reserve(units: int) -> str:
        request = credit_service_pb2.ReserveCreditRequest(
            customer_id=customers["models"], amount=euros(units), time_to_live_seconds=3_600
        )
        return str((await client.credit.ReserveCredit(request)).id)

    await client.credit.SetLowCreditThreshold(
        credit_service_pb2.SetLowCreditThresholdRequest(
            customer_id=customers["models"], currency="EUR", threshold=euros(5)
        )
    )
    expire_time = wire.timestamp(SANDBOX_START + timedelta(days=20))
    await give(1, kind=credit_pb2.CreditGrant.PROMOTIONAL, expire_time=expire_time)
    taken = await give(5)
    await client.credit.RevokeCreditGrant(credit_service_pb2.RevokeCreditGrantRequest(id=taken))
    await give(8, priority=7)
    used, unused, _ = [await reserve(units) for units in (3, 2, 1)]
    commit = credit_service_pb2.CommitCreditReservationRequest(id=used, amount=euros(1))
    await client.credit.CommitCreditReservation(commit)
    release = credit_service_pb2.ReleaseCreditReservationRequest(id=unused)
    await client.credit.ReleaseCreditReservation(release)
    await give(2, scope=credit_pb2.CreditScope(meters=["traffic"]))
    await give(9, scope=credit_pb2.CreditScope(meters=["nothing of the kind"]))
    schedule = credit_pb2.CreditTopUpRule.Schedule(
        start_time=wire.timestamp(SANDBOX_START + timedelta(days=14)), months=1
    )
    await client.credit.SetTopUpRule(
        credit_service_pb2.SetTopUpRuleRequest(customer_id=customers["mixed"], amount=euros(3), schedule=schedule)
    )


async def take_more_seats(client: Client, at: datetime) -> None:
    """In the middle of a period: what was billed for fewer is credited."""
    await travel(client.operations, at + timedelta(days=9))
    listed = await client.subscriptions.ListSubscriptions(pb.ListSubscriptionsRequest())
    seats = [(each.id, item.id) for each in listed.subscriptions for item in each.items if item.HasField("quantity")]
    discounted = [each.id for each in listed.subscriptions if each.discounts and len(each.items) > 1]
    for subscription_id, item_id in (seats[0], *(each for each in seats if each[0] in discounted)):
        more = SubscriptionAction.SetQuantity(item_id=item_id, quantity=decimal_pb2.Decimal(value="4"))
        await client.subscriptions.ChangeSubscription(
            pb.ChangeSubscriptionRequest(
                id=subscription_id, actions=[SubscriptionAction(set_quantity=more)], unused=SubscriptionChange.CREDIT
            )
        )
    await travel(client.operations, at + timedelta(days=11))


async def discount_subscriptions(client: Client) -> None:
    """Coupons by percent and by amount, for ever and once; a change that takes some of it back; and a commitment."""
    listed = await client.catalog.ListPlans(catalog_service_pb2.ListPlansRequest(page_size=100))
    studio, mixed = (next(plan for plan in listed.plans if plan.code == code) for code in ("studio", "mixed"))
    seats = next(price for price in mixed.prices if price.code == "seats")

    async def coupon(code: str, **fields: Any) -> str:  # Any: fields of a message
        wanted = coupon_pb2.Coupon(code=code, display_name=code, **fields)
        return (await client.coupons.CreateCoupon(coupon_service_pb2.CreateCouponRequest(coupon=wanted))).id

    tenth = coupon_pb2.PercentOff(percent=decimal_pb2.Decimal(value="10"))
    sixty = coupon_pb2.AmountOff(amounts=[money_pb2.Money(currency_code="EUR", units=60)])
    coupons = [
        await coupon("tenth", percent_off=tenth, duration=coupon_pb2.Coupon.FOREVER, products=["seats", "studio"]),
        await coupon("sixty", amount_off=sixty, duration=coupon_pb2.Coupon.ONCE),
        await coupon(
            "twice", percent_off=tenth, duration=coupon_pb2.Coupon.REPEATING, duration_periods=2, plans=["studio"]
        ),
    ]
    customer = await client.subscriptions.CreateCustomer(
        pb.CreateCustomerRequest(
            external_id="discounted",
            contact=customer_pb2.Contact(display_name="Discounted"),
            billing_profile=customer_pb2.BillingProfile(
                currency="EUR",
                time_zone="Europe/Berlin",
                net_terms_days=365,
                collection_method=customer_pb2.BillingProfile.SEND_INVOICE,
            ),
        )
    )
    tenth_off, sixty_off, twice_off = (SubscriptionAction.ApplyDiscount(coupon_id=each) for each in coupons)
    minimum = subscription_pb2.Commitment(minimum=money_pb2.Money(currency_code="EUR", units=75), months=1)
    await client.subscriptions.CreateSubscription(
        pb.CreateSubscriptionRequest(
            customer_id=customer.id,
            plan_id=studio.id,
            billing_day=1,
            discounts=[twice_off, tenth_off, sixty_off],
            commitment=minimum,
        )
    )
    changed = await client.subscriptions.CreateSubscription(
        pb.CreateSubscriptionRequest(
            customer_id=customer.id, plan_id=mixed.id, billing_day=1, discounts=[tenth_off, sixty_off]
        )
    )
    item = next(item for item in changed.items if item.price_id == seats.id)
    action = SubscriptionAction(
        set_quantity=SubscriptionAction.SetQuantity(item_id=item.id, quantity=decimal_pb2.Decimal(value="3"))
    )
    await client.subscriptions.ChangeSubscription(
        pb.ChangeSubscriptionRequest(
            id=changed.id,
            actions=[action],
            timing=SubscriptionChange.AT_TIME,
            effective_time=wire.timestamp(SANDBOX_START + timedelta(days=40)),
            unused=SubscriptionChange.CREDIT,
        )
    )
    await write_by_hand(client, customer.id)


async def write_by_hand(client: Client, customer_id: str) -> None:
    """An invoice that is finalized, one that is not, a line that joins a bill run, and one that waits for ever."""
    quarter = invoice_pb2.GivenDiscount(description="A quarter", percent=decimal_pb2.Decimal(value="25"))
    five = invoice_pb2.GivenDiscount(description="Five euros", amount=money_pb2.Money(currency_code="EUR", units=5))
    work = manual_invoice_pb2.ManualLine(
        description="Work",
        quantity=decimal_pb2.Decimal(value="2.5"),
        unit_price=decimal_pb2.Decimal(value="80.30"),
        discounts=[quarter],
    )
    parts = manual_invoice_pb2.ManualLine(description="Parts", amount=money_pb2.Money(currency_code="EUR", units=12))
    drafts = [
        await client.manual_invoices.CreateInvoice(
            manual_pb.CreateInvoiceRequest(
                customer_id=customer_id, lines=[work, parts], discounts=[five], memo="Thank you", purchase_order="7"
            )
        )
        for _ in range(2)
    ]
    await client.invoicing.FinalizeInvoice(invoicing_service_pb2.FinalizeInvoiceRequest(id=drafts[0].id))
    for currency in ("EUR", "USD"):
        line = manual_invoice_pb2.ManualLine(
            description="Setup", unit_price=decimal_pb2.Decimal(value="99"), discounts=[quarter]
        )
        await client.manual_invoices.CreatePendingLine(
            manual_pb.CreatePendingLineRequest(customer_id=customer_id, line=line, currency=currency)
        )
    await quiet(client.operations)


async def take_back(client: Client) -> invoice_pb2.Invoice:
    """What was billed: a part, with and without a refund, and all of it to be billed anew; and one invoice is given up.
    Answers one that is to be void in the end.
    """
    (plan,) = [
        each
        for each in (await client.catalog.ListPlans(catalog_service_pb2.ListPlansRequest(page_size=100))).plans
        if each.code == "studio"
    ]

    async def billed(name: str, *, token: str = "") -> invoice_pb2.Invoice:
        collected = customer_pb2.BillingProfile.CHARGE_AUTOMATICALLY
        profile = customer_pb2.BillingProfile(
            currency="EUR",
            time_zone="UTC",
            net_terms_days=30,
            collection_method=collected if token else customer_pb2.BillingProfile.SEND_INVOICE,
        )
        customer = await client.subscriptions.CreateCustomer(
            pb.CreateCustomerRequest(
                external_id=name, contact=customer_pb2.Contact(display_name=name), billing_profile=profile
            )
        )
        if token:
            await client.payments.AttachPaymentMethod(
                payments_service_pb2.AttachPaymentMethodRequest(
                    customer_id=customer.id, gateway="simulated", token=token
                )
            )
        await client.subscriptions.CreateSubscription(
            pb.CreateSubscriptionRequest(customer_id=customer.id, plan_id=plan.id)
        )
        await quiet(client.operations)
        request = invoicing_service_pb2.ListInvoicesRequest(customer_id=customer.id)
        (invoice,) = (await client.invoicing.ListInvoices(request)).invoices
        return invoice

    async def credit(invoice: invoice_pb2.Invoice, **changes: Any) -> credit_note_pb2.CreditNote:
        # Any: fields of the request
        ten = Money(currency_code="EUR", units=10)
        tenth = credit_notes_service_pb2.LineItemToCredit(line_item_id=invoice.line_items[0].id, amount=ten)
        return await client.credit_notes.CreateCreditNote(
            credit_notes_service_pb2.CreateCreditNoteRequest(
                invoice_id=invoice.id, line_items=[tenth], reason=credit_note_pb2.CreditNote.BILLING_ERROR, **changes
            )
        )

    await credit(await billed("less"))
    await credit(await billed("declined and less", token="sim:decline"))
    paid = await billed("refunded", token="sim:ok")
    note = await credit(paid, preference=credit_notes_service_pb2.CreateCreditNoteRequest.REFUND_FIRST)
    await client.credit_notes.RecordRefund(
        credit_notes_service_pb2.RecordRefundRequest(
            id=note.id, amount=Money(currency_code="EUR", units=4), reference="refund"
        )
    )
    await client.invoicing.ReissueInvoice(
        invoicing_service_pb2.ReissueInvoiceRequest(
            id=(await billed("reissued")).id, reason=credit_note_pb2.CreditNote.DUPLICATE
        )
    )
    await client.invoicing.MarkInvoiceUncollectible(
        invoicing_service_pb2.MarkInvoiceUncollectibleRequest(id=(await billed("given up", token="sim:decline")).id)
    )
    await quiet(client.operations)
    return await billed("void")


async def void(client: Client, invoice: invoice_pb2.Invoice) -> None:
    """So late that nobody has billed anew what it billed."""
    await client.invoicing.VoidInvoice(
        invoicing_service_pb2.VoidInvoiceRequest(id=invoice.id, reason=credit_note_pb2.CreditNote.DUPLICATE)
    )
    await quiet(client.operations)


async def run_bills(client: Client) -> None:
    """For one who owes something, and for one who does not."""
    plans = await client.catalog.ListPlans(catalog_service_pb2.ListPlansRequest(page_size=100))
    (plan,) = [each for each in plans.plans if each.code == "studio"]
    invoicing = client.operations["invoicing"]
    now = (await invoicing.GetClock(operations_service_pb2.GetClockRequest())).time
    # Nobody is billed before the bill run begins.
    await invoicing.AdvanceClock(operations_service_pb2.AdvanceClockRequest(time=now, hold=True))
    profile = customer_pb2.BillingProfile(currency="EUR", time_zone="UTC", net_terms_days=30)
    customer_ids = [
        (
            await client.subscriptions.CreateCustomer(
                pb.CreateCustomerRequest(
                    external_id=name, contact=customer_pb2.Contact(display_name=name), billing_profile=profile
                )
            )
        ).id
        for name in ("in a bill run", "in a bill run for nothing")
    ]
    await client.subscriptions.CreateSubscription(
        pb.CreateSubscriptionRequest(customer_id=customer_ids[0], plan_id=plan.id)
    )
    request = bill_runs_service_pb2.CreateBillRunRequest(
        scope=bill_run_pb2.BillRun.CUSTOMERS, customer_ids=customer_ids
    )
    run = await client.bill_runs.CreateBillRun(request)
    await invoicing.AdvanceClock(operations_service_pb2.AdvanceClockRequest(time=now))
    await quiet(client.operations)
    done = await client.bill_runs.GetBillRun(bill_runs_service_pb2.GetBillRunRequest(id=run.id))
    assert (done.progress.billed_count, done.progress.nothing_owed_count) == (1, 1)


async def freeze_usage(client: Client) -> None:
    """Of somebody who is billed for nothing; then something comes too late for it, and for what corrects it; at last
    some of that is corrected itself.
    """
    january = Period(SANDBOX_START, SANDBOX_START + timedelta(days=31))
    frank = ids.mint("cus", SANDBOX_START)
    query = metering_service_pb2.UsageQuery(customer_id=frank, meter="power", period=wire.interval(january))

    def event(event_id: str, value: str = "1.5") -> usage_event_pb2.UsageEvent:
        return usage_event_pb2.UsageEvent(
            id=event_id,
            source="frank",
            customer=frank,
            meter="power",
            time=query.period.start_time,
            value=decimal_pb2.Decimal(value=value),
        )

    async def used(event_id: str) -> None:
        await client.metering.IngestEvents(metering_service_pb2.IngestEventsRequest(events=[event(event_id)]))

    await used("in time")
    first = await client.freezes.FreezeUsage(freeze_service_pb2.FreezeUsageRequest(query=query))
    await used("late")
    await client.freezes.FreezeUsage(freeze_service_pb2.FreezeUsageRequest(query=query, replaces=first.id))
    await used("later")
    amend = corrections_service_pb2.AmendEventRequest(event=event("late", "2.5"), reason="read wrongly")
    await client.corrections.AmendEvent(amend)
    await used("voided")
    void = corrections_service_pb2.VoidEventRequest(source="frank", id="voided", reason="of somebody else")
    await client.corrections.VoidEvent(void)

    async def backfill(*event_ids: str) -> str:
        opened = await client.backfills.OpenBackfill(backfill_service_pb2.OpenBackfillRequest(reason="was offline"))
        events = [event(event_id) for event_id in event_ids]
        await client.metering.IngestEvents(
            metering_service_pb2.IngestEventsRequest(events=events, backfill_id=opened.id)
        )
        return opened.id

    async def closed(*event_ids: str) -> str:
        backfill_id = await backfill(*event_ids)
        await client.backfills.CloseBackfill(backfill_service_pb2.CloseBackfillRequest(id=backfill_id))
        return backfill_id

    for backfill_id in (await closed("filled", "wrong"), await backfill("wrong too")):
        await client.backfills.RevertBackfill(
            backfill_service_pb2.RevertBackfillRequest(id=backfill_id, reason="the wrong file")
        )
    await closed("filled", "right")
    await backfill("loaded")


async def update_meters(client: Client) -> None:
    """One before it is billed, with effect in the middle of the story; and one after what it counted was frozen."""
    listed = await client.metering.ListMeters(metering_service_pb2.ListMetersRequest(page_size=100))
    power = next(meter for meter in listed.meters if meter.code == "power")
    await client.metering.UpdateMeter(
        metering_service_pb2.UpdateMeterRequest(
            id=power.id,
            value_expression="value * 1",
            effective_time=wire.timestamp(datetime(2026, 2, 10, tzinfo=UTC)),
        )
    )
    water = await client.metering.CreateMeter(
        metering_service_pb2.CreateMeterRequest(code="water", display_name="Water", aggregation=meter_pb2.Meter.SUM)
    )
    december = Period(SANDBOX_START - timedelta(days=31), SANDBOX_START)
    query = metering_service_pb2.UsageQuery(
        customer_id=ids.mint("cus", SANDBOX_START), meter="water", period=wire.interval(december)
    )
    used = [
        usage_event_pb2.UsageEvent(
            id=f"{value} litres",
            source="grace",
            customer=query.customer_id,
            meter="water",
            time=query.period.start_time,
            value=decimal_pb2.Decimal(value=value),
        )
        for value in ("3", "4")
    ]
    await client.metering.IngestEvents(metering_service_pb2.IngestEventsRequest(events=used))
    await client.freezes.FreezeUsage(freeze_service_pb2.FreezeUsageRequest(query=query))
    await client.metering.UpdateMeter(
        metering_service_pb2.UpdateMeterRequest(
            id=water.id, aggregation=meter_pb2.Meter.MAX, effective_time=query.period.start_time, recount=True
        )
    )


async def watch_usage(client: Client) -> None:
    """Of every customer: what is used by then is warned of, and is still below the value."""
    year = usage_threshold_pb2.CalendarPeriod(length=usage_threshold_pb2.CalendarPeriod.YEAR)
    request = usage_threshold_service_pb2.CreateUsageThresholdRequest(
        meter="power",
        calendar=year,
        value=decimal_pb2.Decimal(value="1000000"),
        warning_value=decimal_pb2.Decimal(value="1"),
    )
    await client.usage_thresholds.CreateUsageThreshold(request)
    archived = await client.usage_thresholds.CreateUsageThreshold(request)
    await client.usage_thresholds.ArchiveUsageThreshold(
        usage_threshold_service_pb2.ArchiveUsageThresholdRequest(id=archived.id)
    )


async def reserve_quota(client: Client) -> None:
    """All of a quota, bit by bit: some is used, some given back, and some is forgotten."""
    listed = await client.subscriptions.ListSubscriptions(pb.ListSubscriptionsRequest(page_size=1))
    customer_id = listed.subscriptions[0].customer_id
    await client.metering.CreateMeter(
        metering_service_pb2.CreateMeterRequest(code="reports", display_name="Reports", aggregation=meter_pb2.Meter.SUM)
    )
    await client.catalog.CreateFeature(
        catalog_service_pb2.CreateFeatureRequest(
            code="reports", display_name="Reports", kind=product_pb2.Feature.QUOTA, meter="reports"
        )
    )
    ten = entitlement_pb2.EntitlementGrant(
        quota=decimal_pb2.Decimal(value="10"),
        reset_interval=entitlement_pb2.ResetInterval(unit=entitlement_pb2.ResetInterval.YEAR, count=1),
    )
    await client.entitlements.SetEntitlementOverride(
        entitlement_service_pb2.SetEntitlementOverrideRequest(
            customer_id=customer_id, feature="reports", grant=ten, reason="as agreed"
        )
    )
    await quiet(client.operations)

    async def acquire(quantity: int) -> str:
        answer = await client.quotas.AcquireQuota(
            quota_service_pb2.AcquireQuotaRequest(
                customer_id=customer_id,
                feature="reports",
                quantity=decimal_pb2.Decimal(value=str(quantity)),
                time_to_live_seconds=3_600,
            )
        )
        return answer.reservation.id

    used, given_back, _, _ = [await acquire(quantity) for quantity in (4, 3, 1, 2)]
    await client.quotas.CommitQuota(quota_service_pb2.CommitQuotaRequest(id=used))
    await client.quotas.ReleaseQuota(quota_service_pb2.ReleaseQuotaRequest(id=given_back))
    await acquire(3)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(databases: Databases, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Played once: what tests corrupt is taken back."""
    suite = Suite(databases, keys, MemoryBus())
    journal_path = tmp_path_factory.mktemp("check") / "journal.jsonl"
    try:
        await suite.start(*SERVICES)
        example = read_folder(STORY).example
        addresses = {name: service.address for name, service in suite.running.items()}
        platform = Client(addresses, keys.token(role=Role.PLATFORM, seller_id=None))
        seller = await platform.catalog.CreateSeller(
            requests.create_seller(example.seller, start=example.story.start, key="seller")
        )
        await platform.close()
        await redeem_coupons(suite, SellerId(seller.id))
        with Journal(journal_path, seller_id=seller.id) as journal:
            token = keys.token(role=Role.OWNER, seller_id=SellerId(seller.id))
            async with Client(addresses, token, record=journal.record) as client:
                loaded = await load(client, example, lambda _: None)
                await update_meters(client)
                await give_credit(client)
                await discount_subscriptions(client)
                await play(client, example, loaded, lambda _time, _sent: None)
                await freeze_usage(client)
                await watch_usage(client)
                await reserve_quota(client)
                await take_more_seats(client, end_of(example.story))
                await bill_with_taxes(client, end_of(example.story) + timedelta(days=12))
                to_void = await take_back(client)
                await bill_for_nothing(client)
                await merge_with_credit(client)
                await begin_early_bills(client, end_of(example.story) + timedelta(days=13))
                await settle_late_usage(client, end_of(example.story) + timedelta(days=14))
                await go_on_with_early_bills(client, end_of(example.story) + timedelta(days=20))
                await leave_what_was_credited(client)
                await void(client, to_void)
                await run_bills(client)
        await suite.stop(*SERVICES)
        yield World(dict(suite.urls), os.environ["SALDO_POSTGRES_URL"], journal_path, seller.id)
    finally:
        await suite.close()
