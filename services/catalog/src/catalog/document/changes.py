"""Knows what can be done to the catalog to make it what a document says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from catalog.document.entries import Entry
from catalog.document.tree import Tree
from catalog.document.write import written
from saldo.catalog.v1 import catalog_service_pb2 as pb

PRICES = "prices"


class Action(Enum):
    CREATE = "CREATE"
    UPDATE = "UPDATE"
    CREATE_VERSION = "CREATE_VERSION"
    PUBLISH = "PUBLISH"
    ARCHIVE = "ARCHIVE"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """In YAML; empty where there is nothing."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    action: Action
    resource: str
    code: str
    fields: tuple[FieldChange, ...] = ()
    entry: Entry | None = None
    """What it is to be; None for what is archived because nothing names it."""
    ids: tuple[str, ...] = ()
    """Of what is changed; without any, of what a change before this one made for the same code."""


def change_to_proto(change: Change) -> pb.CatalogChange:
    return pb.CatalogChange(
        action=pb.CatalogChange.Action.Value(change.action.name),
        resource=change.resource,
        code=change.code,
        fields=[pb.FieldChange(path=each.path, before=each.before, after=each.after) for each in change.fields],
    )


def differences(before: Tree, after: Tree, *, path: str = "") -> Iterator[FieldChange]:
    """Key by key, and price by price; any other list is one value."""
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in [*before, *(key for key in after if key not in before)]:
            where = f"{path}.{key}" if path else key
            if key not in before:
                yield FieldChange(where, "", written(after[key]))
            elif key not in after:
                yield FieldChange(where, written(before[key]), "")
            else:
                yield from differences(before[key], after[key], path=where)
    elif path == PRICES:
        yield from _differences_of_prices(_by_code(before), _by_code(after))
    else:
        yield FieldChange(path, written(before), written(after))


def _differences_of_prices(before: Mapping[str, Tree], after: Mapping[str, Tree]) -> Iterator[FieldChange]:
    yield from differences(before, after, path=PRICES)
    stay = [code for code in before if code in after]
    order = [code for code in after if code in before]
    if stay != order:
        yield FieldChange(PRICES, written(stay), written(order))


def _by_code(prices: Tree) -> dict[str, Tree]:
    assert isinstance(prices, Sequence)
    assert not isinstance(prices, str)
    return {str(price["code"]): price for price in prices if isinstance(price, Mapping)}
