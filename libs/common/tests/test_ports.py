"""Ports of services under test belong to one process at a time, and to one suite in it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.ports import PORTS, PORTS_OF_A_PROCESS, Ports


def test_a_process_never_gives_the_same_port_twice() -> None:
    """Suites of one process may be up at the same time."""
    ports = Ports.of_this_process()
    taken = [ports.take() for _ in range(10)]
    for port in taken:
        ports.give_back(port)
    assert len(set(taken)) == 10
    assert set(taken) <= set(PORTS)


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    with contextlib.closing(Ports(tmp_path)) as found:
        yield found


def test_another_process_has_others(ports: Ports, tmp_path: Path) -> None:
    """Test processes run side by side, and each service wants its own port back."""
    told = (
        "from common.ports import Ports; from pathlib import Path; import sys; print(Ports(Path(sys.argv[1])).take())"
    )
    theirs = subprocess.run([sys.executable, "-c", told, str(tmp_path)], capture_output=True, check=True, timeout=60)
    assert PORTS.start <= ports.take() < PORTS.start + PORTS_OF_A_PROCESS <= int(theirs.stdout)


def test_a_port_that_somebody_listens_on_is_passed_over_and_kept(ports: Ports) -> None:
    """Somebody else's server may stand in the range."""
    first = ports.take()
    ports.give_back(first)
    taken: list[int] = []

    def take_all() -> None:
        for _ in range(PORTS_OF_A_PROCESS):  # of these, others that run beside us may be using some
            taken.append(ports.take())

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", first))
        listener.listen()
        with pytest.raises(RuntimeError, match="no free port"):
            take_all()
    assert first not in taken
    with pytest.raises(RuntimeError, match="no free port"):
        take_all()
    assert taken.count(first) == 1
