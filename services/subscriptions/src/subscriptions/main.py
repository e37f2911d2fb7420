"""Composes subscriptions and runs it."""

from __future__ import annotations

from common.bus import Bus
from common.service import Service
from common.service import main as run
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from saldo.subscriptions.v1 import events_pb2, subscriptions_service_pb2
from subscriptions.api import SubscriptionsApi
from subscriptions.consumers import HANDLERS
from subscriptions.schedule import JOBS
from subscriptions.settings import Settings


def main() -> None:
    run(build, Settings, package="subscriptions")


def build(settings: Settings, *, bus: Bus | None = None) -> Service:
    service = Service(
        "subscriptions",
        settings,
        callers=("invoicing", "dunning"),
        neighbours={CatalogServiceStub: settings.catalog_address},
        bus=bus,
    )
    service.publish(events_pb2)
    service.serve(
        subscriptions_service_pb2.DESCRIPTOR.services_by_name["SubscriptionsService"],
        SubscriptionsApi(service.database, service.desk),
    )
    service.consume(HANDLERS)
    service.schedule(JOBS)
    return service
