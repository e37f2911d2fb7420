"""Composes the invoicing service and runs it."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.descriptor_pool import Default

from common.bus import Bus
from common.service import Service
from common.service import main as run
from invoicing import store
from invoicing.api import InvoicingApi
from invoicing.bill_runs_api import BillRunsApi
from invoicing.consolidation_api import ConsolidationApi
from invoicing.consumers import HANDLERS
from invoicing.credit_api import CreditApi
from invoicing.credit_notes_api import CreditNotesApi
from invoicing.documents.document import Printer
from invoicing.domain.spend_threshold import SpendLooks
from invoicing.ledger_api import LedgerApi
from invoicing.manual_api import ManualInvoicesApi
from invoicing.money_api import MoneyApi
from invoicing.proof_api import ProofApi
from invoicing.rating_api import RatingApi
from invoicing.schedule import jobs
from invoicing.settings import Settings
from invoicing.spend_thresholds_api import SpendThresholdsApi
from invoicing.tax_api import TaxApi
from invoicing.usecases.taxing import RatesByHand, TaxProvider
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from saldo.catalog.v1.coupon_service_pb2_grpc import CouponServiceStub
from saldo.invoicing.v1 import events_pb2
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.subscriptions.v1.customers_service_pb2_grpc import CustomersServiceStub
from saldo.subscriptions.v1.subscriptions_service_pb2_grpc import SubscriptionsServiceStub


def main() -> None:
    run(build, Settings, package="invoicing")


def build(settings: Settings, *, bus: Bus | None = None, taxes: TaxProvider | None = None) -> Service:
    """`taxes`: who knows them, unless it is the seller who declares rates by hand."""
    taxes = taxes or RatesByHand()
    neighbours: dict[type, str] = {
        CatalogServiceStub: settings.catalog_address,
        CouponServiceStub: settings.catalog_address,
        SubscriptionsServiceStub: settings.subscriptions_address,
        CustomersServiceStub: settings.subscriptions_address,
        MeteringServiceStub: settings.metering_address,
    }
    service = Service("invoicing", settings, callers=("payments",), neighbours=neighbours, bus=bus)
    printer = Printer(font_folder=settings.font_folder)
    service.on_close(printer.close)
    service.publish(events_pb2)
    database, desk = service.database, service.desk
    contracts = Default()
    for name, api in (
        ("InvoicingService", InvoicingApi(database, desk, printer, taxes=taxes)),
        ("BillRunsService", BillRunsApi(database, desk)),
        ("CreditNotesService", CreditNotesApi(database, desk, printer)),
        ("ManualInvoicesService", ManualInvoicesApi(database, desk, taxes=taxes)),
        ("ConsolidationService", ConsolidationApi(database, desk, taxes=taxes)),
        ("LedgerService", LedgerApi(database)),
        ("RatingService", RatingApi(desk)),
        ("MoneyService", MoneyApi()),
        ("ProofService", ProofApi(desk)),
        ("TaxService", TaxApi(database, desk, taxes)),
        ("CreditService", CreditApi(database, desk)),
        ("SpendThresholdsService", SpendThresholdsApi(database, desk)),
    ):
        service.serve(contracts.FindServiceByName(f"saldo.invoicing.v1.{name}"), api)
    service.watch("customers_parked", store.CUSTOMERS_PARKED)
    service.consume(HANDLERS)
    looks = SpendLooks.every(seconds=settings.spend_look_seconds, sandbox_seconds=settings.sandbox_spend_look_seconds)
    service.schedule(jobs(grace=timedelta(seconds=settings.grace_seconds), spend_looks=looks, taxes=taxes))
    return service
