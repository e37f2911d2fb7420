"""Knows how the copy becomes a part of the service."""

from __future__ import annotations

from typing import Self

from common.service import Service
from metering import store
from metering.clickhouse.connection import Connection
from metering.clickhouse.copying import Copying
from metering.clickhouse.counting import CopyStore
from metering.log import Log
from metering.settings import Settings, UsageStoreName


class Copy:
    """The copy of the log, and what counts usage."""

    def __init__(self, connection: Connection | None, counting: store.UsageStore) -> None:
        self.counting = counting
        self.is_kept = connection is not None

    @classmethod
    def of(cls, service: Service, settings: Settings, log: Log) -> Self:
        """Keeps copying for as long as the service lives, if there is where to."""
        url = settings.clickhouse_url.get_secret_value()
        if not url:
            return cls(None, store.LOG)
        connection = Connection(url)
        service.on_close(connection.close)
        pause = settings.clickhouse_pause_seconds
        service.work(Copying(service.database, log, connection, pause_seconds=pause, telemetry=service.telemetry))
        service.watch("usage_events.uncopied", store.UNCOPIED)
        if settings.usage_store is UsageStoreName.POSTGRESQL:
            return cls(connection, store.LOG)
        return cls(connection, CopyStore(connection, wait_seconds=settings.clickhouse_wait_seconds))
