"""Knows `saldo token`: the development issuer's word for who somebody is."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from common.caller import Role
from tools.commands import console

ROLES = [role.value for role in Role if role is not Role.SERVICE]


def token(
    context: typer.Context,
    role: Annotated[
        str, typer.Option(help=f"{', '.join(ROLES)}; by default owner with --seller, platform without")
    ] = "",
    seller: Annotated[str, typer.Option(help="whom the token speaks for; only a platform may leave it out")] = "",
    hours: Annotated[int, typer.Option(min=1, max=8_760, help="how long it is good for")] = 12,
    actor: Annotated[str, typer.Option(help="who holds it, as the records will say")] = "developer",
) -> None:
    """Print a token for calling the services of this checkout."""
    chosen = role or (Role.OWNER if seller else Role.PLATFORM).value
    if chosen not in ROLES:
        console.fail(f"--role must be one of {', '.join(ROLES)}", code=console.MISUSED)
    if not seller and chosen != Role.PLATFORM.value:
        console.fail(f"a token of the role {chosen} needs --seller", code=console.MISUSED)
    keys = console.suite(context).keys
    if not keys.jwks.exists():
        console.fail("there are no keys here yet: saldo up makes them")
    print(
        keys.token(
            role=Role(chosen),
            seller_id=console.seller_id(seller) if seller else None,
            actor=actor,
            lifetime=timedelta(hours=hours),
        )
    )
