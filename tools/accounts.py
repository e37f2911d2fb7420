"""Knows as whom the servers run when the caller is root, and what that account can reach and read."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

CANDIDATES = ("postgres", "nobody", "daemon")


class Identity(TypedDict):
    """How `subprocess` is told to become somebody else."""

    user: int | None
    group: int | None
    extra_groups: list[int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Somebody without privileges."""

    name: str
    uid: int
    gid: int

    @classmethod
    def unprivileged(cls) -> Account | None:
        """Whom root runs the servers as, for PostgreSQL refuses to run as root; None for everybody else."""
        if os.geteuid() != 0:
            return None
        for name in CANDIDATES:
            try:
                found = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(name=name, uid=found.pw_uid, gid=found.pw_gid)
        raise LookupError(f"root needs one of the accounts {', '.join(CANDIDATES)} to run PostgreSQL as")

    def reaches(self, folder: Path) -> bool:
        """Tried, not computed from mode bits: access lists and mount options count too."""
        tried = subprocess.run(
            ["/bin/sh", "-c", 'cd "$1"', "sh", folder],
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=10,
            check=False,
            **identity(self),
        )
        return tried.returncode == 0


def identity(account: Account | None) -> Identity:
    """No account: whoever calls."""
    if account is None:
        return {"user": None, "group": None, "extra_groups": None}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def make_private_folder(path: Path, account: Account | None) -> None:
    """A folder that only the account, or the caller, may look into."""
    path.mkdir(mode=0o700, exist_ok=True)
    if account:
        os.chown(path, account.uid, account.gid)


def write_private(path: Path, text: str, account: Account | None = None) -> None:
    """A file that only the account, or the caller, may read, and that is never half written."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    if account:
        os.chown(fresh, account.uid, account.gid)
    fresh.replace(path)
