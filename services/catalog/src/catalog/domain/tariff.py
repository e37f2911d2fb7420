"""Knows the simple models, which may also stand inside of a matrix: an amount from one quantity and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from catalog.domain.bounds import check_size, check_unit_price
from catalog.domain.tier import Tier, check_tiers


@dataclass(frozen=True, slots=True, kw_only=True)
class PerUnit:
    name: ClassVar = "PER_UNIT"

    unit_price: Decimal

    def check(self, *, field: str) -> None:
        check_unit_price(self.unit_price, field=f"{field}.unit_price")


@dataclass(frozen=True, slots=True, kw_only=True)
class Graduated:
    """Each unit at the price of the tier it falls in."""

    name: ClassVar = "GRADUATED"

    tiers: tuple[Tier, ...]
    flat_without_usage: bool = False

    def check(self, *, field: str) -> None:
        check_tiers(self.tiers, field=f"{field}.tiers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """Every unit at the price of the tier that the whole quantity falls in."""

    name: ClassVar = "VOLUME"

    tiers: tuple[Tier, ...]
    flat_without_usage: bool = False

    def check(self, *, field: str) -> None:
        check_tiers(self.tiers, field=f"{field}.tiers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """Packages that have been started, each at one price."""

    name: ClassVar = "PACKAGE"

    size: Decimal
    price: Decimal

    def check(self, *, field: str) -> None:
        check_size(self.size, field=f"{field}.size")
        check_unit_price(self.price, field=f"{field}.price")


Tariff = PerUnit | Graduated | Volume | Package


def field_of(name: str) -> str:
    """The field of a message that a model of this name stands in."""
    return name.lower()
