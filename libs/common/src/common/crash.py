"""Knows the points at which a process is most dangerous to kill, so that tests can kill it there.

A crash point is one line, `crashpoint("relay.published")`. It costs a dictionary look-up, and does nothing unless the
environment says `SALDO_CRASHPOINT=name` or `name:n`: then the process ends at the n-th time it is reached, as if by
`kill -9`.
"""

from __future__ import annotations

import os
from typing import Final

CRASHPOINTS: Final[dict[str, str]] = {
    "rpc.before_commit": "a command has been carried out and is not committed",
    "rpc.committed": "a command is committed and its answer not sent",
    "relay.claimed": "events were read from the outbox and not published",
    "relay.published": "events were published and not marked as such",
    "consumer.before_commit": "messages were handled and nothing is committed",
    "consumer.committed": "messages were handled and committed, and not acknowledged",
    "job.before_commit": "a job was done and is not committed",
    "job.committed": "a job was done and committed, and the loop does not know",
    "errand.started": "an errand is claimed and nothing was asked of anyone",
}
"""Every crash point there is, with what is at stake. Services add their own by `register`."""

_EXIT_CODE: Final = 137
_wanted = ""
_countdown = 0


def arm(where: str) -> None:
    """Choose where this process is to end: `name`, `name:n`, or nowhere. For processes that are forked from one which
    has imported this module already; the others have read the environment."""
    global _wanted, _countdown  # a process dies once
    _wanted, _, nth = where.partition(":")
    _countdown = int(nth or "1")


arm(os.environ.get("SALDO_CRASHPOINT", ""))


def register(name: str, stake: str) -> str:
    """Declare a crash point of a service, at import."""
    CRASHPOINTS[name] = stake
    return name


def crashpoint(name: str) -> None:
    """End the process here if the environment asks for it."""
    if name == _wanted:
        _die_at_last_visit()


def _die_at_last_visit() -> None:
    global _countdown  # a process dies once
    _countdown -= 1
    if _countdown == 0:
        os._exit(_EXIT_CODE)
