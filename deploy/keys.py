"""Knows the secrets that a suite in containers needs, and makes those that are not there yet.

    python -m deploy.keys volume FOLDER              key pairs in a volume that the services' account may read
    python -m deploy.keys manifest FOLDER            the same keys, and passwords, as Secrets for `kubectl apply`
    python -m deploy.keys token FOLDER ROLE [SELLER] a token of the development issuer

What exists in the folder is kept. In production keys and secrets come from where the company keeps its secrets.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path
from typing import Final

from common.caller import Role
from common.ids import check_seller
from tools.accounts import write_private
from tools.databases import DATABASES, SERVICES
from tools.keys import Keys

ACCOUNT: Final = 65532  # as whom the images run
NATS: Final = "nats"
POSTGRES: Final = "postgres"

Manifest = dict[str, object]


def main(arguments: list[str]) -> int:
    match arguments:
        case ["volume", folder]:
            volume(Path(folder))
        case ["manifest", folder]:
            sys.stdout.write(json.dumps(manifest(Path(folder)), indent=2) + "\n")
        case ["token", folder, role, *seller] if len(seller) <= 1:
            seller_id = check_seller(seller[0]) if seller else None
            sys.stdout.write(Keys(Path(folder)).token(role=Role(role), seller_id=seller_id) + "\n")
        case _:
            sys.stderr.write(__doc__ or "")
            return 2
    return 0


def volume(folder: Path) -> None:
    """Run as root, once, before the services, which only read."""
    Keys(folder).create()
    for path in folder.iterdir():
        path.chmod(0o440)
        os.chown(path, ACCOUNT, ACCOUNT)
    folder.chmod(0o550)
    os.chown(folder, ACCOUNT, ACCOUNT)


def manifest(folder: Path) -> Manifest:
    """Everything that the local overlay expects to find in its namespace."""
    keys = Keys(folder)
    keys.create()
    passwords = _passwords(folder / "passwords.json")
    items = [
        _object("ConfigMap", "saldo-keys", data={"jwks.json": keys.jwks.read_text()}),
        _secret("saldo-nats", {"password": passwords[NATS], "url": f"nats://saldo:{passwords[NATS]}@nats:4222"}),
        _secret(
            "saldo-postgres",
            {"POSTGRES_PASSWORD": passwords[POSTGRES]}
            | {f"SALDO_PASSWORD_{name.upper()}": passwords[name] for name in DATABASES},
        ),
    ]
    for name in SERVICES:
        values = {
            "auth-key.pem": keys.private(name).read_text(),
            "database-url": f"postgresql+asyncpg://{name}:{passwords[name]}@postgres:5432/{name}",
        }
        if name == "subscriptions":
            values["master-keys"] = keys.master_keys.read_text()
        if name == "payments":
            gateway = "simulated_gateway"
            values["simulated-gateway-url"] = f"postgresql://{gateway}:{passwords[gateway]}@postgres:5432/{gateway}"
        items.append(_secret(name, values))
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _secret(name: str, values: dict[str, str]) -> Manifest:
    return _object("Secret", name, type="Opaque", stringData=values)


def _object(kind: str, name: str, **content: object) -> Manifest:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **content}


def _passwords(path: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    missing = {name: secrets.token_hex(32) for name in (NATS, POSTGRES, *DATABASES) if name not in found}
    if missing:
        write_private(path, json.dumps(found | missing, indent=2))
    return found | missing


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
