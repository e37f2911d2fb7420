"""Composes the catalog and runs it."""

from __future__ import annotations

from catalog.api import CatalogApi
from catalog.coupon_api import CouponApi
from catalog.schedule import JOBS
from catalog.settings import Settings
from common.bus import Bus
from common.service import Service
from common.service import main as run
from saldo.catalog.v1 import catalog_service_pb2, coupon_service_pb2, events_pb2


def main() -> None:
    run(build, Settings, package="catalog")


def build(settings: Settings, *, bus: Bus | None = None) -> Service:
    service = Service("catalog", settings, callers=("subscriptions", "invoicing"), bus=bus)
    service.publish(events_pb2)
    service.serve(catalog_service_pb2.DESCRIPTOR.services_by_name["CatalogService"], CatalogApi(service.database))
    service.serve(coupon_service_pb2.DESCRIPTOR.services_by_name["CouponService"], CouponApi(service.database))
    service.schedule(JOBS)
    return service
