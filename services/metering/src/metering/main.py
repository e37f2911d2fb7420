"""Composes the metering service and runs it."""

from __future__ import annotations

from datetime import timedelta

from common.bus import Bus
from common.service import Service
from common.service import main as run
from metering import store
from metering.api import MeteringApi
from metering.archives_api import ArchivesApi
from metering.backfills import Backfills
from metering.backfills_api import BackfillsApi
from metering.clickhouse import Copy
from metering.committing import Committing
from metering.consumers import handlers
from metering.corrections_api import CorrectionsApi
from metering.forwarding import Forwarding
from metering.freezes_api import FreezesApi
from metering.ingesting import Ingesting
from metering.log import Log
from metering.quotas_api import QuotasApi
from metering.schedule import jobs
from metering.settings import Settings
from metering.thresholds_api import ThresholdsApi
from saldo.metering.v1 import (
    archive_service_pb2,
    backfill_service_pb2,
    corrections_service_pb2,
    events_pb2,
    freeze_service_pb2,
    metering_service_pb2,
    quota_service_pb2,
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

    telemetry, leaf_rows, shards = service.telemetry, settings.leaf_rows, settings.shards
    log = Log(service.database, leaf_rows=leaf_rows, telemetry=telemetry, address=address, shards=shards)
    forwarding = Forwarding(log, address=address, telemetry=telemetry)
    service.on_close(forwarding.close)
    kept = timedelta(days=settings.archive_days_min)
    ingesting = Ingesting(service.database, log=log, forwarding=forwarding, ahead_max=ahead)
    committing = Committing(service.database, ingesting=ingesting, forwarding=forwarding)
    correcting = CorrectionsApi(service.database, log=log, forwarding=forwarding, ahead_max=ahead)
    backfills = Backfills(service.database, log=log, forwarding=forwarding)
    backfilling = BackfillsApi(service.database, backfills=backfills, forwarding=forwarding)
    copy = Copy.of(service, settings, log)
    metering = MeteringApi(service.database, ingesting=ingesting, counting=copy.counting)
    contracts = (
        (metering_service_pb2, "MeteringService", metering),
        (freeze_service_pb2, "FreezeService", FreezesApi(service.database, counting=copy.counting)),
        (corrections_service_pb2, "CorrectionService", correcting),
        (backfill_service_pb2, "BackfillService", backfilling),
        (usage_threshold_service_pb2, "UsageThresholdService", ThresholdsApi(service.database)),
        (quota_service_pb2, "QuotaService", QuotasApi(service.database, committing=committing)),
        (archive_service_pb2, "ArchiveService", ArchivesApi(service.database, kept=kept, is_copied=copy.is_kept)),
    )
    for module, name, api in contracts:
        service.serve(module.DESCRIPTOR.services_by_name[name], api)
    service.work(log)
    service.consume(handlers(ahead=ahead))
    service.schedule(jobs(committing, backfills, ahead=ahead, counting=copy.counting))
    service.watch("usage_events.unmatched", store.UNMATCHED_EVENTS)
    service.watch("backfills.open", store.OPEN_BACKFILLS)
    service.watch("late_usages.archived", store.LATE_IN_ARCHIVES)
    return service
