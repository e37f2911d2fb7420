"""Knows the matrix: a tariff for each value of one or two dimensions of the usage."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final

from catalog.domain.tariff import Graduated, Tariff, Volume, field_of
from common.errors import InvalidArgument

DIMENSIONS_MAX: Final = 2
CELLS_MAX: Final = 1000
TIERS_MAX: Final = 2000
"""Of all cells together: each of them may become a step of one line."""

_DIMENSION: Final = re.compile(r"[a-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixCell:
    """One value for each dimension, in their order; an empty one is usage that does not name the dimension."""

    values: tuple[str, ...]
    tariff: Tariff


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """What no cell names is rated together at the default tariff: nothing is used for nothing by accident."""

    name: ClassVar = "MATRIX"

    dimensions: tuple[str, ...]
    cells: tuple[MatrixCell, ...]
    default_tariff: Tariff

    def check(self, *, field: str) -> None:
        self._check_dimensions(field=f"{field}.dimensions")
        if not 1 <= len(self.cells) <= CELLS_MAX:
            raise InvalidArgument(f"must have 1 to {CELLS_MAX} cells", field=f"{field}.cells")
        seen: set[tuple[str, ...]] = set()
        for n, cell in enumerate(self.cells):
            where = f"{field}.cells[{n}]"
            if len(cell.values) != len(self.dimensions):
                raise InvalidArgument(
                    f"must have {len(self.dimensions)}, one for each dimension", field=f"{where}.values"
                )
            if cell.values in seen:
                raise InvalidArgument("must not be those of a cell before it", field=f"{where}.values")
            seen.add(cell.values)
            _check_tariff(cell.tariff, field=f"{where}.tariff")
        _check_tariff(self.default_tariff, field=f"{field}.default_tariff")
        if sum(_tiers(tariff) for tariff in (self.default_tariff, *(cell.tariff for cell in self.cells))) > TIERS_MAX:
            raise InvalidArgument(f"must have at most {TIERS_MAX} tiers in all", field=f"{field}.cells")

    def _check_dimensions(self, *, field: str) -> None:
        if not 1 <= len(self.dimensions) <= DIMENSIONS_MAX:
            raise InvalidArgument(f"must have 1 to {DIMENSIONS_MAX} dimensions", field=field)
        for n, dimension in enumerate(self.dimensions):
            if not _DIMENSION.fullmatch(dimension):
                raise InvalidArgument("must be 1 to 64 of a-z, 0-9, _ and -", field=f"{field}[{n}]")
            if dimension in self.dimensions[:n]:
                raise InvalidArgument("must not be named twice", field=f"{field}[{n}]")


def _tiers(tariff: Tariff) -> int:
    return len(tariff.tiers) if isinstance(tariff, Graduated | Volume) else 1


def _check_tariff(tariff: Tariff, *, field: str) -> None:
    tariff.check(field=f"{field}.{field_of(tariff.name)}")
