"""The checker is a second opinion: it shares no code with what it checks, but for time and the form of ids."""

from __future__ import annotations

import ast

from tests.architecture.sources import ROOT

SHARED = {"common.clock", "common.ids"}
SERVICES = {"catalog", "subscriptions", "metering", "invoicing", "payments", "dunning"}


def imported() -> set[str]:
    """Every module of ours that a module of the checker imports."""
    found: set[str] = set()
    for path in sorted((ROOT / "tools" / "check").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {each.name for each in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module == "common":
                found |= {f"common.{each.name}" for each in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
    return {name for name in found if name.split(".")[0] in SERVICES | {"common"}}


def test_the_checker_shares_no_rule_with_what_it_checks() -> None:
    """The same mistake made twice would agree with itself."""
    assert imported() == SHARED
