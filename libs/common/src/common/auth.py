"""Knows who a token speaks for, and what each role may call.

Tokens are JWTs signed with Ed25519. The key set says who may sign: a key whose id is `service:<name>` belongs to that
service and signs nothing but tokens in its own name; every other key is an issuer of tokens for people and platforms,
and signs no token of a service.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from common import clock
from common.caller import EVERY_SELLER, Caller, Role, service_actor
from common.errors import InvalidArgument, PermissionDenied
from common.errors import Unauthenticated as UnauthenticatedKind
from common.ids import SellerId, check_seller

AUDIENCE: Final = "saldo"
ALGORITHM: Final = "EdDSA"
LEEWAY_SECONDS: Final = 5
LIFETIME_MAX: Final = timedelta(days=366)
SERVICE_TOKEN_LIFETIME: Final = timedelta(minutes=5)
RELOAD_SECONDS: Final = 5
CACHE_SIZE: Final = 10_000
TOKEN_LENGTH_MAX: Final = 4_096
_SERVICE_PREFIX: Final = service_actor("")


class Unauthenticated(UnauthenticatedKind):
    """No token, or none that can be believed. Why is told in general words only."""


class RoleNotAllowed(PermissionDenied):
    """The token is good, and its role may not call this."""


class ServiceNotAllowed(PermissionDenied):
    """The caller is a service that has no business here: the graph of calls is declared, and acyclic."""


@dataclass(frozen=True, slots=True)
class Audience:
    """Which roles may call an RPC."""

    roles: frozenset[Role]


READERS: Final = Audience(frozenset({Role.OWNER, Role.INTEGRATOR, Role.VIEWER, Role.SERVICE}))
WRITERS: Final = Audience(frozenset({Role.OWNER, Role.INTEGRATOR, Role.SERVICE}))
PLATFORM: Final = Audience(frozenset({Role.PLATFORM}))
PLATFORM_AND_OWNER: Final = Audience(frozenset({Role.PLATFORM, Role.OWNER}))
EVERYONE: Final = Audience(frozenset(Role))

READING_VERBS: Final = (
    *("Get", "List", "BatchGet", "BatchList", "Query", "BatchQuery", "Preview", "Explain", "Lookup", "Trace", "Export"),
    # What only computes: nothing is stored, and the figures are those that a viewer sees anyway.
    *("Rate", "BatchRate", "Simulate", "Calculate", "Round", "Allocate", "Check"),
    *("VerifyDigest", "VerifySeries", "ReplayInvoice"),
)


def audience_of(method: str) -> Audience:
    """By the verb of the RPC's name, for those that declare nothing else."""
    return READERS if method.startswith(READING_VERBS) else WRITERS


def admit(caller: Caller, audience: Audience, *, services: Collection[str]) -> None:
    """Raise unless the caller may call an RPC of this audience in a service called by `services`."""
    if caller.role not in audience.roles:
        raise RoleNotAllowed(f"the role {caller.role.value} may not call this", role=caller.role.value)
    if caller.role is Role.SERVICE and caller.actor.removeprefix(_SERVICE_PREFIX) not in services:
        raise ServiceNotAllowed(f"{caller.actor} may not call this service", caller=caller.actor)


class Verifier:
    """Believes tokens signed by the keys of a JSON Web Key Set, and remembers the ones it has checked."""

    def __init__(self, jwks: Path) -> None:
        self._path = jwks
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._looked = time.monotonic()
        self._edition: _Edition | None = None
        self._known: OrderedDict[str, tuple[Caller, float]] = OrderedDict()
        self._read()

    def caller(self, token: str) -> Caller:
        """Who the token speaks for. Fails with UNAUTHENTICATED, saying no more than the holder may know."""
        now = time.monotonic()
        # A key that has been taken out of the set must stop opening doors; a new one must begin to.
        if now - self._looked > RELOAD_SECONDS:
            self._look_again()
        known = self._known.get(token)
        if known is not None and now < known[1]:
            return known[0]
        caller, expires = self._check(token)
        self._known[token] = (caller, now + expires - clock.wall().timestamp())
        if len(self._known) > CACHE_SIZE:
            self._known.popitem(last=False)
        return caller

    def _check(self, token: str) -> tuple[Caller, float]:
        if len(token) > TOKEN_LENGTH_MAX:
            raise Unauthenticated("the token is too long")
        try:
            header = jwt.get_unverified_header(token)
            kid = header.get("kid")
            if header.get("alg") != ALGORITHM or not isinstance(kid, str):
                raise Unauthenticated("the token must be signed with EdDSA and name its key")
            claims: dict[str, Any] = jwt.decode(  # Any: claims are checked one by one below
                token,
                self._key(kid),
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "iss", "sub", "aud"]},
            )
            return _caller(claims, kid), float(claims["exp"])
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("the token has expired") from None
        except jwt.PyJWTError:
            raise Unauthenticated("the token is not valid here") from None

    def _key(self, kid: str) -> Ed25519PublicKey:
        key = self._keys.get(kid)
        if key is None:
            raise Unauthenticated("the token is signed with a key that is not known here")
        return key

    def _look_again(self) -> None:
        self._looked = time.monotonic()
        # A file that is just being replaced is no reason to lock everyone out: what was read stays true until then.
        with suppress(OSError, ValueError, KeyError, TypeError, jwt.PyJWTError):
            self._read()

    def _read(self) -> None:
        found = self._path.stat()
        edition = (found.st_mtime_ns, found.st_ino, found.st_size)
        if edition == self._edition:
            return
        keys = json.loads(self._path.read_text())["keys"]
        self._keys = {key["kid"]: _public(key) for key in keys}
        self._known.clear()
        self._edition = edition


_Edition = tuple[int, int, int]
"""Which writing of a file it is."""


class Identity:
    """A service's own key: signs the calls that it makes to others on behalf of a seller."""

    def __init__(self, service: str, key: Path) -> None:
        self._actor = service_actor(service)
        private = load_pem_private_key(key.read_bytes(), password=None)
        if not isinstance(private, Ed25519PrivateKey):
            raise ValueError(f"the key of {service} must be an Ed25519 key")
        self._key = private
        self._tokens: OrderedDict[SellerId, tuple[str, float]] = OrderedDict()

    def token(self, seller_id: SellerId) -> str:
        """A token for calls on behalf of a seller, good for a few minutes and made anew before it ends."""
        now = clock.wall().timestamp()
        held = self._tokens.get(seller_id)
        if held is not None and now < held[1]:
            return held[0]
        token = sign(
            self._key,
            kid=self._actor,
            actor=self._actor,
            role=Role.SERVICE,
            seller_id=seller_id,
            lifetime=SERVICE_TOKEN_LIFETIME,
        )
        self._tokens[seller_id] = (token, now + SERVICE_TOKEN_LIFETIME.total_seconds() / 2)
        if len(self._tokens) > CACHE_SIZE:
            self._tokens.popitem(last=False)
        return token


def sign(
    key: Ed25519PrivateKey,
    *,
    kid: str,
    actor: str,
    role: Role,
    seller_id: SellerId | None,
    lifetime: timedelta,
) -> str:
    """A token. The issuer is named like the key."""
    if not timedelta() < lifetime <= LIFETIME_MAX:
        raise ValueError(f"a token lives for at most {LIFETIME_MAX.days} days")
    now = clock.wall()
    claims: dict[str, object] = {
        "iss": kid,
        "aud": AUDIENCE,
        "sub": actor,
        "role": role.value,
        "iat": int(now.timestamp()),
        "exp": int((now + lifetime).timestamp()),
    }
    if seller_id is not None:
        claims["seller"] = seller_id
    return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": kid})


def jwk(key: Ed25519PublicKey, *, kid: str) -> dict[str, str]:
    """A public key as an entry of a JSON Web Key Set (RFC 8037)."""
    entry: dict[str, str] = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(key))
    return {**entry, "kid": kid, "alg": ALGORITHM, "use": "sig"}


def _public(entry: dict[str, str]) -> Ed25519PublicKey:
    key = jwt.algorithms.OKPAlgorithm.from_jwk(entry)
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"key {entry.get('kid')} must be a public Ed25519 key")
    return key


def _caller(claims: dict[str, Any], kid: str) -> Caller:  # Any: claims are checked one by one
    role = next((role for role in Role if role.value == claims.get("role")), None)
    actor = claims["sub"]
    if role is None or claims["iss"] != kid:
        raise Unauthenticated("the token names no role that is known here, or another issuer than its key")
    if (role is Role.SERVICE) != kid.startswith(_SERVICE_PREFIX) or (role is Role.SERVICE and actor != kid):
        raise Unauthenticated("the token's key may not speak for this actor")
    seller = claims.get("seller")
    if seller is None and role is Role.PLATFORM:
        return Caller(seller_id=EVERY_SELLER, actor=actor, role=role)
    try:
        return Caller(seller_id=check_seller(str(seller)), actor=actor, role=role)
    except InvalidArgument:
        raise Unauthenticated("the token names no seller") from None
