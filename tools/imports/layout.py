"""Knows which column of a file means what: fields of usage events by name, constants, and dimensions for all else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final
from zoneinfo import ZoneInfo

FIELDS: Final = ("id", "source", "customer", "meter", "time", "value")
NEEDED: Final = ("customer", "meter", "time")
SOURCE: Final = "import"
"""Of rows that tell none."""
DIMENSION: Final = "dimensions."
"""What the name of a column may begin with that tells a dimension; its name follows."""
ID_LENGTH_MAX: Final = 128
DIMENSIONS_MAX: Final = 16
ROLES_MAX: Final = 10_000
"""How many columns are remembered: every line of JSON may have other ones."""

_DIMENSION: Final = re.compile(r"[a-z0-9_-]{1,64}")


class Unusable(Exception):
    """The file cannot be read so: as a whole, not a row of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    file_name: str
    columns: Mapping[str, str]
    """The column of a field or of a dimension, where it is not called like it."""
    constants: Mapping[str, str]
    """What every row says: also where there is a column of that name, which then says nothing."""
    without: Collection[str]
    """Columns that say nothing."""
    id_columns: tuple[str, ...]
    time_zone: ZoneInfo | None
    """Of times that do not tell their offset."""
    _roles: dict[str, str] = field(default_factory=dict, init=False)

    def check(self, present: Collection[str]) -> None:
        """Whether a file with these columns, which are those of every row, can be imported."""
        given = set(present)
        for name, column in self.columns.items():
            if column not in given:
                raise Unusable(f"there is no column {column!a} for {name}: it has {', '.join(map(ascii, present))}")
        for column in self.id_columns:
            if column not in given:
                raise Unusable(f"there is no column {column!a} to make ids of")
        roles = [self.role(column) for column in present]
        for name in NEEDED:
            if name not in roles and name not in self.constants:
                told = f"--column {name}=COLUMN" + ("" if name == "time" else f", or --{name} for all rows")
                raise Unusable(f"there is no column {name}: say {told}")
        for role in roles:
            if role and roles.count(role) > 1:
                raise Unusable(f"there are several columns for {role}")
        if sum(role.startswith(DIMENSION) for role in roles) > DIMENSIONS_MAX:
            raise Unusable(
                f"more than {DIMENSIONS_MAX} columns would be dimensions: leave some out by --without COLUMN"
            )

    def role(self, column: str) -> str:
        """A field, or a dimension with its prefix; empty for a column that says nothing. Raises Unusable."""
        known = self._roles.get(column)
        if known is None:
            if len(self._roles) >= ROLES_MAX:
                self._roles.clear()
            known = self._roles[column] = self._role(column)
        return known

    def _role(self, column: str) -> str:
        if column in self.without:
            return ""
        mapped = next((name for name, other in self.columns.items() if other == column), None)
        if mapped is None and column in FIELDS and column not in self.columns:
            mapped = column
        if mapped in FIELDS:
            return "" if mapped in self.constants else mapped
        name = mapped or column.removeprefix(DIMENSION)
        if _DIMENSION.fullmatch(name):
            return DIMENSION + name
        if column in self.id_columns:
            return ""
        raise Unusable(
            f"column {column[:60]!a} is no name for a dimension (1 to 64 of a-z, 0-9, _ and -):"
            " rename it by --column NAME=COLUMN, or leave it out by --without COLUMN"
        )

    def made_up_id(self, number: int, cells: Mapping[str, str]) -> str:
        """The same for the same row, whenever it is read. Raises KeyError for a column that the row does not have."""
        if self.id_columns:
            parts = [cells[column].replace("%", "%25").replace("/", "%2F") for column in self.id_columns]
            made = "/".join(parts)
        else:
            made = f"{self.file_name}:{number}"
        if len(made) > ID_LENGTH_MAX:
            return hashlib.sha256(made.encode(errors="surrogatepass")).hexdigest()
        return made

    def digest(self) -> str:
        """Two that read rows in the same way have the same."""
        told = [
            self.file_name,
            sorted(self.columns.items()),
            sorted(self.constants.items()),
            sorted(self.without),
            self.id_columns,
            str(self.time_zone),
        ]
        return hashlib.sha256(repr(told).encode(errors="surrogatepass")).hexdigest()
