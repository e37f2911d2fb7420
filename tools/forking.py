"""Knows how a process becomes several: a child does one thing, in a session of its own, and says how it ended."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

PR_SET_PDEATHSIG: Final = 1


def fork(work: Callable[[], object], *, log: Path | None = None, die_with_parent: bool = False) -> int:
    """Do the work in a new process; its number."""
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        _leave(_carried_out(work, log, parent if die_with_parent else None))
    return pid


def exit_code(pid: int) -> int | None:
    """None while the child lives; negative when a signal ended it."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _carried_out(work: Callable[[], object], log: Path | None, parent: int | None) -> int:
    """The exit code."""
    try:
        _settle(log, parent)
        work()
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _settle(log: Path | None, parent: int | None) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    os.setsid()
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    if log is not None:
        with log.open("ab") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
    if parent is not None and sys.platform == "linux":
        # Nobody would look after a service whose supervisor was killed.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            _leave(1)


def _leave(exit_code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
