"""Knows how far a file has been imported, in a small file of its own, so that it can go on there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tools.imports.reading import Place
from tools.imports.sending import Tally

BEGINNING_BYTES: Final = 65_536
COUNTS: Final = ("accepted", "duplicate", "unmatched", "rejected")


@dataclass(frozen=True, slots=True)
class Progress:
    """Where it stands, and what it is of: a file that has become another one is begun anew."""

    path: Path
    of: str

    def load(self) -> tuple[Place, Tally]:
        """The beginning, if nothing is known."""
        try:
            found = json.loads(self.path.read_bytes())
            if found["of"] == self.of:
                place = Place(**{name: int(found["place"][name]) for name in ("offset", "line", "number")})
                accepted, duplicate, unmatched, rejected = (int(found["tally"][name]) for name in COUNTS)
                return place, Tally(accepted, duplicate, unmatched, rejected)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return Place(), Tally()

    def save(self, place: Place, tally: Tally) -> None:
        """All of it or nothing. Raises OSError where nothing can be written."""
        written: Mapping[str, object] = {
            "of": self.of,
            "place": asdict(place),
            "tally": {name: getattr(tally, name) for name in COUNTS},
        }
        beside = self.path.with_name(self.path.name + ".new")
        beside.write_text(json.dumps(written), encoding="utf-8")
        beside.replace(self.path)

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)


def fingerprint(path: Path, *, seller: str, layout: str) -> str:
    """The same for the same file that is read in the same way for the same seller."""
    with path.open("rb") as file:
        beginning = hashlib.sha256(file.read(BEGINNING_BYTES)).hexdigest()
    told = "\n".join([seller, layout, str(path.stat().st_size), beginning])
    return hashlib.sha256(told.encode()).hexdigest()
