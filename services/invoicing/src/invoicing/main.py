"""Composes the invoicing service and runs it."""

from __future__ import annotations

from datetime import timedelta

from common.bus import Bus
from common.service import Service
from common.service import main as run
from invoicing.api import InvoicingApi
from invoicing.consolidation_api import ConsolidationApi
from invoicing.consumers import HANDLERS
from invoicing.credit_api import CreditApi
from invoicing.credit_notes_api import CreditNotesApi
from invoicing.documents.document import Printer
from invoicing.ledger_api import LedgerApi
from invoicing.manual_api import ManualInvoicesApi
from invoicing.money_api import MoneyApi
from invoicing.proof_api import ProofApi
from invoicing.rating_api import RatingApi
from invoicing.schedule import jobs
from invoicing.settings import Settings
from invoicing.tax_api import TaxApi
from invoicing.usecases.taxing import RatesByHand, TaxProvider
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from saldo.catalog.v1.coupon_service_pb2_grpc import CouponServiceStub
from saldo.invoicing.v1 import (
    consolidation_service_pb2,
    credit_notes_service_pb2,
    credit_service_pb2,
    events_pb2,
    invoicing_service_pb2,
    ledger_service_pb2,
    manual_invoices_service_pb2,
    proof_service_pb2,
    rating_service_pb2,
    tax_service_pb2,
)
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
    service = Service("invoicing", settings, neighbours=neighbours, bus=bus)
    printer = Printer(font_folder=settings.font_folder)
    service.on_close(printer.close)
    service.publish(events_pb2)
    service.serve(
        invoicing_service_pb2.DESCRIPTOR.services_by_name["InvoicingService"],
        InvoicingApi(service.database, service.desk, printer, taxes=taxes),
    )
    service.serve(ledger_service_pb2.DESCRIPTOR.services_by_name["LedgerService"], LedgerApi(service.database))
    service.serve(
        consolidation_service_pb2.DESCRIPTOR.services_by_name["ConsolidationService"],
        ConsolidationApi(service.database, service.desk, taxes=taxes),
    )
    service.serve(
        credit_notes_service_pb2.DESCRIPTOR.services_by_name["CreditNotesService"],
        CreditNotesApi(service.database, service.desk, printer),
    )
    service.serve(
        manual_invoices_service_pb2.DESCRIPTOR.services_by_name["ManualInvoicesService"],
        ManualInvoicesApi(service.database, service.desk, taxes=taxes),
    )
    contract = rating_service_pb2.DESCRIPTOR.services_by_name
    service.serve(contract["RatingService"], RatingApi(service.desk))
    service.serve(contract["MoneyService"], MoneyApi())
    service.serve(proof_service_pb2.DESCRIPTOR.services_by_name["ProofService"], ProofApi(service.desk))
    service.serve(
        tax_service_pb2.DESCRIPTOR.services_by_name["TaxService"], TaxApi(service.database, service.desk, taxes)
    )
    service.serve(
        credit_service_pb2.DESCRIPTOR.services_by_name["CreditService"], CreditApi(service.database, service.desk)
    )
    service.consume(HANDLERS)
    service.schedule(jobs(grace=timedelta(seconds=settings.grace_seconds), taxes=taxes))
    return service
