"""Composes subscriptions and runs it."""

from __future__ import annotations

from common.bus import Bus
from common.service import Service
from common.service import main as run
from common.vault import Vault
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from saldo.catalog.v1.coupon_service_pb2_grpc import CouponServiceStub
from saldo.subscriptions.v1 import (
    customers_service_pb2,
    entitlement_service_pb2,
    events_pb2,
    personal_data_service_pb2,
    plan_migration_service_pb2,
    seat_service_pb2,
    subscriptions_service_pb2,
    tax_id_service_pb2,
)
from subscriptions.api import SubscriptionsApi
from subscriptions.consumers import HANDLERS
from subscriptions.customers_api import CustomersApi
from subscriptions.entitlements_api import EntitlementsApi
from subscriptions.personal_data_api import PersonalDataApi
from subscriptions.plan_migrations_api import PlanMigrationsApi
from subscriptions.schedule import jobs
from subscriptions.seats_api import SeatsApi
from subscriptions.settings import Settings
from subscriptions.store.answers import SealedAnswers
from subscriptions.tax_authorities.composed import tax_authorities
from subscriptions.tax_ids_api import TaxIdsApi


def main() -> None:
    run(build, Settings, package="subscriptions")


def build(settings: Settings, *, bus: Bus | None = None) -> Service:
    vault = Vault.read(settings.master_keys)
    service = Service(
        "subscriptions",
        settings,
        callers=("invoicing", "dunning"),
        neighbours={CatalogServiceStub: settings.catalog_address, CouponServiceStub: settings.catalog_address},
        bus=bus,
        vault=vault,
        answers=SealedAnswers(),
    )
    authorities = tax_authorities(service, settings)
    service.publish(events_pb2)
    service.serve(
        subscriptions_service_pb2.DESCRIPTOR.services_by_name["SubscriptionsService"],
        SubscriptionsApi(service.database, service.desk),
    )
    service.serve(customers_service_pb2.DESCRIPTOR.services_by_name["CustomersService"], CustomersApi(service.database))
    service.serve(
        personal_data_service_pb2.DESCRIPTOR.services_by_name["PersonalDataService"],
        PersonalDataApi(service.database),
    )
    service.serve(
        tax_id_service_pb2.DESCRIPTOR.services_by_name["TaxIdService"],
        TaxIdsApi(service.database, service.desk, authorities),
    )
    service.serve(
        plan_migration_service_pb2.DESCRIPTOR.services_by_name["PlanMigrationService"],
        PlanMigrationsApi(service.database, service.desk),
    )
    service.serve(
        entitlement_service_pb2.DESCRIPTOR.services_by_name["EntitlementService"],
        EntitlementsApi(service.database, service.desk),
    )
    service.serve(seat_service_pb2.DESCRIPTOR.services_by_name["SeatService"], SeatsApi(service.database))
    service.consume(HANDLERS)
    service.schedule(jobs(master_key_id=vault.current, authorities=authorities))
    return service
