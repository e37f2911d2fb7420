"""Knows the keys of a suite on one machine: of tokens, with a way to sign one for oneself, and of personal data."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from common.auth import jwk, sign
from common.caller import Role, service_actor
from common.ids import SellerId
from common.vault import new_master_key
from tools.accounts import write_private
from tools.databases import SERVICES

ISSUER: Final = "dev"
"""The development issuer: it exists only where `saldo up` made it."""

TOKEN_LIFETIME: Final = timedelta(hours=12)


class Keys:
    """A folder with a key pair for the issuer and every service, the key set that all of them believe, a master key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def jwks(self) -> Path:
        return self.folder / "jwks.json"

    @property
    def master_keys(self) -> Path:
        """Under which subscriptions keeps the keys of its customers' personal data."""
        return self.folder / "subscriptions-master-keys"

    def private(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def create(self, services: Iterable[str] = SERVICES) -> None:
        """Make what is missing. Keys that exist are kept, and so are the tokens that were signed with them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        owners = {ISSUER: ISSUER} | {service: service_actor(service) for service in services}
        entries = [jwk(self._key(name).public_key(), kid=kid) for name, kid in owners.items()]
        wanted = json.dumps({"keys": entries}, indent=2)
        if not self.jwks.exists() or self.jwks.read_text() != wanted:
            write_private(self.jwks, wanted)
        if not self.master_keys.exists():
            write_private(self.master_keys, new_master_key("k1"))

    def token(
        self,
        *,
        role: Role = Role.OWNER,
        seller_id: SellerId | None,
        actor: str = "developer",
        lifetime: timedelta = TOKEN_LIFETIME,
    ) -> str:
        """A token of the development issuer. Only a platform caller may do without a seller."""
        return sign(self._key(ISSUER), kid=ISSUER, actor=actor, role=role, seller_id=seller_id, lifetime=lifetime)

    def _key(self, name: str) -> Ed25519PrivateKey:
        path = self.private(name)
        if not path.exists():
            made = Ed25519PrivateKey.generate()
            write_private(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
        key = load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"{path} does not hold an Ed25519 key")
        return key
