"""The code keeps the rules of the house; test_rules.py shows that each of them bites."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.architecture import rules
from tests.architecture.assertions import Assertions, unexplained
from tests.architecture.rules import Finding, Module
from tests.architecture.sources import COMMON, ROOT, SERVICES, all_modules, product_modules, service_source, shown

# It stands for a company elsewhere, which has a clock and a database of its own.
FOREIGN = service_source("payments") / "gateways/simulated.py"
PURE_VALUES = [COMMON / name for name in ("money.py", "period.py", "ids.py", "errors.py")]


@functools.cache
def _module(path: Path) -> Module:
    return Module.at(path)


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    _module.cache_clear()


def _broken(rule: Callable[[Module], Iterable[Finding]], paths: Iterable[Path]) -> list[str]:
    return [f"{shown(path)}:{found.line}: {found.text}" for path in paths for found in rule(_module(path))]


def _is_migration(path: Path) -> bool:
    return "migrations" in path.parts


def _is_test(path: Path) -> bool:
    return "tests" in path.relative_to(ROOT).parts


def _deciding() -> Iterator[Path]:
    """Where money and time are decided."""
    for service in SERVICES:
        source = service_source(service)
        yield from sorted((source / "domain").rglob("*.py"))
        yield from sorted({*source.glob("usecases*.py"), *(source / "usecases").rglob("*.py")})


def test_nobody_reads_a_clock_but_the_clock() -> None:
    """Or a sandbox would live in two times at once, and a test would pass only in summer."""
    paths = [path for path in all_modules() if path != COMMON / "clock.py" and not _is_test(path)]
    assert _broken(functools.partial(rules.clock_readings, loops=False), paths) == []


def test_services_do_not_ask_the_loop_or_the_database_for_the_time() -> None:
    """`tx.now` is the time of the seller; the database's and the machine's are not."""
    paths = [path for path in product_modules() if path.is_relative_to(ROOT / "services") and not _is_migration(path)]
    assert _broken(rules.clock_readings, paths) == []
    assert _broken(rules.sql_clocks, [path for path in paths if path != FOREIGN]) == []


def test_money_and_quantities_are_exact() -> None:
    """One float is enough to lose a cent."""
    assert _broken(rules.floats, [*_deciding(), *PURE_VALUES]) == []


@pytest.mark.parametrize("service", SERVICES)
def test_the_domain_is_pure(service: str) -> None:
    """Rules that wait for nothing and know nobody can be tested in milliseconds and believed."""
    paths = sorted((service_source(service) / "domain").rglob("*.py"))
    assert len(paths) > 1
    assert _broken(functools.partial(rules.impurities, service=service), paths) == []


def test_the_values_of_the_chassis_are_as_pure_as_a_domain() -> None:
    """Any domain may import them, so what holds for it holds for them."""
    outside = {"iso4217", "whenever", "itertools", "secrets"}  # published tables, calendar arithmetic, and minting ids
    for path in PURE_VALUES:
        found = _broken(functools.partial(rules.impurities, service="common"), [path])
        assert [each for each in found if each.rpartition(" ")[2].partition(".")[0] not in outside] == []


def test_the_chassis_knows_one_contract_only() -> None:
    """Its own, OperationsService (docs/decisions/0003). Another would be one service's business in all the houses."""
    found = {
        name
        for path in product_modules()
        if path.is_relative_to(COMMON)
        for _, name in rules.imports(_module(path).tree)
        if name.startswith("saldo")
    }
    assert {".".join(name.split(".")[:2]) for name in found} == {"saldo.operations"}


def test_sql_is_where_sql_belongs() -> None:
    """A query in a use case or a door would be the first of many."""
    allowed = ("store", "tables", "migrations")
    for service in SERVICES:
        source = service_source(service)
        for path in sorted(source.rglob("*.py")):
            if not path.relative_to(source).parts[0].startswith(allowed):
                names = {name.partition(".")[0] for _, name in rules.imports(_module(path).tree)}
                assert "sqlalchemy" not in names, f"{shown(path)} imports SQLAlchemy"


def test_doors_have_the_same_names_everywhere() -> None:
    """A newcomer finds what comes in by calls, facts and time without asking. A second contract has a second `api`."""
    doors = {
        "ServiceServicer)": "api.py",
        "HANDLERS: ": "consumers.py",
        "Job(": "schedule.py",
        "Errand(": "schedule.py",
    }
    misplaced = [
        f"{shown(path)} does what {door} is for"
        for service in SERVICES
        for path in sorted(service_source(service).rglob("*.py"))
        for sign, door in doors.items()
        if sign in path.read_text() and path.name != door and not path.name.endswith(f"_{door}")
    ]
    assert misplaced == []


def test_services_do_not_print() -> None:
    """What happens is said in the log, where it is found again."""
    assert _broken(rules.prints, product_modules()) == []


def test_any_and_ignored_types_have_reasons() -> None:
    """What switches the checker off says why it may."""
    paths = [path for path in all_modules() if not _is_test(path) and not path.is_relative_to(ROOT / "bench")]
    assert _broken(rules.unexplained_any, paths) == []
    assert _broken(rules.unexplained_ignores, all_modules()) == []


def test_nothing_is_left_for_later() -> None:
    """A note to oneself in the code is read by nobody."""
    assert _broken(rules.unfinished, all_modules()) == []


def test_modules_are_short() -> None:
    """When one grows past a few screens, a noun hides in it. Tests may list more cases than code has branches."""
    assert _broken(rules.overlong, [path for path in all_modules() if not _is_test(path)]) == []


def test_modules_say_what_they_know() -> None:
    """A newcomer reads the first line of each and finds the way. The two lines of a migrations/env.py go without."""
    paths = [path for path in all_modules() if path.name != "env.py"]
    assert _broken(rules.mute, paths) == []


def test_names_are_nouns_of_the_domain() -> None:
    """docs/glossary.md has the word for it."""
    assert _broken(rules.banned_names, product_modules()) == []


def test_every_test_says_why_and_can_fail() -> None:
    """A test that cannot fail is worse than none: it is believed."""
    tests = [path for path in all_modules() if path.name.startswith("test_")]
    assertions = Assertions(_module(path) for path in all_modules())
    assert _broken(unexplained, tests) == []
    assert _broken(assertions.toothless, tests) == []
