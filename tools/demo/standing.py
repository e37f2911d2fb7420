"""Knows how far a folder has been played on this machine: which seller it became, and what the client wrote down."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import grpc

from common import clock
from saldo.catalog.v1 import catalog_service_pb2
from tools.accounts import write_private
from tools.client import Client
from tools.demo import requests
from tools.demo.example import Example

FRESH: Final = timedelta(days=25)
"""How long a seller is played on: services keep the keys of commands for a month, and then forget what was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A seller that a folder is, or was, played for."""

    seller_id: str
    is_new: bool
    run: Path

    @property
    def journal(self) -> Path:
        return self.run / f"demo-{self.seller_id}.journal.jsonl"

    @property
    def trace(self) -> Path:
        return self.run / f"demo-{self.seller_id}.trace.json"


async def find_standing(platform: Client, example: Example, fingerprint: str, run: Path) -> Standing:
    """The seller of this very folder, or a new one: the same for as long as the folder and the data stay."""
    path = run / f"demo-{fingerprint}.json"
    begun = _begun(path)
    known = "" if begun is None else str(json.loads(path.read_text())["seller_id"])
    if known and await _exists(platform, known):
        return Standing(seller_id=known, is_new=False, run=run)
    if begun is None or known:
        begun = clock.wall()
        # Written before anything is asked for: whoever is interrupted now asks for the same again.
        write_private(path, json.dumps({"begun": begun.isoformat(), "seller_id": ""}))
    key = requests.request_id("demo", fingerprint, begun.isoformat())
    seller = await platform.catalog.CreateSeller(
        requests.create_seller(example.seller, start=example.story.start, key=key)
    )
    write_private(path, json.dumps({"begun": begun.isoformat(), "seller_id": seller.id}))
    return Standing(seller_id=seller.id, is_new=True, run=run)


async def _exists(platform: Client, seller_id: str) -> bool:
    """It does not when the data is another than it was: deleted, or on another server."""
    try:
        await platform.catalog.GetSeller(catalog_service_pb2.GetSellerRequest(id=seller_id))
    except grpc.aio.AioRpcError as error:
        if error.code() != grpc.StatusCode.NOT_FOUND:
            raise
        return False
    return True


def _begun(path: Path) -> datetime | None:
    if not path.exists():
        return None
    begun = datetime.fromisoformat(json.loads(path.read_text())["begun"])
    return begun if clock.wall() - begun < FRESH else None
