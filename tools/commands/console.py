"""Knows how a command talks to people: where its suite is, what a refusal reads like, which exit code follows."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import grpc.aio
import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from common.caller import Role
from common.errors import InvalidArgument
from common.ids import SellerId, check_seller
from tools.client import Client
from tools.suite import Suite

FAILED: Final = 1
MISUSED: Final = 2
PATIENCE_SECONDS: Final = 5.0

# Without emoji: `all.csv:100:35` is a place, not a picture.
out: Final = Console(emoji=False)
problems: Final = Console(stderr=True, emoji=False)

Seller = Annotated[str, typer.Option(help="the seller's id, sel_…", show_default=False)]


def suite(context: typer.Context) -> Suite:
    """The suite of the folder that `saldo --folder` names."""
    folder: Path = context.obj
    return Suite(folder)


def fail(message: str, *, code: int = FAILED) -> NoReturn:
    problems.print(message, style="red", markup=False, soft_wrap=True)
    raise typer.Exit(code)


def seller_id(text: str) -> SellerId:
    try:
        return check_seller(text)
    except InvalidArgument as error:
        fail(f"--seller {error.message}", code=MISUSED)


def instant(text: str, *, option: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{option} must be an instant like 2026-07-01T00:00:00Z", code=MISUSED)
    if found.tzinfo is None:
        fail(f"{option} must say its time zone, for example 2026-07-01T00:00:00Z", code=MISUSED)
    return found.astimezone(UTC)


Work = Callable[[Client], Coroutine[Any, Any, None]]  # Any: what a coroutine is sent is nobody's business


def run(
    work: Work,
    of: Suite,
    *,
    role: Role,
    seller: SellerId | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> None:
    """Carry it out with a client of the suite; a refusal becomes a sentence and an exit code."""
    addresses = of.addresses()
    if not addresses:
        fail("nothing has been started here yet: saldo up")
    token = of.keys.token(role=role, seller_id=seller)

    async def with_client() -> None:
        # Opened here: a channel belongs to the loop that it was made on.
        async with Client(addresses, token, patience_seconds=patience_seconds) as client:
            await work(client)

    try:
        asyncio.run(with_client())
    except grpc.aio.AioRpcError as error:
        from common.rpc import error_info  # imported late: it takes a second, and most commands succeed

        info = error_info(error)
        if info is None and error.code() is grpc.StatusCode.UNAVAILABLE:
            fail("the services do not answer: saldo status says which, saldo up starts them")
        fail(f"{info.reason if info else error.code().name}: {error.details()}")


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the body like Ctrl-C does, so that it can clear up."""

    def leave(*_: object) -> NoReturn:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def when(timestamp: Timestamp) -> str:
    return timestamp.ToJsonString()
