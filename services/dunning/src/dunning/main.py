"""Composes dunning and runs it."""

from __future__ import annotations

from common.bus import Bus
from common.service import Service
from common.service import main as run
from dunning.api import DunningApi
from dunning.consumers import HANDLERS
from dunning.schedule import JOBS
from dunning.settings import Settings
from saldo.dunning.v1 import dunning_service_pb2, events_pb2
from saldo.payments.v1.payments_service_pb2_grpc import PaymentsServiceStub
from saldo.subscriptions.v1.subscriptions_service_pb2_grpc import SubscriptionsServiceStub


def main() -> None:
    run(build, Settings, package="dunning")


def build(settings: Settings, *, bus: Bus | None = None) -> Service:
    neighbours: dict[type, str] = {
        PaymentsServiceStub: settings.payments_address,
        SubscriptionsServiceStub: settings.subscriptions_address,
    }
    service = Service("dunning", settings, neighbours=neighbours, bus=bus)
    service.publish(events_pb2)
    service.serve(dunning_service_pb2.DESCRIPTOR.services_by_name["DunningService"], DunningApi(service.database))
    service.consume(HANDLERS)
    service.schedule(JOBS)
    return service
