"""Composes the metering service and runs it."""

from __future__ import annotations

from datetime import timedelta

from common.bus import Bus
from common.service import Service
from common.service import main as run
from metering.api import MeteringApi
from metering.settings import Settings
from saldo.metering.v1 import events_pb2, metering_service_pb2


def main() -> None:
    run(build, Settings, package="metering")


def build(settings: Settings, *, bus: Bus | None = None) -> Service:
    service = Service("metering", settings, callers=("invoicing",), bus=bus)
    service.publish(events_pb2)
    service.serve(
        metering_service_pb2.DESCRIPTOR.services_by_name["MeteringService"],
        MeteringApi(service.database, ahead_max=timedelta(hours=settings.event_ahead_hours_max)),
    )
    return service
