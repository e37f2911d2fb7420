"""Composes payments and runs it."""

from __future__ import annotations

from common.bus import Bus
from common.service import Service
from common.service import main as run
from payments import store
from payments.api import PaymentsApi
from payments.consumers import HANDLERS
from payments.gateways import Gateways
from payments.gateways.simulated import SimulatedGateway
from payments.gateways.stripe import StripeGateway
from payments.gateways.watched import WatchedGateway
from payments.schedule import jobs
from payments.settings import Settings
from saldo.invoicing.v1.invoicing_service_pb2_grpc import InvoicingServiceStub
from saldo.payments.v1 import events_pb2, payments_service_pb2


def main() -> None:
    run(build, Settings, package="payments")


def build(settings: Settings, *, bus: Bus | None = None) -> Service:
    neighbours: dict[type, str] = {InvoicingServiceStub: settings.invoicing_address}
    service = Service("payments", settings, callers=("dunning",), neighbours=neighbours, bus=bus)
    gateways = _gateways(service, settings)
    service.publish(events_pb2)
    service.serve(
        payments_service_pb2.DESCRIPTOR.services_by_name["PaymentsService"],
        PaymentsApi(service.database, service.desk, gateways),
    )
    service.consume(HANDLERS)
    service.schedule(jobs(gateways, asks_first=settings.ask_gateway_first))
    service.watch("attempts_unknown", store.ATTEMPTS_UNKNOWN)
    return service


def _gateways(service: Service, settings: Settings) -> Gateways:
    """Those that there are credentials for."""
    configured: list[SimulatedGateway | StripeGateway] = []
    if url := settings.simulated_gateway_url.get_secret_value():
        configured.append(SimulatedGateway(url))
    if key := settings.stripe_api_key.get_secret_value():
        configured.append(
            StripeGateway(key, api_base=settings.stripe_api_base, timeout_seconds=settings.gateway_timeout_seconds)
        )
    for gateway in configured:
        service.on_close(gateway.close)
    return {
        gateway.name: WatchedGateway(
            gateway, timeout_seconds=settings.gateway_timeout_seconds, telemetry=service.telemetry
        )
        for gateway in configured
    }
