"""Composes the metering service and runs it."""

from __future__ import annotations

from datetime import timedelta

from common.bus import Bus
from common.service import Service
from common.service import main as run
from metering import store
from metering.api import MeteringApi
from metering.consumers import handlers
from metering.corrections_api import CorrectionsApi
from metering.forwarding import Forwarding
from metering.freezes_api import FreezesApi
from metering.log import Log
from metering.schedule import jobs
from metering.settings import Settings
from metering.thresholds_api import ThresholdsApi
from saldo.metering.v1 import (
    corrections_service_pb2,
    events_pb2,
    freeze_service_pb2,
    metering_service_pb2,
    usage_threshold_service_pb2,
)


def main() -> None:
    run(build, Settings, package="metering")


def build(settings: Settings, *, bus: Bus | None = None) -> Service:
    ahead = timedelta(hours=settings.event_ahead_hours_max)
    service = Service("metering", settings, callers=("invoicing",), bus=bus)
    service.publish(events_pb2)

    def address() -> str:
        return settings.advertised_address or service.address

    log = Log(service.database, leaf_rows=settings.leaf_rows, address=address, telemetry=service.telemetry)
    forwarding = Forwarding(log, address=address, telemetry=service.telemetry)
    service.on_close(forwarding.close)
    service.serve(
        metering_service_pb2.DESCRIPTOR.services_by_name["MeteringService"],
        MeteringApi(
            service.database,
            log=log,
            forwarding=forwarding,
            ahead_max=ahead,
        ),
    )
    service.serve(
        freeze_service_pb2.DESCRIPTOR.services_by_name["FreezeService"],
        FreezesApi(service.database),
    )
    service.serve(
        corrections_service_pb2.DESCRIPTOR.services_by_name["CorrectionService"],
        CorrectionsApi(service.database, log=log, forwarding=forwarding, ahead_max=ahead),
    )
    service.serve(
        usage_threshold_service_pb2.DESCRIPTOR.services_by_name["UsageThresholdService"],
        ThresholdsApi(service.database),
    )
    service.work(log)
    service.consume(handlers(ahead=ahead))
    service.schedule(jobs(ahead=ahead))
    service.watch("usage_events.unmatched", store.UNMATCHED_EVENTS)
    return service
