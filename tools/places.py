"""Knows where the files of a stack can lie, so that the account that runs its servers reaches them."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import psutil

from tools.accounts import Account
from tools.binaries import Binaries, ServerFailed

MEMORY_DISK = Path("/dev/shm")
MEMORY_DISK_BYTES_MIN = 4_000_000_000  # the 64 MB of a plain container would soon be full
ABANDONED_SECONDS = 3600


def settle(folder: Path) -> Path:
    """The folder itself when the servers' account gets there, otherwise a new one outside, marked as ours."""
    account = Account.unprivileged()
    if account is None:
        return folder
    folder.chmod(folder.stat().st_mode | 0o111)  # to be passed through; secrets are in run/, which stays closed
    if account.reaches(folder) and Binaries.find().run_for(account):
        return folder
    for base in _outside():
        home = base / f"saldo-{token_hex(8)}"
        with suppress(OSError, ServerFailed):
            home.mkdir(mode=0o711)
            home.chmod(0o711)
            (home / "checkout").write_text(str(folder))
            if account.reaches(home):
                Binaries.runnable_by(account, home=home)
                _forget_abandoned(before=home.stat().st_mtime - ABANDONED_SECONDS)
                return home
        shutil.rmtree(home, ignore_errors=True)
    raise ServerFailed(f"no folder for data can be reached by the account {account.name}")


def belongs(home: Path, folder: Path) -> bool:
    """Whether the place outside was settled for this very folder, and is still there."""
    try:
        return (home / "checkout").read_text() == str(folder)
    except OSError:
        return False


def temporary_folder() -> Path:
    """In memory where there is plenty of it: tests write much and keep nothing."""
    with suppress(OSError):
        space = os.statvfs(MEMORY_DISK)
        if space.f_bavail * space.f_frsize >= MEMORY_DISK_BYTES_MIN:
            return Path(tempfile.mkdtemp(prefix="saldo-", dir=MEMORY_DISK))
    return Path(tempfile.mkdtemp(prefix="saldo-"))


def _outside() -> list[Path]:
    return list(dict.fromkeys((Path("/var/tmp"), Path("/tmp"), Path(tempfile.gettempdir()))))


def _forget_abandoned(*, before: float) -> None:
    """Delete what checkouts that no longer exist, or no longer know of it, have left outside themselves."""
    processes = psutil.process_iter(["cmdline"])
    busy = " ".join(part for process in processes for part in process.info["cmdline"] or ())
    for home in (home for base in _outside() for home in base.glob("saldo-*")):
        with suppress(OSError):
            status = home.lstat()
            if status.st_uid != os.geteuid() or status.st_mtime > before or str(home) in busy:
                continue
            claim = Path((home / "checkout").read_text()) / "run" / "stack.json"
            if not (claim.exists() and str(home) in claim.read_text()):
                shutil.rmtree(home)
