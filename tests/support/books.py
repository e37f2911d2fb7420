"""Knows how to have books proven by somebody else: a file for beancount, and what `bean-check` has to say about it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Final

from tools.books import beancount
from tools.client import Client

BEAN_CHECK: Final = Path(sys.executable).with_name("bean-check")
BEAN_CHECK_SECONDS: Final = 120


async def exported(client: Client, path: Path, *, end: date, start: date | None = None) -> str:
    """The books of these days, as `saldo ledger export` prints them; also written to a file."""
    text = "\n".join([line async for line in beancount(client, start=start, end=end)]) + "\n"
    await asyncio.to_thread(path.write_text, text)
    return text


async def complaints(path: Path) -> str:
    """What beancount finds wrong with a file; nothing if it accepts it."""
    command = [str(BEAN_CHECK), "--no-cache", str(path)]
    found = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False, timeout=BEAN_CHECK_SECONDS
    )
    told = (found.stdout + found.stderr).strip()
    # An exit code without a word, or words without one, would be a beancount that we do not know.
    assert (found.returncode != 0) == bool(told), (found.returncode, told)
    return told
