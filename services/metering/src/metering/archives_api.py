"""Metering's door for operators, who take old usage events out of the log: parse, call, answer."""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID

from common import wire
from common.auth import PLATFORM, RoleNotAllowed
from common.caller import EVERY_SELLER
from common.db import Database, Tx
from common.errors import InvalidArgument
from common.rpc import open_to, transactional
from metering import usecases_archives
from metering.convert.archives import leaf_to_proto, logged_event_to_proto, logged_events_from_proto
from metering.domain.archive import check_before
from metering.domain.errors import LeafNotFound
from metering.log import archives
from saldo.metering.v1 import archive_service_pb2 as pb
from saldo.metering.v1.archive_service_pb2_grpc import ArchiveServiceServicer

NO_KEY: Final = UUID(int=0)


class ArchivesApi(ArchiveServiceServicer):
    def __init__(self, database: Database, *, kept: timedelta, is_copied: bool) -> None:
        """`kept` is for how long usage events are not archived; `is_copied` whether the log is, and a leaf first."""
        self.database = database
        self._kept = kept
        self._is_copied = is_copied

    @open_to(PLATFORM)
    @transactional
    async def ListArchivableLeaves(
        self, request: pb.ListArchivableLeavesRequest, tx: Tx
    ) -> pb.ListArchivableLeavesResponse:
        _check_everybodys(tx)
        before = wire.parse_timestamp(request.before_time, field="before_time")
        page = wire.page(request)
        found = await archives.sealed_before(
            tx.driver,
            check_before(before, at=tx.now, kept=self._kept),
            after=_number(page.after[0]) if page.after else 0,
            limit=page.size + 1,
        )
        return pb.ListArchivableLeavesResponse(
            leaves=[leaf_to_proto(leaf) for leaf in found[: page.size]],
            next_page_token=wire.encode_page_token(str(found[page.size - 1].number)) if len(found) > page.size else "",
        )

    @open_to(PLATFORM)
    @transactional
    async def ListLeafEvents(self, request: pb.ListLeafEventsRequest, tx: Tx) -> pb.ListLeafEventsResponse:
        _check_everybodys(tx)
        page = wire.page(request)
        found = await archives.events_of(
            tx.driver, request.leaf, after=_key(page.after[0]) if page.after else NO_KEY, limit=page.size + 1
        )
        if not found:
            raise LeafNotFound(f"there is no leaf {request.leaf} in the log that is full", leaf=request.leaf)
        return pb.ListLeafEventsResponse(
            events=[logged_event_to_proto(each) for each in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].key.hex()) if len(found) > page.size else "",
        )

    @open_to(PLATFORM)
    @transactional
    async def ArchiveLeaf(self, request: pb.ArchiveLeafRequest, tx: Tx) -> pb.Leaf:
        _check_everybodys(tx)
        leaf = await usecases_archives.archive_leaf(
            tx,
            request.leaf,
            event_count=request.event_count,
            digest=request.digest,
            kept=self._kept,
            is_copied=self._is_copied,
        )
        return leaf_to_proto(leaf)

    @open_to(PLATFORM)
    @transactional
    async def RestoreEvents(self, request: pb.RestoreEventsRequest, tx: Tx) -> pb.RestoreEventsResponse:
        _check_everybodys(tx)
        events = logged_events_from_proto(request)
        count = await usecases_archives.restore_events(tx, request.leaf, events, from_beginning=request.from_beginning)
        return pb.RestoreEventsResponse(event_count=count)

    @open_to(PLATFORM)
    @transactional
    async def RestoreLeaf(self, request: pb.RestoreLeafRequest, tx: Tx) -> pb.Leaf:
        _check_everybodys(tx)
        return leaf_to_proto(await usecases_archives.restore_leaf(tx, request.leaf))


def _check_everybodys(tx: Tx) -> None:
    """A leaf has events of every seller."""
    if tx.seller_id != EVERY_SELLER:
        raise RoleNotAllowed("a platform may call this on behalf of no seller only", role="platform")


def _number(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 9:
        raise InvalidArgument("is not one that was answered", field="page_token")
    return int(text)


def _key(text: str) -> UUID:
    try:
        return UUID(hex=text)
    except ValueError:
        raise InvalidArgument("is not one that was answered", field="page_token") from None
