"""Knows how a folder becomes an example: every file read and every reference followed before anything is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from common.document import BYTES_MAX, Fault, Malformed, Value
from tools.demo.catalog_file import parse_catalog, parse_seller
from tools.demo.customers_file import parse_customers
from tools.demo.document import read, read_text
from tools.demo.example import Example, UsageRow
from tools.demo.story_file import parse_story
from tools.demo.usage_file import read_usage

VALUELESS: Final = frozenset({"COUNT", "UNIQUE_COUNT"})
"""The aggregations that look at no values."""
CATALOG: Final = "catalog.yaml"
FILES: Final = ("seller.yaml", CATALOG, "customers.yaml", "story.yaml")
ParsedT = TypeVar("ParsedT")


@dataclass(frozen=True, slots=True)
class Reading:
    """An example, and the rows of usage that are not in it because something is wrong with them."""

    example: Example
    faults: tuple[Fault, ...]


def read_folder(folder: Path) -> Reading:
    """Fails with Malformed when anything but single rows of usage is wrong."""
    if not folder.is_dir():
        raise Malformed([Fault(str(folder), 1, 1, "there is no such folder")])
    faults: list[Fault] = []
    seller = _read(folder, "seller.yaml", parse_seller, faults)
    catalog = _sound(lambda: parse_catalog(read_text(folder, CATALOG, bytes_max=BYTES_MAX), CATALOG), faults)
    if catalog is None:
        # Everything else refers to it; but what can be said about the others without it is said.
        faults += [fault for name in FILES[2:] for fault in _unreadable(folder, name)]
        raise Malformed(faults)
    meters = [meter.code for meter in catalog.meters]
    parties = _read(folder, "customers.yaml", lambda document: parse_customers(document, catalog), faults)
    customers = frozenset(customer.id for customer in parties[0]) if parties else frozenset()
    story = None
    if parties is not None:
        story = _read(
            folder, "story.yaml", lambda each: parse_story(each, folder, customers=customers, meters=meters), faults
        )
    if seller is None or parties is None or story is None:
        raise Malformed(faults)
    counted = frozenset(meter.code for meter in catalog.meters if meter.aggregation in VALUELESS)
    rows: list[UsageRow] = []
    for rule in story.usage:
        sound, wrong = read_usage(folder, rule, customers=customers, meters=frozenset(meters), counted=counted)
        rows += sound
        faults += wrong
    rows, contradictions = _without_contradictions(rows)
    faults += contradictions
    example = Example(
        folder=folder,
        seller=seller,
        catalog=catalog,
        customers=parties[0],
        policy=parties[1],
        story=story,
        rows=tuple(sorted(rows, key=lambda row: row.send_time)),
    )
    return Reading(example, tuple(sorted(faults)))


def fingerprint(folder: Path) -> str:
    """Tells folders apart by where they are and what they agree on. Usage is not part of it: it is only added to."""
    digest = hashlib.sha256(str(folder.resolve()).encode())
    for name in FILES:
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()[:16]


def _read(folder: Path, name: str, parse: Callable[[Value], ParsedT], faults: list[Fault]) -> ParsedT | None:
    return _sound(lambda: parse(read(folder, name)), faults)


def _sound(read: Callable[[], ParsedT], faults: list[Fault]) -> ParsedT | None:
    try:
        return read()
    except Malformed as error:
        faults += error.faults
        return None


def _unreadable(folder: Path, name: str) -> list[Fault]:
    faults: list[Fault] = []
    _read(folder, name, lambda document: document, faults)
    return faults


def _without_contradictions(rows: Iterable[UsageRow]) -> tuple[list[UsageRow], list[Fault]]:
    """The same event twice is a repeat; the same id with other content is a mistake, of the later one."""
    first: dict[tuple[str, str], UsageRow] = {}
    sound: list[UsageRow] = []
    faults: list[Fault] = []
    for row in rows:
        known = first.setdefault((row.source, row.id), row)
        if _content(known) == _content(row):
            sound.append(row)
            continue
        file, _, line = row.place.rpartition(":")
        reason = f"id {row.id!a} of source {row.source!a} is at {known.place} with other content"
        faults.append(Fault(file, int(line), 1, reason))
    return sound, faults


def _content(row: UsageRow) -> tuple[object, ...]:
    return row.customer, row.meter, row.time, row.value, row.dimensions
