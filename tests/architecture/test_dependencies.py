"""What we know about our dependencies and must not forget: the guards of docs/decisions/0010-traps.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Histogram, HistogramDataPoint, InMemoryMetricReader
from packaging.requirements import Requirement
from packaging.version import Version
from sqlalchemy import make_url

from common.money import minor_units
from common.telemetry import SECONDS
from deploy.requirements import locked
from tests.architecture.sources import COMMON, ROOT, all_modules, product_modules, shown, tree
from tools.binaries import Binaries, ServerFailed

LOCKS = ("bootstrap", "runtime", "dev", "clickhouse")

# Where ISO 4217, which banks and tax offices follow, and the locale data of CLDR disagree about decimals.
DISPUTED = {"IQD": 3}
DISPUTED |= dict.fromkeys(("RSD", "LBP", "MMK", "YER", "ALL", "AFN", "IRR", "LAK", "MGA", "SOS", "SYP", "KPW"), 2)

REJECTED = (
    "babel",
    "connectrpc",
    "opentelemetry-instrumentation-asyncpg",
    "opentelemetry-instrumentation-grpc",
    "opentelemetry-instrumentation-sqlalchemy",
    "protovalidate",
    "saxonche",
    "stamina",
    "stockholm",
)


def _pins(name: str) -> dict[str, str]:
    return locked(ROOT / f"requirements/{name}.txt")


def _version(name: str) -> Version:
    return Version(re.split(r"[ \\;]", _pins("runtime")[name].partition("==")[2])[0])


def _licences(name: str) -> str:
    told = metadata.metadata(name)
    classifiers = [each for each in told.get_all("Classifier") or () if each.startswith("License")]
    named = [*(told.get_all("License-Expression") or ()), *(told.get_all("License") or ())]
    return " ".join([*(each[:200] for each in named), *classifiers])


def _copyleft(licences: str) -> bool:
    """The lesser ones allow what we do; the others would make the whole suite theirs."""
    return bool(re.search(r"\b(?:A|Affero )?GPL|General Public", re.sub(r"\bLGPL|Lesser General Public", "", licences)))


def test_no_copyleft_in_an_image() -> None:
    """What is installed at run time may be combined with Apache-2.0; the rest runs as separate test processes."""
    found = {}
    for name, pin in _pins("runtime").items():
        try:
            found[name] = _licences(name)
        except metadata.PackageNotFoundError:
            assert "sys_platform" in pin, f"{name} is locked, not installed, and for no other platform"
    assert len(found) > 40
    assert [name for name, licences in found.items() if _copyleft(licences) or not licences.strip()] == []


def test_copyleft_is_recognised() -> None:
    """By the one that we do use, in tests and as a process of its own."""
    assert _copyleft(_licences("localstripe"))
    assert not _copyleft("GNU Lesser General Public License v2 (LGPLv2)")


def test_copyleft_is_never_imported() -> None:
    """A separate process is one thing; an import would be a combined work."""
    assert [shown(path) for path in all_modules() if "localstripe" in _imported(path)] == []


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_is_complete_and_belongs_to_no_place(name: str) -> None:
    """pip's configuration of the machine that locked would otherwise be in it: indexes, links, folders."""
    text = (ROOT / f"requirements/{name}.txt").read_text()
    assert not re.search(r"--(?:index-url|extra-index-url|find-links|trusted-host)|://|file:", text)
    assert [pin for pin in _pins(name).values() if "--hash=sha256:" not in pin] == []
    assert {"--no-emit-index-url", "--no-emit-find-links"} <= set((ROOT / "Makefile").read_text().split())


def test_a_lock_has_what_was_asked_for() -> None:
    """Whoever adds a line to an .in file runs `make lock`."""
    for name in LOCKS:
        lines = (
            line.partition("  #")[0].strip() for line in (ROOT / f"requirements/{name}.in").read_text().splitlines()
        )
        wanted = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
        pins = _pins(name)
        for requirement in wanted:
            pinned = re.split(r"[ \\;]", pins[requirement.name.lower()].partition("==")[2])[0]
            assert requirement.specifier.contains(pinned), f"{requirement} is locked at {pinned}"


def test_protobuf_is_the_one_our_code_was_generated_for() -> None:
    """A dependency that pins an old protobuf would take it down with it."""
    assert _version("protobuf") >= Version("7.35.1")


@pytest.mark.parametrize("name", REJECTED)
def test_what_we_decided_against_has_not_come_in(name: str) -> None:
    """Each has a reason in docs/decisions; a transitive dependency would not have read it."""
    assert name not in _pins("runtime")


def test_durations_have_buckets_in_seconds() -> None:
    """The SDK's own begin at 5: every duration of ours would be in the first of them."""
    reader = InMemoryMetricReader()
    meter = MeterProvider(metric_readers=[reader]).get_meter("test")
    meter.create_histogram("duration", unit="s", explicit_bucket_boundaries_advisory=SECONDS).record(0.003)
    told = reader.get_metrics_data()
    assert told is not None
    data = told.resource_metrics[0].scope_metrics[0].metrics[0].data
    assert isinstance(data, Histogram)
    point = data.data_points[0]
    assert isinstance(point, HistogramDataPoint)
    assert tuple(point.explicit_bounds) == SECONDS
    assert SECONDS[0] <= 0.001
    assert SECONDS[-1] >= 10


def test_every_histogram_says_its_buckets() -> None:
    """One forgotten histogram tells nothing and looks as if it did."""
    calls = [
        node
        for path in product_modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "create_histogram"
    ]
    assert len(calls) >= 2
    for call in calls:
        told = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert told["unit"] == "'s'"
        assert told["explicit_bucket_boundaries_advisory"] == "SECONDS"


def test_a_plain_postgresql_url_means_another_driver() -> None:
    """Which is not installed: whatever reaches SQLAlchemy says postgresql+asyncpg."""
    assert make_url("postgresql+asyncpg://someone@somewhere/catalog").get_driver_name() == "asyncpg"
    assert make_url("postgresql://someone@somewhere/catalog").get_driver_name() == "psycopg"
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("psycopg")


def test_currencies_have_the_decimals_of_iso_4217() -> None:
    """A dinar of 1000 fils billed with none would be a thousandth or a thousandfold."""
    assert {currency: minor_units(currency) for currency in DISPUTED} == DISPUTED


def test_the_nats_client_is_closed_not_drained() -> None:
    """Its drain waits half a minute when a message lies unread."""
    drains = [
        f"{shown(path)}:{node.lineno}"
        for path in sorted((COMMON / "bus").glob("*.py"))
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "drain"
    ]
    assert drains == []


def test_postgres_is_started_by_ourselves() -> None:
    """The wheels' own way creates accounts, opens parent folders to the world and listens on no port."""
    users = [
        shown(path)
        for path in all_modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute | ast.Name)
        and (node.attr if isinstance(node, ast.Attribute) else node.id) == "get_server"
    ]
    assert users == []


def test_a_postgresql_that_is_too_old_is_refused(tmp_path: Path) -> None:
    """What a distribution ships may lack what we use; better no start than a strange error later."""
    for name, version in (("postgres", "postgres (PostgreSQL) 15.14"), ("nats-server", "nats-server: v2.15.1")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{version}'\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(ServerFailed, match="PostgreSQL 18 is needed"):
        Binaries(postgres=tmp_path, nats=tmp_path / "nats-server").run_for(None)


def test_the_schema_needs_no_extension() -> None:
    """Any PostgreSQL 18 will do: the wheels lack some of contrib, and managed servers lack others."""
    assert [shown(path) for path in product_modules() if "create extension" in path.read_text().lower()] == []


def test_greenlet_is_asked_for() -> None:
    """SQLAlchemy no longer brings it; without it, the first await of a query fails."""
    assert "sqlalchemy[asyncio]" in (ROOT / "requirements/runtime.in").read_text()
    assert "greenlet" in _pins("runtime")


def test_every_trap_has_a_guard_or_a_reason() -> None:
    """The table names tests by file and name: each of them exists."""
    table = (ROOT / "docs/decisions/0010-traps.md").read_text()
    named = re.findall(r"`((?:tests|libs|services)/[\w/]+\.py)::(\w+)`", table)
    assert len(named) >= 12
    for path, test in named:
        assert f"def {test}(" in (ROOT / path).read_text(), f"{path}::{test}"


def _imported(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in _absolute_imports(path)}


def _absolute_imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            yield node.module
