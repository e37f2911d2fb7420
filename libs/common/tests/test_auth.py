"""A token opens exactly the doors it is for, and nothing that merely looks like one opens any."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common import ids
from common.auth import (
    AUDIENCE,
    READERS,
    TOKEN_LENGTH_MAX,
    WRITERS,
    Identity,
    RoleNotAllowed,
    ServiceNotAllowed,
    Unauthenticated,
    Verifier,
    admit,
    audience_of,
    jwk,
    sign,
)
from common.caller import EVERY_SELLER, Caller, Role, service_caller
from common.clock import wall
from common.ids import SellerId
from common.testing import ISSUER, Keys

SELLER = SellerId("sel_01h455vb4pex5vsknk084sn02q")
HOUR = timedelta(hours=1)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path, ("notebook", "archive"))


@pytest.fixture
def verifier(keys: Keys) -> Verifier:
    return Verifier(keys.jwks)


def claims(**changes: Any) -> dict[str, Any]:
    now = int(wall().timestamp())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "tester", "role": "owner", "seller": SELLER, "iat": now}
    told = good | {"exp": now + 600} | changes
    return {name: value for name, value in told.items() if value is not None}


def token(keys: Keys, header: dict[str, Any] | None = None, **changes: Any) -> str:
    return jwt.encode(claims(**changes), keys.issuer, algorithm="EdDSA", headers={"kid": ISSUER} | (header or {}))


def raw(header: dict[str, Any], payload: dict[str, Any], signature: bytes) -> str:
    parts = [json.dumps(header).encode(), json.dumps(payload).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@pytest.mark.parametrize("role", [Role.OWNER, Role.INTEGRATOR, Role.VIEWER, Role.PLATFORM])
def test_a_good_token_names_who_asks(keys: Keys, verifier: Verifier, role: Role) -> None:
    """Everything else about a call follows from these three."""
    found = verifier.caller(keys.token(role=role, seller_id=SELLER, actor="ada"))
    assert found == Caller(seller_id=SELLER, actor="ada", role=role)
    assert verifier.caller(keys.token(role=role, seller_id=SELLER, actor="ada")) == found


def test_a_platform_may_act_for_every_seller_and_nobody_else_may(keys: Keys, verifier: Verifier) -> None:
    """Whoever could leave the seller out would see all of them."""
    assert verifier.caller(keys.token(role=Role.PLATFORM, seller_id=None)).seller_id == EVERY_SELLER
    for role in (Role.OWNER, Role.INTEGRATOR, Role.VIEWER):
        with pytest.raises(Unauthenticated):
            verifier.caller(keys.token(role=role, seller_id=None))


def test_no_token_carries_every_seller(keys: Keys, verifier: Verifier) -> None:
    """The one value that row-level security lets see everything must not come from outside."""
    for role in Role:
        with pytest.raises(Unauthenticated):
            verifier.caller(token(keys, role=role.value, seller=EVERY_SELLER))


def test_a_service_speaks_in_its_own_name(keys: Keys, verifier: Verifier) -> None:
    """So that the one called can see who calls, and for whom."""
    identity = Identity("archive", keys.private("archive"))
    assert verifier.caller(identity.token(SELLER)) == service_caller("archive", SELLER)
    assert identity.token(SELLER) is identity.token(SELLER), "made once, used for minutes"


def _as_public_bytes(keys: Keys) -> bytes:
    return keys.issuer.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _hmac_with_public_key(keys: Keys, algorithm: str = "HS256") -> str:
    """The classic: the public key taken for a shared secret."""
    header = {"alg": algorithm, "typ": "JWT", "kid": ISSUER}
    unsigned = raw(header, claims(), b"").rpartition(".")[0]
    digest = hmac.new(_as_public_bytes(keys), unsigned.encode(), hashlib.sha256).digest()
    return raw(header, claims(), digest)


def _service_kid(keys: Keys, **changes: Any) -> str:
    """A service's key, signing something other than its own name."""
    key = Identity("archive", keys.private("archive"))._key
    told = claims(iss="service:archive", sub="service:archive", role="service") | changes
    return jwt.encode(told, key, algorithm="EdDSA", headers={"kid": "service:archive"})


FORGERIES: dict[str, Callable[[Keys], str]] = {
    "nothing": lambda keys: "",
    "not a token": lambda keys: "hunter2",
    "three empty parts": lambda keys: "..",
    "no algorithm": lambda keys: raw({"alg": "none", "kid": ISSUER}, claims(), b""),
    "no algorithm, in capitals": lambda keys: raw({"alg": "NONE", "kid": ISSUER}, claims(), b""),
    "HS256 with the public key": _hmac_with_public_key,
    "said to be EdDSA": lambda keys: raw({"alg": "EdDSA", "kid": ISSUER}, claims(), b"\0" * 64),
    "RS256": lambda keys: jwt.encode(
        claims(), generate_private_key(65537, 2048), algorithm="RS256", headers={"kid": ISSUER}
    ),
    "a stranger's key": lambda keys: jwt.encode(
        claims(), Ed25519PrivateKey.generate(), algorithm="EdDSA", headers={"kid": ISSUER}
    ),
    "unknown key": lambda keys: token(keys, {"kid": "nobody"}),
    "no key named": lambda keys: jwt.encode(claims(), keys.issuer, algorithm="EdDSA"),
    "a key that is no text": lambda keys: raw({"alg": "EdDSA", "kid": ["x"]}, claims(), b"\0" * 64),
    "for somebody else": lambda keys: token(keys, aud="bank"),
    "for nobody": lambda keys: token(keys, aud=None),
    "expired": lambda keys: token(keys, exp=int(wall().timestamp()) - 60),
    "without an end": lambda keys: token(keys, exp=None),
    "without a beginning": lambda keys: token(keys, iat=None),
    "from the future": lambda keys: token(keys, iat=int(wall().timestamp()) + 3_600),
    "without an issuer": lambda keys: token(keys, iss=None),
    "another issuer than its key": lambda keys: token(keys, iss="service:archive"),
    "without a subject": lambda keys: token(keys, sub=None),
    "without a role": lambda keys: token(keys, role=None),
    "an unknown role": lambda keys: token(keys, role="root"),
    "a role that is no text": lambda keys: token(keys, role=["owner"]),
    "without a seller": lambda keys: token(keys, seller=None),
    "no seller's id": lambda keys: token(keys, seller="acme'; DROP TABLE notes"),
    "a seller that is no text": lambda keys: token(keys, seller=[SELLER]),
    "an issuer as a service": lambda keys: token(keys, role="service"),
    "an issuer as a named service": lambda keys: token(keys, role="service", sub="service:archive"),
    "a service as an owner": lambda keys: _service_kid(keys, role="owner"),
    "a service as a platform": lambda keys: _service_kid(keys, role="platform", seller=None),
    "a service as another one": lambda keys: _service_kid(keys, sub="service:notebook"),
    "a service for every seller": lambda keys: _service_kid(keys, seller=EVERY_SELLER),
    "oversize": lambda keys: token(keys, padding="x" * TOKEN_LENGTH_MAX),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_is_not_a_good_token_opens_nothing(keys: Keys, verifier: Verifier, forgery: str) -> None:
    """Twice, since what is remembered of the first time must not help the second."""
    made = FORGERIES[forgery](keys)
    for _ in range(2):
        with pytest.raises(Unauthenticated) as refused:
            verifier.caller(made)
        assert made == "" or made not in str(refused.value)


def test_no_part_of_a_token_may_be_changed(keys: Keys, verifier: Verifier) -> None:
    """A signature that covers less than everything covers nothing."""
    good = token(keys)
    verifier.caller(good)
    header, payload, signature = good.split(".")
    richer = claims(role="platform")
    forged = base64.urlsafe_b64encode(json.dumps(richer).encode()).rstrip(b"=").decode()
    with pytest.raises(Unauthenticated):
        verifier.caller(f"{header}.{forged}.{signature}")
    for part in range(3):
        pieces = [header, payload, signature]
        # Somewhere in the middle: the last character of base64 may carry bits that mean nothing.
        place = len(pieces[part]) // 2
        other = "A" if pieces[part][place] != "A" else "B"
        pieces[part] = pieces[part][:place] + other + pieces[part][place + 1 :]
        with pytest.raises(Unauthenticated):
            verifier.caller(".".join(pieces))


def test_a_token_that_was_good_ends_when_it_says(
    keys: Keys, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it is remembered."""
    good = token(keys)
    verifier.caller(good)
    later = time.monotonic() + 11 * 60
    monkeypatch.setattr("common.auth.time.monotonic", lambda: later)
    # PyJWT reads the clock by itself: what is remembered is what this is about.
    monkeypatch.setattr(verifier, "_check", _checked_anew)
    with pytest.raises(AssertionError, match="checked anew"):
        verifier.caller(good)


def _checked_anew(_: str) -> None:
    raise AssertionError("checked anew")


def _write_keys(path: Path, entries: list[dict[str, str]]) -> None:
    path.with_suffix(".new").write_text(json.dumps({"keys": entries}))
    path.with_suffix(".new").rename(path)


def test_keys_are_exchanged_while_the_service_runs(
    keys: Keys, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new one works within seconds, and one that was taken away stops working, also for tokens already seen."""
    monkeypatch.setattr("common.auth.RELOAD_SECONDS", 0.05)
    old = token(keys)
    assert verifier.caller(old).actor == "tester"
    fresh = Ed25519PrivateKey.generate()
    new = sign(fresh, kid="new", actor="ada", role=Role.OWNER, seller_id=SELLER, lifetime=HOUR)
    with pytest.raises(Unauthenticated):
        verifier.caller(new)
    before = json.loads(keys.jwks.read_text())["keys"]
    _write_keys(keys.jwks, [*before, jwk(fresh.public_key(), kid="new")])
    time.sleep(0.1)
    assert verifier.caller(new).actor == "ada"
    assert verifier.caller(old).actor == "tester"
    _write_keys(keys.jwks, [jwk(fresh.public_key(), kid="new")])
    time.sleep(0.1)
    assert verifier.caller(new).actor == "ada"
    with pytest.raises(Unauthenticated):
        verifier.caller(old)


@pytest.mark.parametrize("broken", ["", "{", '{"keys": 1}', '{"keys": [{"kid": "x"}]}', None])
def test_a_key_set_that_cannot_be_read_locks_nobody_out(
    keys: Keys, verifier: Verifier, monkeypatch: pytest.MonkeyPatch, broken: str | None
) -> None:
    """It may be half written; what was read before stays true until a better one is there."""
    monkeypatch.setattr("common.auth.RELOAD_SECONDS", 0.0)
    good = keys.jwks.read_text()
    if broken is None:
        keys.jwks.unlink()
    else:
        keys.jwks.write_text(broken)
    assert verifier.caller(token(keys)).actor == "tester"
    keys.jwks.write_text(good)
    assert verifier.caller(token(keys)).actor == "tester"


def test_a_service_does_not_start_without_keys(tmp_path: Path) -> None:
    """Rather than with nobody to believe."""
    with pytest.raises(FileNotFoundError):
        Verifier(tmp_path / "nowhere.json")


def test_a_secret_among_the_public_keys_is_refused(tmp_path: Path) -> None:
    """A private key there, or one for HMAC, would be believed by everyone who has the file."""
    private = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate()))
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [{**private, "kid": "x"}]}))
    with pytest.raises(ValueError, match="public"):
        Verifier(tmp_path / "jwks.json")


def test_no_token_lives_for_ever(keys: Keys) -> None:
    """One that is lost must stop working by itself."""
    for lifetime in (timedelta(days=400), timedelta(), timedelta(seconds=-1)):
        with pytest.raises(ValueError, match="lives"):
            sign(keys.issuer, kid=ISSUER, actor="x", role=Role.OWNER, seller_id=SELLER, lifetime=lifetime)


def test_what_is_remembered_is_bounded(keys: Keys, verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens come from outside: nobody may fill our memory with them."""
    monkeypatch.setattr("common.auth.CACHE_SIZE", 3)
    for number in range(10):
        verifier.caller(token(keys, sub=f"ada {number}"))
    assert len(verifier._known) == 3
    identity = Identity("archive", keys.private("archive"))
    for _ in range(10):
        identity.token(SellerId(ids.mint(ids.SELLER, wall())))
    assert len(identity._tokens) == 3


def test_who_may_call_follows_from_the_name_of_the_rpc() -> None:
    """A new RPC is closed to viewers unless its verb reads."""
    reading = ("GetX", "ListX", "BatchGetX", "QueryX", "BatchQueryX", "PreviewX", "ExplainX", "LookupX", "TraceX")
    for name in reading:
        assert audience_of(name) == READERS
    for name in ("CreateX", "FinalizeX", "IngestX", "CancelX", "Anything"):
        assert audience_of(name) == WRITERS
    assert READERS.roles - WRITERS.roles == {Role.VIEWER}


def test_a_service_is_admitted_only_where_it_has_business() -> None:
    """The graph of calls is a rule, not a drawing."""
    admit(service_caller("archive", SELLER), READERS, services=("archive",))
    with pytest.raises(ServiceNotAllowed):
        admit(service_caller("archive", SELLER), READERS, services=("other",))
    with pytest.raises(RoleNotAllowed):
        admit(Caller(seller_id=SELLER, actor="x", role=Role.VIEWER), WRITERS, services=())


def test_the_key_of_a_service_must_be_what_it_is_said_to_be(tmp_path: Path) -> None:
    """Better no start than calls that every neighbour refuses."""
    from cryptography.hazmat.primitives.serialization import NoEncryption, PrivateFormat

    path = tmp_path / "rsa.pem"
    path.write_bytes(generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ValueError, match="Ed25519"):
        Identity("archive", path)


def test_the_plain_reading_of_a_file_costs_a_call_nothing(keys: Keys, verifier: Verifier) -> None:
    """Between two looks the file is left alone."""
    os.unlink(keys.jwks)
    good = token(keys)
    for _ in range(100):
        assert verifier.caller(good).actor == "tester"
