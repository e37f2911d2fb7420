"""What the metering service does to leaves of its log that go into files and come back, one function each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from common.db import Tx
from metering.domain.archive import Leaf, LeafState, LoggedEvent, check_archivable
from metering.domain.errors import ArchiveMismatch, LeafNotFound, LeafStillNeeded
from metering.log import archives, copies


async def archive_leaf(tx: Tx, number: int, *, event_count: int, digest: str, kept: timedelta, is_copied: bool) -> Leaf:
    """Take a leaf out of the log that somebody has a whole copy of; nothing more if that was done before."""
    leaf = await archives.lock_leaf(tx.driver, number)
    if leaf.state is LeafState.ARCHIVED:
        if (leaf.event_count, leaf.digest) != (event_count, digest):
            raise ArchiveMismatch(f"leaf {number} was archived with {leaf.event_count} other events", leaf=number)
        return leaf
    check_archivable(leaf, at=tx.now, kept=kept)
    if not await archives.is_looked_through(tx.driver, number):
        raise LeafStillNeeded(f"late usage is still to be looked for in leaf {number}", leaf=number)
    if await archives.is_corrected(tx.driver, number):
        raise LeafStillNeeded(f"usage events of leaf {number} were corrected, or correct others", leaf=number)
    if is_copied and not await copies.is_copied(tx.driver, number):
        raise LeafStillNeeded(f"leaf {number} is still to be copied", leaf=number)
    (await archives.content_of(tx.driver, number)).check(event_count, digest)
    await archives.archive(tx.driver, leaf, digest=digest)
    return replace(leaf, state=LeafState.ARCHIVED, digest=digest)


async def restore_events(tx: Tx, number: int, events: Sequence[LoggedEvent], *, from_beginning: bool) -> int:
    """Bring events of a leaf that is archived; how many of it have been brought."""
    await _archived_leaf(tx, number)
    if from_beginning:
        await archives.begin_restoring(tx.driver, number)
    return await archives.bring(tx.driver, number, events)


async def restore_leaf(tx: Tx, number: int) -> Leaf:
    leaf = await _archived_leaf(tx, number)
    (await archives.restored_content(tx.driver, number)).check(leaf.event_count, leaf.digest)
    await archives.restore(tx.driver, number)
    return replace(leaf, state=LeafState.SEALED, digest="")


async def _archived_leaf(tx: Tx, number: int) -> Leaf:
    leaf = await archives.lock_leaf(tx.driver, number)
    if leaf.state is not LeafState.ARCHIVED:
        raise LeafNotFound(f"leaf {number} is not archived", leaf=number)
    return leaf
