"""Knows every RPC there is, from the descriptors, and one request for each that its service would take seriously."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import grpc.aio
from google.protobuf.descriptor import FieldDescriptor, FileDescriptor
from google.protobuf.message import Message
from google.type.decimal_pb2 import Decimal
from google.type.interval_pb2 import Interval
from google.type.money_pb2 import Money

from common import wire
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.catalog.v1 import coupon_service_pb2 as coupons
from saldo.catalog.v1.coupon_pb2 import Coupon, PercentOff
from saldo.catalog.v1.product_pb2 import Feature
from saldo.catalog.v1.seller_pb2 import Seller
from saldo.dunning.v1 import dunning_service_pb2 as dunning
from saldo.dunning.v1.dunning_policy_pb2 import DunningPolicy
from saldo.invoicing.v1 import bill_runs_service_pb2 as bill_runs
from saldo.invoicing.v1 import consolidation_service_pb2 as consolidation
from saldo.invoicing.v1 import invoicing_service_pb2 as invoicing
from saldo.invoicing.v1 import ledger_service_pb2 as ledger
from saldo.invoicing.v1 import proof_service_pb2 as proof
from saldo.invoicing.v1 import rating_pb2
from saldo.invoicing.v1 import rating_service_pb2 as rating
from saldo.invoicing.v1 import spend_thresholds_service_pb2 as spend_thresholds
from saldo.invoicing.v1.bill_run_pb2 import BillRun
from saldo.invoicing.v1.consolidation_policy_pb2 import ConsolidationPolicy
from saldo.invoicing.v1.spend_threshold_pb2 import SpendThreshold
from saldo.metering.v1 import archive_service_pb2 as archives
from saldo.metering.v1 import backfill_service_pb2 as backfills
from saldo.metering.v1 import corrections_service_pb2 as corrections
from saldo.metering.v1 import freeze_service_pb2 as freezes
from saldo.metering.v1 import metering_service_pb2 as metering
from saldo.metering.v1 import quota_service_pb2 as quotas
from saldo.metering.v1 import usage_threshold_service_pb2 as thresholds
from saldo.metering.v1.meter_pb2 import Meter
from saldo.metering.v1.usage_threshold_pb2 import CalendarPeriod
from saldo.operations.v1 import operations_service_pb2 as operations
from saldo.payments.v1 import payments_service_pb2 as payments
from saldo.payments.v1.payment_pb2 import OutsidePayment
from tests.contracts.descriptors import files, package_of
from tests.support.credit_note_requests import credit_note_requests
from tests.support.credit_requests import credit_requests
from tests.support.manual_requests import manual_requests
from tests.support.sandbox import ADDRESS, Sandbox, flat, graduated, per_unit, usage
from tests.support.subscription_requests import subscription_requests
from tests.support.tax_requests import tax_requests

SERVICES: Final = ("catalog", "subscriptions", "metering", "invoicing", "payments", "dunning")
JANUARY: Final = datetime(2026, 1, 1, tzinfo=UTC)
DECEMBER: Final = datetime(2025, 12, 1, tzinfo=UTC)
FEBRUARY: Final = datetime(2026, 2, 1, tzinfo=UTC)

NOTHING: Final = (
    "", "\x00", "a\x00b", "\x1b[31m", " ", "é" * 40, "💥", "\u202eevil", "x" * 5_000, "' OR '1'='1", "cus_0", "-1",
    "9" * 400, "NaN",
)  # fmt: skip
GARBAGE: Final[Mapping[int, tuple[Any, ...]]] = {  # Any: a value of the field's type
    FieldDescriptor.CPPTYPE_STRING: NOTHING,
    FieldDescriptor.CPPTYPE_INT32: (-1, 367, 2**31 - 1, -(2**31)),
    FieldDescriptor.CPPTYPE_INT64: (-1, 2**63 - 1, -(2**63)),
    FieldDescriptor.CPPTYPE_UINT32: (2**32 - 1,),
    FieldDescriptor.CPPTYPE_UINT64: (2**64 - 1,),
    FieldDescriptor.CPPTYPE_BOOL: (True, False),
    FieldDescriptor.CPPTYPE_ENUM: (0, 999, -1),
}
BYTES: Final = (b"", b"\x00\xff", b"x" * 5_000)
DECIMALS: Final = ("", "NaN", "sNaN", "Infinity", "-1", "1e999999999", "1e-400", "0x10", "1_000", "٣", "9" * 400, " 1")
AMOUNTLIKE: Final = "google.type.Decimal"
DEPTH_MAX: Final = 6
READ_ALIKE: Final[Mapping[str, tuple[str, ...]]] = {
    "saldo.catalog.v1.Price": ("catalog.CreatePlan", "invoicing.Rate"),
    "saldo.metering.v1.UsageQuery": ("metering.FreezeUsage",),
}
"""One function of a service reads it, in whichever request it comes. In the one that is named here, where it is also
stored if it ever is, each of its fields meets every kind of garbage; the others divide them among themselves."""
NAME_NOTHING: Final = ("CreateCoupon", "PreviewDiscounts", "CreateTaxRate")
"""What they are about is told in full: its id is not looked at."""


CLIENT_NAMES: Final = {
    "backfill": "backfills",
    "correction": "corrections",
    "archive": "archives",
    "coupon": "coupons",
    "creditnotes": "credit_notes",
    "entitlement": "entitlements",
    "freeze": "freezes",
    "manualinvoices": "manual_invoices",
    "personaldata": "personal_data",
    "planmigration": "plan_migrations",
    "quota": "quotas",
    "seat": "seats",
    "taxid": "tax_ids",
    "usagethreshold": "usage_thresholds",
}


@dataclass(frozen=True, slots=True)
class Rpc:
    """One method of a service: `catalog`, `CreatePlan`, and what it takes."""

    service: str
    name: str
    contract: str
    request_class: type[Message]
    response_class: type[Message]
    streams: bool

    @property
    def path(self) -> str:
        return f"/{self.contract}/{self.name}"

    @property
    def stub(self) -> str:
        """What a client calls the contract."""
        name = self.contract.rpartition(".")[2].removesuffix("Service").lower()
        return CLIENT_NAMES.get(name, name)

    def method_of(self, channel: grpc.aio.Channel) -> Any:  # Any: what a generated stub would have by this name
        make = channel.stream_stream if self.streams else channel.unary_unary
        return make(
            self.path,
            request_serializer=self.request_class.SerializeToString,
            response_deserializer=self.response_class.FromString,
        )

    def __str__(self) -> str:
        return f"{self.service}.{self.name}"


def rpcs() -> list[Rpc]:
    """Every RPC of the six services, and the operations of one of them: the chassis answers them alike in all."""
    return [rpc for file in files() for rpc in _rpcs(file)]


async def requests_for(sandbox: Sandbox) -> dict[str, Message]:
    """By the RPC's path: a request that names only things which exist, in a sandbox that has a little of everything."""
    meter_id = await sandbox.meter("water")
    plan = await sandbox.plan("basic", flat("fee", "20.00"), per_unit("m3", "2.00", meter="water"))
    product_id = plan.prices[0].product_id
    await sandbox.policy(3, final_action=DunningPolicy.NONE)
    payer = await sandbox.customer("payer", token="sim:decline")
    subscription = await sandbox.subscribe(payer, plan)
    await sandbox.travel(datetime(2026, 1, 3, tzinfo=UTC))
    (invoice,) = await sandbox.invoices(payer)
    (payment,) = await sandbox.payments(payer)
    (campaign,) = await sandbox.campaigns(payer)
    fresh = graduated("calls", ("10", "1"), ("", "0.5"), meter="water")
    fresh.product_id = product_id
    more = flat("more", "1.00")
    more.product_id = product_id
    draft = await sandbox.client.catalog.CreatePlan(
        catalog.CreatePlanRequest(code="draft", display_name="Draft", prices=[fresh])
    )
    together = await sandbox.client.consolidation.SetConsolidationPolicy(
        consolidation.SetConsolidationPolicyRequest(
            scope=ConsolidationPolicy.CUSTOMER, scope_id=payer.id, keys=["subscription"]
        )
    )
    most = await sandbox.client.spend_thresholds.SetSpendThreshold(
        spend_thresholds.SetSpendThresholdRequest(
            scope=SpendThreshold.CUSTOMER, scope_id=payer.id, amount=Money(currency_code="EUR", units=1_000)
        )
    )
    run = await sandbox.client.bill_runs.CreateBillRun(
        bill_runs.CreateBillRunRequest(scope=BillRun.CUSTOMERS, customer_ids=[payer.id])
    )
    half: Any = {"percent_off": PercentOff(percent=Decimal(value="50"))}  # Any: fields of a message
    coupon = await sandbox.client.coupons.CreateCoupon(
        coupons.CreateCouponRequest(coupon=Coupon(code="half", display_name="Half", duration=Coupon.FOREVER, **half))
    )
    redemption = await sandbox.client.coupons.RedeemCoupon(
        coupons.RedeemCouponRequest(coupon_id=coupon.id, customer_id=payer.id)
    )
    exported = await sandbox.client.catalog.ExportCatalog(catalog.ExportCatalogRequest())
    period = Interval(start_time=wire.timestamp(JANUARY), end_time=wire.timestamp(FEBRUARY))
    query = metering.UsageQuery(customer_id=payer.id, external_id="payer", meter="water", period=period)
    used = rating_pb2.UsageToRate(quantity=Decimal(value="12"))
    event = usage(payer, "water", JANUARY, "3", event_id="fuzzed")
    event.customer = payer.id
    wrong = usage(payer, "water", JANUARY, "1", event_id=payer.id)
    await sandbox.use(wrong)
    backfill = await sandbox.client.backfills.OpenBackfill(backfills.OpenBackfillRequest(reason="fuzzed"))
    december = Interval(start_time=wire.timestamp(DECEMBER), end_time=wire.timestamp(JANUARY))
    past = metering.UsageQuery(customer_id=payer.id, external_id="payer", meter="water", period=december)
    frozen = await sandbox.client.freezes.FreezeUsage(freezes.FreezeUsageRequest(query=past))
    limit = thresholds.CreateUsageThresholdRequest(
        meter="water",
        customer_id=payer.id,
        calendar=CalendarPeriod(length=CalendarPeriod.MONTH, time_zone="Europe/London"),
        value=Decimal(value="1000"),
        warning_value=Decimal(value="800"),
    )
    threshold = await sandbox.client.usage_thresholds.CreateUsageThreshold(limit)
    await sandbox.quota(payer, "allowed", meter="water", granted="100")
    reservation = await sandbox.acquire(payer, "allowed", "3")
    three = Decimal(value="3")
    requests: list[Message] = [
        catalog.CreateSellerRequest(
            mode=Seller.SANDBOX,
            display_name="Another",
            address=ADDRESS,
            tax_id="GB123",
            email="another@example.com",
            payment_instructions="By bank transfer",
            invoice_number_prefix="ANO",
            sandbox_start_time=wire.timestamp(JANUARY),
        ),
        catalog.GetSellerRequest(id=sandbox.seller_id),
        catalog.UpdateSellerRequest(display_name="Renamed", address=ADDRESS),
        catalog.CreateProductRequest(code="fuzzed", display_name="Fuzzed", description="…", unit_label="piece"),
        catalog.GetProductRequest(id=product_id),
        catalog.ListProductsRequest(page_size=10),
        catalog.CreatePlanRequest(code="fuzzed", display_name="Fuzzed", prices=[fresh]),
        catalog.CreatePriceRequest(plan_id=draft.id, price=more),
        catalog.PublishPlanRequest(id=draft.id),
        catalog.ArchivePlanRequest(id=plan.id),
        catalog.GetPlanRequest(id=plan.id),
        catalog.ListPlansRequest(page_size=10),
        catalog.BatchGetPricesRequest(ids=[price.id for price in plan.prices]),
        catalog.GetPriceRequest(id=plan.prices[0].id),
        catalog.CheckPriceRequest(price=fresh),
        catalog.UpdateProductRequest(id=product_id, display_name="Renamed", description="…", unit_label="piece"),
        catalog.CreateTaxCodeRequest(code="fuzzed", display_name="Fuzzed"),
        catalog.ListTaxCodesRequest(page_size=10),
        catalog.CreateFeatureRequest(code="fuzzed", display_name="Fuzzed", kind=Feature.SWITCH),
        catalog.ListFeaturesRequest(page_size=10),
        catalog.CreatePlanVersionRequest(code="basic"),
        catalog.UpdatePlanRequest(id=draft.id, display_name="Draft", prices=[fresh]),
        catalog.CreateContractPriceRequest(list_price_id=plan.prices[0].id, customer_id=payer.id, price=more),
        catalog.ListContractPricesRequest(customer_id=payer.id, page_size=10),
        catalog.ExportCatalogRequest(),
        catalog.ApplyCatalogRequest(document=exported.document),
        coupons.CreateCouponRequest(coupon=Coupon(code="fuzzed", display_name="Fuzzed", duration=Coupon.ONCE, **half)),
        coupons.GetCouponRequest(id=coupon.id),
        coupons.ListCouponsRequest(page_size=10),
        coupons.ArchiveCouponRequest(id=coupon.id),
        coupons.CreateCouponCodesRequest(coupon_id=coupon.id, code="FUZZED"),
        coupons.ListCouponCodesRequest(coupon_id=coupon.id, page_size=10),
        coupons.RedeemCouponRequest(coupon_id=coupon.id, customer_id=payer.id),
        coupons.ReleaseRedemptionRequest(id=redemption.id),
        coupons.ListRedemptionsRequest(customer_id=payer.id, coupon_id=coupon.id, page_size=10),
        *await subscription_requests(sandbox, payer=payer, plan=plan, subscription=subscription),
        metering.CreateMeterRequest(code="fuzzed", display_name="Fuzzed", aggregation=Meter.COUNT, unit_label="x"),
        metering.GetMeterRequest(id=meter_id),
        metering.ListMetersRequest(page_size=10),
        metering.UpdateMeterRequest(id=await sandbox.meter("updated"), display_name="Fuzzed again", accepts_days=400),
        metering.ListMeterVersionsRequest(id=meter_id, page_size=10),
        metering.IngestEventsRequest(events=[event]),
        metering.StreamEventsRequest(batch=metering.IngestEventsRequest(events=[event])),
        metering.QueryUsageRequest(query=query),
        metering.BatchQueryUsageRequest(queries=[query]),
        metering.ListEventsRequest(query=query, page_size=10),
        metering.ListUnmatchedUsageRequest(page_size=10),
        corrections.VoidEventRequest(source=wrong.source, id=wrong.id, reason="wrong"),
        corrections.AmendEventRequest(event=wrong, reason="wrong"),
        corrections.GetEventRequest(source=wrong.source, id=wrong.id),
        corrections.ListCorrectionsRequest(page_size=10),
        backfills.OpenBackfillRequest(reason="fuzzed"),
        backfills.CloseBackfillRequest(id=backfill.id, event_count=1),
        backfills.RevertBackfillRequest(id=backfill.id, reason="fuzzed"),
        backfills.GetBackfillRequest(id=backfill.id),
        backfills.ListBackfillsRequest(state=backfills.Backfill.OPEN, page_size=10),
        archives.ListArchivableLeavesRequest(before_time=wire.timestamp(DECEMBER), page_size=10),
        archives.ListLeafEventsRequest(leaf=1, page_size=10),
        archives.ArchiveLeafRequest(leaf=1, event_count=1, digest="0" * 64),
        archives.RestoreEventsRequest(
            leaf=1,
            events=[archives.LoggedEvent(seller_id=sandbox.seller_id, position=1, event=event, key=b"0" * 16)],
        ),
        archives.RestoreLeafRequest(leaf=1),
        freezes.FreezeUsageRequest(query=past, replaces=frozen.id),
        freezes.GetFrozenUsageRequest(id=frozen.id),
        freezes.ListFrozenUsagesRequest(customer_id=payer.id, meter="water", page_size=10),
        freezes.GetLateUsageRequest(id=frozen.id),
        freezes.ListLateUsagesRequest(page_size=10),
        freezes.VerifyDigestRequest(query=frozen.query, digest=frozen.digest),
        limit,
        thresholds.GetUsageThresholdRequest(id=threshold.id),
        thresholds.ListUsageThresholdsRequest(meter="water", customer_id=payer.id, page_size=10),
        thresholds.ArchiveUsageThresholdRequest(id=threshold.id),
        thresholds.ListUsageAlertsRequest(usage_threshold_id=threshold.id, customer_id=payer.id, page_size=10),
        quotas.CheckEntitlementRequest(customer_id=payer.id, feature="allowed", quantity=three),
        quotas.AcquireQuotaRequest(customer_id=payer.id, feature="allowed", quantity=three, time_to_live_seconds=60),
        quotas.CommitQuotaRequest(id=reservation.id, quantity=three, dimensions={"region": "eu"}),
        quotas.ReleaseQuotaRequest(id=reservation.id),
        quotas.GetQuotaReservationRequest(id=reservation.id),
        quotas.ListQuotaReservationsRequest(customer_id=payer.id, page_size=10),
        invoicing.GetInvoiceRequest(id=invoice.id),
        invoicing.ListInvoicesRequest(customer_id=payer.id, page_size=10),
        invoicing.GetUpcomingInvoiceRequest(customer_id=payer.id),
        invoicing.FinalizeInvoiceRequest(id=invoice.id),
        invoicing.HoldInvoiceRequest(id=invoice.id, reason="Under review"),
        invoicing.ReleaseInvoiceRequest(id=invoice.id),
        invoicing.GetIssuingPolicyRequest(),
        invoicing.SetIssuingPolicyRequest(
            policy=invoicing.IssuingPolicy(
                grace_seconds=3_600,
                meter_grace_seconds={"water": 7_200},
                late_usage=invoicing.IssuingPolicy.CORRECT,
                meter_late_usage={"water": invoicing.IssuingPolicy.REFUSE},
            )
        ),
        invoicing.GetInvoiceDocumentRequest(id=invoice.id),
        *await credit_note_requests(sandbox, plan),
        invoicing.ListNumberSeriesRequest(page_size=10),
        invoicing.VerifySeriesRequest(series=invoice.number.rpartition("-")[0], page_size=10),
        proof.TraceLineRequest(invoice_id=invoice.id, line_id=invoice.line_items[0].id, page_size=10),
        proof.ReplayInvoiceRequest(invoice_id=invoice.id),
        proof.ListLateUsageRequest(customer_id=payer.id, meter="water", page_size=10),
        proof.PreviewLateUsageRequest(customer_id=payer.id),
        bill_runs.CreateBillRunRequest(scope=BillRun.CUSTOMERS, customer_ids=[payer.id]),
        bill_runs.GetBillRunRequest(id=run.id),
        bill_runs.ListBillRunsRequest(page_size=10),
        bill_runs.ListBillRunResultsRequest(id=run.id, page_size=10),
        bill_runs.RetryBillRunRequest(id=run.id),
        bill_runs.CancelBillRunRequest(id=run.id),
        bill_runs.ListParkedCustomersRequest(page_size=10),
        bill_runs.GetBillingStateRequest(),
        consolidation.SetConsolidationPolicyRequest(
            scope=ConsolidationPolicy.SUBSCRIPTION, scope_id=subscription.id, keys=["plan", "custom.team"]
        ),
        consolidation.GetConsolidationPolicyRequest(id=together.id),
        spend_thresholds.SetSpendThresholdRequest(
            scope=SpendThreshold.SUBSCRIPTION,
            scope_id=subscription.id,
            amount=Money(currency_code="EUR", units=2_000),
        ),
        spend_thresholds.GetSpendThresholdRequest(id=most.id),
        spend_thresholds.ListSpendThresholdsRequest(scope=SpendThreshold.CUSTOMER, page_size=10),
        spend_thresholds.RemoveSpendThresholdRequest(id=most.id),
        spend_thresholds.GetUnbilledSpendRequest(customer_id=payer.id),
        spend_thresholds.ListEarlyLinesRequest(customer_id=payer.id, page_size=10),
        consolidation.ListConsolidationPoliciesRequest(scope=ConsolidationPolicy.CUSTOMER, page_size=10),
        consolidation.RemoveConsolidationPolicyRequest(id=together.id),
        consolidation.ExplainConsolidationRequest(invoice_id=invoice.id),
        consolidation.PreviewInvoicesRequest(customer_id=payer.id, until_time=wire.timestamp(FEBRUARY)),
        ledger.ListLedgerEntriesRequest(
            customer_id=payer.id,
            document_id=invoice.id,
            invoice_id=invoice.id,
            start_date=wire.date(JANUARY.date()),
            end_date=wire.date(FEBRUARY.date()),
            page_size=10,
        ),
        ledger.GetTrialBalanceRequest(as_of_date=wire.date(FEBRUARY.date()), currency="EUR"),
        ledger.GetCustomerStatementRequest(
            customer_id=payer.id,
            currency="EUR",
            start_date=wire.date(JANUARY.date()),
            end_date=wire.date(FEBRUARY.date()),
            page_size=10,
        ),
        *await credit_requests(sandbox, payer, plan, subscription, product_id),
        *await manual_requests(sandbox, payer),
        rating.RateRequest(price_id=plan.prices[1].id, usage=used),
        rating.BatchRateRequest(
            requests=[rating.RateRequest(price=fresh, usage=used)], price_id=plan.prices[1].id, without_steps=True
        ),
        rating.ExplainRatingRequest(line=rating.InvoiceLine(invoice_id=invoice.id, line_id=invoice.line_items[0].id)),
        rating.SimulatePricesRequest(plan_id=plan.id, months=12, customers_named_max=10),
        rating.PreviewDiscountsRequest(
            lines=[rating.LineToDiscount(amount=Money(currency_code="GBP", units=10), product="fee", plan="basic")],
            coupons=[rating.CouponToApply(coupon=Coupon(**half))],
        ),
        rating.ListCurrenciesRequest(),
        rating.RoundAmountRequest(amount=Decimal(value="0.125"), currency="GBP"),
        rating.AllocateAmountRequest(
            amount=Money(currency_code="GBP", units=10), weights=[Decimal(value="1"), Decimal(value="2")]
        ),
        *await tax_requests(sandbox, payer),
        payments.AttachPaymentMethodRequest(
            customer_id=payer.id, gateway="simulated", token="sim:ok", display_name="Visa"
        ),
        payments.ListPaymentMethodsRequest(customer_id=payer.id, page_size=10),
        payments.GetPaymentRequest(id=payment.id),
        payments.ListPaymentsRequest(customer_id=payer.id, page_size=10),
        payments.RetryPaymentRequest(invoice_id=invoice.id),
        payments.RecordPaymentRequest(
            invoice_id=invoice.id,
            amount=invoice.total,
            means=OutsidePayment.CASH,
            reference="till-1",
            paid_time=invoice.create_time,
        ),
        dunning.CreateDunningPolicyRequest(
            display_name="Fuzzed", retry_wait_days=[1, 2], final_wait_days=3, final_action=DunningPolicy.NONE
        ),
        dunning.ListDunningPoliciesRequest(page_size=10),
        dunning.GetDunningCampaignRequest(id=campaign.id),
        dunning.ListDunningCampaignsRequest(customer_id=payer.id, page_size=10),
        operations.GetServiceStateRequest(),
        operations.GetClockRequest(),
        operations.AdvanceClockRequest(time=wire.timestamp(datetime(2026, 1, 3, tzinfo=UTC))),
        operations.ListDeadLettersRequest(page_size=10),
        operations.RequeueDeadLetterRequest(id="evt_01h455vb4pex5vsknk084sn02q"),
        operations.DiscardDeadLetterRequest(id="evt_01h455vb4pex5vsknk084sn02q", reason="a test"),
        operations.ReplayEventsRequest(from_position=1, through_position=1),
        operations.GetRequestRecordRequest(method="/saldo.catalog.v1.CatalogService/CreatePlan", request_id="x"),
    ]
    by_class = {type(request): request for request in requests}
    return {rpc.path: by_class[rpc.request_class] for rpc in rpcs()}


def names_resources(rpc: Rpc) -> bool:
    """Whether its request has a place for the id of something that belongs to a seller."""
    names = {path[-1].name for path in _paths(rpc.request_class.DESCRIPTOR, ())} - {
        "request_id",
        "tax_id",
        "external_id",
    }
    return (
        "operations" not in rpc.contract
        and rpc.name not in NAME_NOTHING
        and any(name in ("id", "ids") or name.endswith(("_id", "_ids")) for name in names)
    )


TURNS: Final = 4


@dataclass(frozen=True, slots=True)
class Garbled:
    """A request in which one field holds something that nobody expects."""

    field: str
    request: Message


def garbled(rpc: Rpc, request: Message, *, every: bool) -> Iterator[Garbled]:
    """One after the other, every field there is, at any depth, with `every` kind of garbage for its type, or a quarter
    of them by turns; of what is read alike elsewhere, with some of them.
    """
    for number, path in enumerate(_paths(request.DESCRIPTOR, ())):
        values = _share(rpc, path, _garbage(path))
        for value in values if every else values[number % min(len(values), TURNS) :: TURNS]:
            copy = type(request)()
            copy.CopyFrom(request)
            _put(copy, path, value)
            yield Garbled(".".join(field.name for field in path), copy)


Path = tuple[FieldDescriptor, ...]


def _share(rpc: Rpc, path: Path, values: tuple[Any, ...]) -> tuple[Any, ...]:  # Any: as in GARBAGE
    """Of the garbage for a field, what it meets here: at least one kind of it."""
    shared = _shared(path)
    if not shared:
        return values
    kind = _kind(shared[-1])
    if str(rpc) in READ_ALIKE[kind]:
        return values
    places = _places(rpc.service, kind)
    place = places.index((str(rpc), shared))
    return values[place % len(values) :: len(places)]


@functools.cache
def _places(service: str, kind: str) -> list[tuple[str, Path]]:
    """Where else a message that is read alike comes in: the RPC, and the way to it in the request."""
    found = [
        (str(rpc), _shared(path))
        for rpc in rpcs()
        if rpc.service == service and str(rpc) not in READ_ALIKE[kind]
        for path in _paths(rpc.request_class.DESCRIPTOR, ())
    ]
    return list(dict.fromkeys(each for each in found if each[1] and _kind(each[1][-1]) == kind))


def _shared(path: Path) -> Path:
    """The way to the first message in it that is read alike; empty without one."""
    for depth, field in enumerate(path, start=1):
        if _kind(field) in READ_ALIKE:
            return path[:depth]
    return ()


def _kind(field: FieldDescriptor) -> str:
    return "" if field.message_type is None else field.message_type.full_name


def _paths(descriptor: Any, above: Path) -> Iterator[Path]:  # Any: a message descriptor, untyped in older stubs
    for field in descriptor.fields:
        path = (*above, field)
        if field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE:
            yield path
        elif len(path) < DEPTH_MAX:
            yield from _paths(field.message_type, path)


def _garbage(path: Path) -> tuple[Any, ...]:  # Any: as in GARBAGE
    field = path[-1]
    if field.containing_type is not None and field.containing_type.full_name == AMOUNTLIKE:
        return DECIMALS
    if field.type == FieldDescriptor.TYPE_BYTES:
        return BYTES
    return GARBAGE[field.cpp_type]


def _put(message: Message, path: Path, value: Any) -> None:  # Any: as in GARBAGE
    """In the first element of whatever is repeated."""
    target: Any = message  # Any: reached by names that are only known at run time
    for field in path[:-1]:
        target = getattr(target, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            is_text = field.message_type.fields_by_name["value"].cpp_type == FieldDescriptor.CPPTYPE_STRING
            of_key = path[-1].name == "key"
            target[value if of_key else "region"] = ("eu" if is_text else 1) if of_key else value
            return
        if field.is_repeated:
            target = target[0] if target else target.add()
    leaf = path[-1]
    if leaf.is_repeated:
        values = getattr(target, leaf.name)
        del values[:]
        values.append(value)
    else:
        setattr(target, leaf.name, value)


def _rpcs(file: FileDescriptor) -> Iterator[Rpc]:
    service = package_of(file)
    for contract in file.services_by_name.values():
        for method in contract.methods:
            answered_by = service if service in SERVICES else "catalog"
            classes = _class_of(method.input_type), _class_of(method.output_type)
            yield Rpc(answered_by, method.name, contract.full_name, *classes, streams=method.client_streaming)


def _class_of(descriptor: Any) -> type[Message]:  # Any: as in _paths
    module = importlib.import_module(descriptor.file.name.removesuffix(".proto").replace("/", ".") + "_pb2")
    found: type[Message] = getattr(module, descriptor.name)
    return found
