"""Knows how leaves of the log of usage are kept in files: Parquet, and beside each a manifest that says what is in it.

    NAME.parquet.part ─► NAME.parquet ─► read back ─► NAME.json ─► only now the log forgets the leaf

What has a manifest is whole, and is never written again. Dying anywhere on the way leaves either a leaf in the log, or
a file with a manifest, or both; the same command goes on there.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from common import wire
from saldo.metering.v1 import archive_service_pb2 as pb
from saldo.metering.v1.usage_event_pb2 import UsageEvent
from tools.client import Client, pages

FORM: Final = "saldo usage archive 1"
EVENTS_PER_PAGE: Final = 1_000
EVENTS_PER_GROUP: Final = 50_000
LEAF_SECONDS: Final = 300
"""What the log may take to give a leaf away, or to take it back."""
DIGITS: Final = (38, 12)
READ_BYTES: Final = 1 << 20
PAGES_MAX: Final = 20_000


class ArchiveBroken(Exception):
    """What is in the folder is not what it should be."""


@dataclass(slots=True)
class Content:
    """What was seen of a leaf: as the contract says its digest, and who has what in it."""

    event_count: int = 0
    sellers: dict[str, dict[str, int]] = field(default_factory=dict)
    _sha256: Any = field(default_factory=hashlib.sha256)  # Any: a hash has no public type

    def add(self, logged: pb.LoggedEvent) -> None:
        self.event_count += 1
        own = self.sellers.setdefault(
            logged.seller_id, {"events": 0, "first_position": logged.position, "last_position": logged.position}
        )
        own["events"] += 1
        own["first_position"] = min(own["first_position"], logged.position)
        own["last_position"] = max(own["last_position"], logged.position)
        self._sha256.update(_line(logged).encode())

    @property
    def digest(self) -> str:
        text: str = self._sha256.hexdigest()
        return text


def _line(logged: pb.LoggedEvent) -> str:
    event = logged.event
    told = "\x1e".join(f"{name}={event.dimensions[name]}" for name in sorted(event.dimensions))
    micros = event.time.seconds * 1_000_000 + event.time.nanos // 1_000
    fields = (logged.seller_id, logged.position, event.source, event.id, event.customer, event.meter, micros)
    return "\x1f".join([*map(str, fields), event.value.value, told, logged.key.hex()]) + "\n"


class Folder:
    """Where the files are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            # Not there unless somebody wants it.
            self._arrow: Any = importlib.import_module("pyarrow")  # Any: it has no types
            self._parquet: Any = importlib.import_module("pyarrow.parquet")  # Any: as above
        except ImportError:
            raise ArchiveBroken(
                "archives are Parquet, written by pyarrow, which is not installed: .venv/bin/pip install pyarrow"
            ) from None

    async def keep(self, leaf: pb.Leaf, events: AsyncIterator[Sequence[pb.LoggedEvent]]) -> Content:
        """What is in the file of a leaf, which is whole now, and said to be so."""
        path, manifest = self.path(leaf.leaf), self.path(leaf.leaf).with_suffix(".json")
        if manifest.exists():
            return self.verified(path)
        self._path.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".parquet.part")
        written = Content()
        with self._parquet.ParquetWriter(part, self._schema(), compression="zstd") as writer:
            rows: list[dict[str, object]] = []
            async for page in events:
                for logged in page:
                    written.add(logged)
                    rows.append(_row(logged, leaf.leaf))
                if len(rows) >= EVENTS_PER_GROUP:
                    writer.write_table(self._arrow.Table.from_pylist(rows, schema=self._schema()))
                    rows.clear()
            writer.write_table(self._arrow.Table.from_pylist(rows, schema=self._schema()))
        _settle(part, path)
        content = self._content(path)
        if content.digest != written.digest:
            raise ArchiveBroken(f"{path} does not say what was written to it: the disk is to be looked at")
        draft = manifest.with_suffix(".json.part")
        draft.write_text(json.dumps(_manifest(leaf, path, content), indent=2) + "\n", encoding="utf-8")
        _settle(draft, manifest)
        return content

    def path(self, leaf: int) -> Path:
        return self._path / f"usage-{leaf:09}.parquet"

    def verified(self, path: Path) -> Content:
        """What is in a file. Fails with ArchiveBroken unless it is what its manifest says, to the byte."""
        told = manifest_of(path)
        if not path.exists() or sha256_of(path) != told["sha256"]:
            raise ArchiveBroken(f"{path} is not the file that its manifest is about")
        content = self._content(path)
        if (content.event_count, content.digest) != (told["events"], told["digest"]):
            raise ArchiveBroken(f"{path} has other events than its manifest says")
        return content

    def events(self, path: Path) -> Iterator[list[pb.LoggedEvent]]:
        """In the order of the file, some at a time."""
        try:
            for batch in self._parquet.ParquetFile(path).iter_batches(batch_size=EVENTS_PER_PAGE):
                yield [_logged(row) for row in batch.to_pylist()]
        except (self._arrow.ArrowException, OSError) as error:
            raise ArchiveBroken(f"{path} cannot be read: {error}") from None

    def _content(self, path: Path) -> Content:
        content = Content()
        for page in self.events(path):
            for logged in page:
                content.add(logged)
        return content

    def _schema(self) -> Any:  # Any: a schema of pyarrow
        arrow = self._arrow
        text = arrow.string()
        return arrow.schema(
            [
                ("seller_id", text),
                ("position", arrow.int64()),
                ("source", text),
                ("event_id", text),
                ("customer", text),
                ("meter", text),
                ("time", arrow.timestamp("us", tz="UTC")),
                ("value", arrow.decimal128(*DIGITS)),
                ("dimensions", arrow.map_(text, text)),
                ("leaf", arrow.int32()),
                ("key", text),
            ]
        )


async def archive_leaf(client: Client, leaf: pb.Leaf, folder: Folder) -> Content:
    """Keep a leaf in a file, and let the log forget it."""
    content = await folder.keep(leaf, _pages_of(client, leaf.leaf))
    request = pb.ArchiveLeafRequest(leaf=leaf.leaf, event_count=content.event_count, digest=content.digest)
    await client.archives.ArchiveLeaf(request, timeout=LEAF_SECONDS)
    return content


async def restore_leaf(client: Client, path: Path, folder: Folder) -> Content:
    """Put back into the log what is in a file."""
    content = folder.verified(path)
    leaf = int(manifest_of(path)["leaf"])
    from_beginning = True
    for page in folder.events(path):
        request = pb.RestoreEventsRequest(leaf=leaf, events=page, from_beginning=from_beginning)
        await client.archives.RestoreEvents(request)
        from_beginning = False
    await client.archives.RestoreLeaf(pb.RestoreLeafRequest(leaf=leaf), timeout=LEAF_SECONDS)
    return content


async def _pages_of(client: Client, leaf: int) -> AsyncIterator[Sequence[pb.LoggedEvent]]:
    request = pb.ListLeafEventsRequest(leaf=leaf, page_size=EVENTS_PER_PAGE)
    answer = pb.ListLeafEventsResponse
    async for page in pages(client.archives.ListLeafEvents, request, answer, pages_max=PAGES_MAX):
        yield page.events


def manifest_of(path: Path) -> dict[str, Any]:  # Any: JSON
    manifest = path.with_suffix(".json")
    try:
        told: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))  # Any: as above
    except (OSError, ValueError) as error:
        raise ArchiveBroken(f"{manifest} cannot be read: {error}") from None
    if told.get("form") != FORM:
        raise ArchiveBroken(f"{manifest} is no manifest of an archive")
    return told


def sha256_of(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            found.update(piece)
    return found.hexdigest()


def _manifest(leaf: pb.Leaf, path: Path, content: Content) -> dict[str, object]:
    return {
        "form": FORM,
        "leaf": leaf.leaf,
        "file": path.name,
        "sha256": sha256_of(path),
        "events": content.event_count,
        "digest": content.digest,
        "start_time": leaf.start_time.ToJsonString(),
        "end_time": leaf.end_time.ToJsonString(),
        "sellers": dict(sorted(content.sellers.items())),
    }


def _settle(part: Path, path: Path) -> None:
    """On the disk under its name, or not there at all."""
    _sync(part)
    part.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _row(logged: pb.LoggedEvent, leaf: int) -> dict[str, object]:
    event = logged.event
    return {
        "seller_id": logged.seller_id,
        "position": logged.position,
        "source": event.source,
        "event_id": event.id,
        "customer": event.customer,
        "meter": event.meter,
        "time": event.time.ToDatetime(UTC),
        "value": Decimal(event.value.value),
        "dimensions": sorted(event.dimensions.items()),
        "leaf": leaf,
        "key": logged.key.hex(),
    }


def _logged(row: dict[str, Any]) -> pb.LoggedEvent:  # Any: as it stands in the file
    time: datetime = row["time"]
    return pb.LoggedEvent(
        seller_id=row["seller_id"],
        position=row["position"],
        event=UsageEvent(
            id=row["event_id"],
            source=row["source"],
            customer=row["customer"],
            meter=row["meter"],
            time=wire.timestamp(time),
            value=wire.decimal(row["value"]),
            dimensions=dict(row["dimensions"]),
        ),
        key=bytes.fromhex(row["key"]),
    )
