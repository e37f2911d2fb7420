"""Knows which databases the suite needs in one PostgreSQL, and who may connect to which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import quote, urlsplit

import asyncpg

SERVICES = ("catalog", "subscriptions", "metering", "invoicing", "payments", "dunning")
DATABASES = (*SERVICES, "simulated_gateway")  # the gateway keeps its own record, as a foreign company would
CONNECT_TIMEOUT_SECONDS = 10
STATEMENT_TIMEOUT_SECONDS = 60


async def create_databases(
    admin_url: str, services: Iterable[str] = DATABASES, *, passwords: Mapping[str, str]
) -> dict[str, str]:
    """Give every service a role and a database of its own; return the URL each connects with.

    Whatever exists is kept, and its password and rights are set again. The role can log in and owns its
    database; it is no superuser, so row-level security holds for it, and nobody but the owner and the
    administrator may connect.
    """
    admin = await asyncpg.connect(admin_url, timeout=CONNECT_TIMEOUT_SECONDS, command_timeout=STATEMENT_TIMEOUT_SECONDS)
    try:
        await admin.execute("SELECT pg_advisory_lock(hashtext('saldo create_databases'))")
        is_superuser = await admin.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        for name in services:
            await _create(admin, name, passwords[name], by_superuser=is_superuser)
        return {name: database_url(admin_url, name, passwords[name]) for name in services}
    finally:
        await admin.close(timeout=CONNECT_TIMEOUT_SECONDS)


def database_url(admin_url: str, name: str, password: str) -> str:
    """Where `name` finds its own database, in the same server."""
    parts = urlsplit(admin_url)
    address = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{name}:{quote(password, safe='')}@{address}", path=f"/{name}").geturl()


async def _create(admin: asyncpg.Connection, name: str, password: str, *, by_superuser: bool) -> None:
    if not await admin.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name):
        await _execute(admin, "CREATE ROLE %I", name)
    limits = "NOSUPERUSER NOBYPASSRLS NOREPLICATION" if by_superuser else ""
    await _execute(admin, f"ALTER ROLE %I LOGIN NOCREATEDB NOCREATEROLE {limits} PASSWORD %L", name, password)
    if not by_superuser:  # an administrator who is none has to be a member of the role to give it a database
        await _execute(admin, "GRANT %I TO CURRENT_USER", name)
    if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
        await _execute(admin, "CREATE DATABASE %I OWNER %I", name, name)
    await _execute(admin, "REVOKE ALL ON DATABASE %I FROM PUBLIC", name)


async def _execute(admin: asyncpg.Connection, statement: str, *names: str) -> None:
    """Names and passwords cannot be parameters of such statements, so PostgreSQL itself quotes them."""
    slots = ", ".join(f"${number}::text" for number in range(2, len(names) + 2))
    await admin.execute(await admin.fetchval(f"SELECT format($1, {slots})", statement, *names))
