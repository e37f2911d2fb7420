"""Knows how a document reaches two services: its meters are metering's, all else is the catalog's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import grpc.aio
import yaml

from common.document import Faults, Malformed, Value, parse
from saldo.catalog.v1 import catalog_service_pb2 as catalog_pb
from saldo.metering.v1 import meter_pb2
from saldo.metering.v1 import metering_service_pb2 as metering_pb
from tools.client import Client, pages
from tools.meter_updates import MeterUpdate, fields_of, update
from tools.meters import Meter, create_meter, read_meters
from tools.refusals import APPLY_SECONDS, faults_of

EMPTY: Final = "{}\n"
LINE_WIDTH_MAX: Final = 10**6

ACTION: Final = catalog_pb.CatalogChange.Action
HEADLINES: Final = {
    ACTION.CREATE: ("green", "+ {}"),
    ACTION.UPDATE: ("yellow", "~ {}"),
    ACTION.CREATE_VERSION: ("green", "+ {}, next version"),
    ACTION.PUBLISH: ("green", "> {} is published"),
    ACTION.ARCHIVE: ("red", "- {} is archived"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    name: str
    text: str
    meters: tuple[tuple[Meter, Value], ...]
    """With where they stand."""
    of_transactions: tuple[Value, ...]
    """The codes of the meters of prices that are a percentage of transactions, where they stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """As it is told to people."""

    headline: str
    style: str
    lines: tuple[str, ...] = ()


def read_document(text: str, name: str) -> Document:
    """Fails with Malformed when it is no YAML, or for its meters; of all else the catalog is the judge."""
    document = parse(text, name)
    return Document(
        name=name,
        text=text,
        meters=tuple(read_meters(document)),
        of_transactions=tuple(_of_transactions(document)),
    )


async def apply(client: Client, document: Document, *, validate_only: bool, prune: bool = False) -> list[Difference]:
    """What was changed, or would be. Fails with Malformed, before anything is changed, if the document is wrong."""
    missing, updates = await _meters_of(client, document)
    await update(client, updates, validate_only=True)
    found = await _apply(client, document, validate_only=True, prune=prune)
    if not validate_only:
        for meter in missing:
            await client.metering.CreateMeter(create_meter(meter))
        await update(client, updates, validate_only=False)
        # What was there to see may have changed since.
        found = await _apply(client, document, validate_only=False, prune=prune)
    return [
        *(Difference(headline=f"+ meter {meter.code}", style="green") for meter in missing),
        *(_updated(each) for each in updates),
        *(_difference(change) for change in found),
    ]


async def export(client: Client) -> str:
    """The meters first, then the catalog as it tells itself: a document that applies to another seller too."""
    meters = "".join(f"  - {_written(meter)}\n" for meter in await _meters(client))
    answer = await client.catalog.ExportCatalog(catalog_pb.ExportCatalogRequest(), timeout=APPLY_SECONDS)
    if not meters:
        return str(answer.document)
    return f"meters:\n{meters}" + ("" if answer.document == EMPTY else str(answer.document))


async def _apply(
    client: Client, document: Document, *, validate_only: bool, prune: bool
) -> list[catalog_pb.CatalogChange]:
    request = catalog_pb.ApplyCatalogRequest(document=document.text, validate_only=validate_only, prune=prune)
    try:
        return list((await client.catalog.ApplyCatalog(request, timeout=APPLY_SECONDS)).changes)
    except grpc.aio.AioRpcError as error:
        if faults := faults_of(error, document.name):
            raise Malformed(faults) from None
        raise


async def _meters_of(client: Client, document: Document) -> tuple[list[Meter], list[MeterUpdate]]:
    """Those of the document that there are not, and those that there are and that count or are called otherwise."""
    known = {meter.code: meter for meter in await _meters(client)}
    faults = Faults()
    missing = [meter for meter, _ in document.meters if meter.code not in known]
    updates = [
        MeterUpdate(wanted=meter, there=known[meter.code], value=value)
        for meter, value in document.meters
        if meter.code in known
    ]
    updates = [each for each in updates if each.differences]
    for each in updates:
        if "carries_over" in each.differences:
            with faults.kept():
                stands = each.value.get("carries_over") or each.value
                raise stands.fault(f"carries_over cannot change: it is {each.there.carries_over or 'absent'}")
    carrying = {code for code, meter in known.items() if meter.carries_over}
    carrying |= {meter.code for meter in missing if meter.carries_over}
    for code in document.of_transactions:
        if code.written in carrying:
            with faults.kept():
                raise code.fault(
                    "must not carry over: a percentage of its transactions would be due in every period anew"
                )
    faults.check()
    return missing, updates


def _of_transactions(document: Value) -> Iterator[Value]:
    for plan in _entries(document, "plans"):
        for price in _entries(plan, "prices"):
            meter = price.get("meter")
            if meter is not None and price.get("percentage") is not None:
                yield meter


def _entries(value: Value, key: str) -> list[Value]:
    """What is no list the catalog complains of."""
    found = value.get(key)
    return found.elements if found is not None and found.is_list else []


async def _meters(client: Client) -> list[meter_pb2.Meter]:
    request = metering_pb.ListMetersRequest(page_size=1000)
    found: list[meter_pb2.Meter] = []
    async for page in pages(client.metering.ListMeters, request, metering_pb.ListMetersResponse):
        found += page.meters
    return sorted(found, key=lambda meter: meter.code)


def _written(meter: meter_pb2.Meter) -> str:
    """In one line of YAML, without what goes unsaid."""
    said = {key: value for key, value in fields_of(meter).items() if value}
    line: str = yaml.safe_dump(said, default_flow_style=True, sort_keys=False, allow_unicode=True, width=LINE_WIDTH_MAX)
    return line.strip()


def _updated(update: MeterUpdate) -> Difference:
    version = ", next version" if update.makes_version else ""
    lines = (
        _line(catalog_pb.FieldChange(path=name, before=_shown(before), after=_shown(after)))
        for name, (before, after) in update.differences.items()
    )
    return Difference(headline=f"~ meter {update.wanted.code}{version}", style="yellow", lines=tuple(lines))


def _shown(value: object) -> str:
    """On one line; nothing for what goes unsaid."""
    return json.dumps(value, ensure_ascii=False) if value else ""


def _difference(change: catalog_pb.CatalogChange) -> Difference:
    style, headline = HEADLINES[change.action]
    what = f"{change.resource.replace('_', ' ')} {change.code}"
    # That it is published or archived, the headline says.
    lines = (_line(field) for field in change.fields if field.path != "state")
    return Difference(headline=headline.format(what), style=style, lines=tuple(lines))


def _line(field: catalog_pb.FieldChange) -> str:
    if field.before and field.after:
        return f"{field.path}: {field.before} -> {field.after}"
    return f"+ {field.path}: {field.after}" if field.after else f"- {field.path}: {field.before}"
