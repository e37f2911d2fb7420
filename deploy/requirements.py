"""Knows which of the locked runtime requirements one service needs.

`python deploy/requirements.py catalog` prints them: a part of requirements/runtime.txt, hashes and all, so that an
image holds nothing that its service does not declare. Runs in the builder stage, where everything in the lock is
installed and can be asked for its dependencies.
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
OWN = {"saldo-common": "libs/common", "saldo-protos": "protos"}
PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==", re.IGNORECASE)


def main() -> int:
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python deploy/requirements.py SERVICE\n")
        return 2
    sys.stdout.write("".join(needed(sys.argv[1])))
    return 0


def needed(service: str) -> list[str]:
    """The pins of everything the service imports, directly or not, in the order of the lock."""
    pins = locked(ROOT / "requirements/runtime.txt")
    wanted = closure(_declared(ROOT / "services" / service / "pyproject.toml"))
    if missing := wanted - set(pins):
        raise SystemExit(f"{service} needs what requirements/runtime.in does not lock: {', '.join(sorted(missing))}")
    return [pin for name, pin in pins.items() if name in wanted]


def locked(path: Path) -> dict[str, str]:
    """Every pin of a lock file with its hashes, by name."""
    pins: dict[str, str] = {}
    name = ""
    for line in path.read_text().splitlines(keepends=True):
        if match := PIN.match(line):
            name = canonicalize_name(match["name"])
            pins[name] = ""
        if name:
            pins[name] += line
    return pins


def closure(requirements: list[Requirement]) -> set[str]:
    """The names of all distributions that these lead to, on this platform."""
    found: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        if name in OWN:
            waiting += _declared(ROOT / OWN[name] / "pyproject.toml")
            continue
        found.add(name)
        waiting += [
            each
            for each in map(Requirement, metadata.requires(name) or ())
            if _applies(each, ("", *requirement.extras))
        ]
    return found


def _applies(requirement: Requirement, extras: tuple[str, ...]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras)


def _declared(path: Path) -> list[Requirement]:
    declared = map(Requirement, tomllib.loads(path.read_text())["project"]["dependencies"])
    return [each for each in declared if _applies(each, ("",))]


if __name__ == "__main__":
    raise SystemExit(main())
