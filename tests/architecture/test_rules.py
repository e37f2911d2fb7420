"""Every rule finds what it is there to find, and lets pass what it should."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from textwrap import dedent

import pytest

from tests.architecture import rules
from tests.architecture.assertions import Assertions, unexplained
from tests.architecture.rules import Finding, Module

Rule = Callable[[Module], Iterable[Finding]]
impurities = functools.partial(rules.impurities, service="invoicing")

BAD: list[tuple[Rule, str]] = [
    (rules.clock_readings, "from datetime import UTC, datetime\nnow = datetime.now(UTC)"),
    (rules.clock_readings, "import datetime\nnow = datetime.datetime.utcnow()"),
    (rules.clock_readings, "from datetime import date\ntoday = date.today()"),
    (rules.clock_readings, "import time\nread = time.time"),
    (rules.clock_readings, "from sqlalchemy import func\nwhen = func.now()"),
    (rules.clock_readings, "import asyncio\nlater = asyncio.get_running_loop().time() + 5"),
    (rules.sql_clocks, 'QUERY = "SELECT * FROM plans WHERE end_time < now()"'),
    (rules.sql_clocks, 'QUERY = "UPDATE plans SET time = CURRENT_TIMESTAMP"'),
    (rules.floats, "share = 0.5"),
    (rules.floats, "def half(amount):\n    return float(amount) / 2"),
    (rules.floats, "def half(amount: float): ..."),
    (rules.floats, "seconds = (end - start).total_seconds()"),
    (rules.prints, 'print("here")'),
    (impurities, "async def rate(): ..."),
    (impurities, "import logging"),
    (impurities, "import random"),
    (impurities, "import asyncio"),
    (impurities, "from invoicing import store"),
    (impurities, "from common.db import Tx"),
    (impurities, "from common import wire"),
    (impurities, "from saldo.invoicing.v1 import invoice_pb2"),
    (impurities, "import sqlalchemy"),
    (rules.unexplained_any, "from typing import Any\ndef take(what: Any) -> None: ..."),
    (rules.unexplained_any, "from typing import Any\nwhat: dict[str, Any] = {}  # everything"),
    (rules.unexplained_ignores, "x = y  # type: ignore[assignment]"),
    (rules.unexplained_ignores, "x = y  # type: ignore"),
    (rules.unfinished, "# TO" + "DO: later"),
    (rules.unfinished, "def later():\n    raise NotImplementedError"),
    (rules.overlong, "x = 1\n" * 501),
    (rules.banned_names, "class InvoiceManager: ..."),
    (rules.banned_names, "def charge_customer(): ..."),
    (rules.banned_names, "class CustomerAccount: ..."),
    (rules.banned_names, "class LedgerAccountManager: ..."),
    (rules.mute, "x = 1"),
    (unexplained, "def test_it():\n    assert True"),
    (Assertions(()).toothless, "def test_it():\n    compute()"),
]

GOOD: list[tuple[Rule, str]] = [
    (rules.clock_readings, "import time\nbegan = time.monotonic()\nnow = tx.now"),
    (functools.partial(rules.clock_readings, loops=False), "end = loop.time() + 5"),
    (rules.sql_clocks, '"""Compares with now() of nobody."""\nQUERY = "SELECT known()"'),
    (rules.floats, "from decimal import Decimal\nshare = Decimal('0.5') * 3 // 2"),
    (impurities, "from decimal import Decimal\nfrom common.money import Money\nfrom invoicing.domain.line import Line"),
    (impurities, "from common import ids"),
    (rules.unexplained_any, "from typing import Any\ndef take(\n    what: Any,  # Any: of any kind\n) -> None: ..."),
    (rules.unexplained_ignores, "x = y  # type: ignore[assignment] # the stub is wrong"),
    (
        rules.unexplained_ignores,
        "# The stubs are wrong.\nx = y  # type: ignore[assignment]\nz = y  # type: ignore[assignment]",
    ),
    (rules.banned_names, "class CustomerCredit: ...\ndef feed(): ..."),
    (rules.banned_names, "class LedgerAccount: ..."),
    (Assertions(()).toothless, "def test_it():\n    with pytest.raises(ValueError):\n        compute()"),
    (Assertions(()).toothless, "async def test_it():\n    with refused('PLAN_NOT_DRAFT'):\n        await publish()"),
]


@pytest.mark.parametrize(("rule", "source"), BAD)
def test_a_rule_bites(rule: Rule, source: str) -> None:
    """Otherwise it would be decoration."""
    assert list(rule(Module(source)))


@pytest.mark.parametrize(("rule", "source"), GOOD)
def test_a_rule_lets_the_right_thing_pass(rule: Rule, source: str) -> None:
    """A rule that cries wolf is switched off."""
    assert list(rule(Module(source))) == []


def test_an_assertion_counts_through_any_number_of_calls() -> None:
    """Tests may read as sentences whose verbs do the asserting."""
    helpers = Module(
        dedent("""
            def settled(books):
                balanced(books)

            def balanced(books):
                assert sum(books) == 0

            def busy():
                busy()
        """)
    )
    assertions = Assertions([helpers])
    assert list(assertions.toothless(Module("def test_it():\n    settled([1, -1])"))) == []
    assert list(assertions.toothless(Module("def test_it():\n    busy()")))
