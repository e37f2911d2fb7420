"""`saldo up` starts what is missing and keeps it alive; `saldo down`, Ctrl-C and SIGTERM leave nothing running."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import psutil
import pytest
from typer.testing import CliRunner

from common import ports
from tools import servers
from tools.cli import app
from tools.places import temporary_folder
from tools.stack import CHECKOUT, SERVICES
from tools.suite import Suite

COMMAND_SECONDS: Final = 120
PATIENCE_SECONDS: Final = 30
ENVIRONMENT: Final = {name: value for name, value in os.environ.items() if not name.startswith("SALDO_")}
SELLER: Final = {
    "mode": "SANDBOX",
    "display_name": "Acme",
    "address": {"region_code": "GB", "address_lines": ["1 High Street"], "locality": "London"},
    "sandbox_start_time": "2026-01-01T00:00:00Z",
}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    folder = temporary_folder()
    yield folder
    suite = Suite(folder, environment=ENVIRONMENT)
    suite.down()
    suite.stack.discard()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def suite(folder: Path) -> Suite:
    """Up, by the command."""
    assert saldo(folder, "up").returncode == 0
    return Suite(folder, environment=ENVIRONMENT)


def saldo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *arguments),
        cwd=CHECKOUT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )


def asked(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same in this process, for what only asks the services: it need not import everything anew."""
    typed = ["--folder", str(folder), *arguments]
    with ThreadPoolExecutor(max_workers=1) as thread:  # commands have a loop of their own
        result = thread.submit(CliRunner().invoke, app, typed).result(COMMAND_SECONDS)
    return subprocess.CompletedProcess(typed, result.exit_code, result.stdout, result.stderr)


def command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-c", "from tools.cli import app; app()", "--folder", str(folder), *arguments]


def in_time(happened: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not (done := happened()) and time.monotonic() < give_up:
        time.sleep(0.1)
    return done


def pids(suite: Suite) -> dict[str, int | None]:
    return {state.name: state.pid for state in suite.states()}


def processes_of(folder: Path) -> list[psutil.Process]:
    """Whatever still has to do with the folder: its name is on the command line or in the environment."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if str(folder) in " ".join(process.info["cmdline"] or ())
        and process.pid != os.getpid()
        and process.info["status"] not in (psutil.STATUS_ZOMBIE, None)
    ]


def test_up_says_where_everything_listens(suite: Suite, folder: Path) -> None:
    """Six services and two servers, healthy, and no word of a password."""
    told = saldo(folder, "status")
    assert told.returncode == 0
    for name, address in suite.addresses().items():
        assert f"{name} " in told.stdout
        assert address in told.stdout
    assert told.stdout.count("healthy") == len(SERVICES) + 2
    assert not any(password in told.stdout for password in suite.stack.passwords().values())


def test_up_again_starts_nothing_anew(suite: Suite, folder: Path) -> None:
    """`make up` is what one types to be sure."""
    before = pids(suite)
    assert saldo(folder, "up").returncode == 0
    assert pids(suite) == before


def test_secrets_are_for_their_owner_only(suite: Suite, folder: Path) -> None:
    """Whoever reads a key speaks for everybody."""
    assert (folder / "keys").stat().st_mode & 0o077 == 0
    assert (folder / "run").stat().st_mode & 0o077 == 0
    assert all(key.stat().st_mode & 0o077 == 0 for key in (folder / "keys").iterdir())


def test_a_service_is_told_no_more_than_it_needs(suite: Suite) -> None:
    """Not the administrator's password, and nobody else's."""
    (state,) = [state for state in suite.states() if state.name == "metering"]
    told = "".join(f"{name}={value} " for name, value in psutil.Process(state.pid).environ().items())
    assert "SALDO_POSTGRES_URL" not in told


@pytest.mark.parametrize("name", ["metering", "postgres", "nats"])
def test_what_is_killed_comes_back_where_it_was(suite: Suite, name: str) -> None:
    """At the same address: the others know no other."""
    before = {state.name: state for state in suite.states()}[name]
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)

    def is_back() -> bool:
        now = {state.name: state for state in suite.states()}
        return now[name].pid not in (None, before.pid) and all(state.healthy for state in now.values())

    assert in_time(is_back)
    assert {state.name: state.address for state in suite.states()}[name] == before.address


def test_a_first_call_and_a_sandbox_in_time(suite: Suite, folder: Path) -> None:
    """What `saldo up` tells one to type works as it stands."""
    called = saldo(folder, "call", "catalog.CreateSeller", json.dumps(SELLER))
    seller = json.loads(called.stdout)["id"]
    assert json.loads(asked(folder, "call", "catalog.GetSeller", "--seller", seller).stdout)["display_name"] == "Acme"
    travelled = asked(folder, "clock", "advance", "--seller", seller, "--to", "2026-03-01T00:00:00Z")
    assert (travelled.returncode, travelled.stdout.split(",")[0]) == (0, "2026-03-01T00:00:00+00:00")
    shown = asked(folder, "clock", "show", "--seller", seller)
    assert shown.stdout.count("2026-03-01T00:00:00Z") == len(SERVICES)
    assert asked(folder, "deadletters", "list").stdout.strip() == "none"
    replayed = asked(
        folder, "events", "replay", "subscriptions", "--since", "2026-01-01T00:00:00Z", "--of", "invoicing"
    )
    assert (replayed.returncode, replayed.stdout) == (0, "invoicing: 0 events\n"), replayed.stderr
    assert (
        asked(folder, "events", "replay", "catalog", "--since", "2026-01-01T00:00:00Z").stdout
        == "catalog listens to nobody\n"
    )
    checked = saldo(folder, "check", "--seller", seller)
    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, "Everything that must hold does.")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["token", "--role", "owner"], 2, "needs --seller"),
        (["token", "--role", "king"], 2, "--role must be one of"),
        (["token", "--seller", "acme"], 2, "must be an id like"),
        (["call", "catalog.Destroy"], 2, "catalog has no Destroy"),
        (["call", "catalog.CreateSeller", '{"mode": 1,'], 2, "the request"),
        (["call", "catalog.CreateSeller", "{}"], 1, "INVALID_ARGUMENT"),
        (["clock", "show", "--seller", "sel_01h455vb4pex5vsknk084sn02q"], 1, "NOT_A_SANDBOX"),
        (["clock", "advance", "--seller", "sel_01h455vb4pex5vsknk084sn02q", "--to", "2026-03-01"], 2, "time zone"),
        (["deadletters", "requeue", "catalog", "evt_x"], 1, "DEAD_LETTER_NOT_FOUND"),
        (["deadletters", "requeue", "cataloque", "evt_x"], 2, "there is no service"),
        (["events", "replay", "cataloque", "--since", "2026-03-01T00:00:00Z"], 2, "there is no service"),
        (["events", "replay", "invoicing", "--since", "2026-03-01"], 2, "time zone"),
        (
            ["events", "replay", "invoicing", "--since", "2026-03-01T00:00:00Z", "--of", "dunning"],
            2,
            "does not listen to",
        ),
    ],
)
def test_mistakes_are_named(suite: Suite, folder: Path, arguments: list[str], code: int, said: str) -> None:
    """One sentence, no traceback, and a code that scripts can tell apart: 2 for what was typed, 1 for the rest."""
    told = asked(folder, *arguments)
    assert told.returncode == code, told.stderr
    assert said in " ".join(told.stderr.split())
    assert "Traceback" not in told.stderr


def test_taxes_by_hand(suite: Suite, folder: Path) -> None:
    """Declared, told to apply, listed, ended and archived; and what contradicts itself is refused by its reason."""
    seller = json.loads(asked(folder, "call", "catalog.CreateSeller", json.dumps(SELLER)).stdout)["id"]
    of_seller = ("--seller", seller)
    assert asked(folder, "tax", "rates", *of_seller).stdout.strip() == "none"
    rate = asked(folder, "tax", "declare", "VAT", "20", "--country", "FR", *of_seller).stdout.strip()
    rule = asked(folder, "tax", "set", rate, *of_seller).stdout.strip()
    assert (rate.partition("_")[0], rule.partition("_")[0]) == ("taxrate", "taxrule")
    assert "everything else" in asked(folder, "tax", "rules", *of_seller).stdout
    assert asked(folder, "tax", "end", rule, *of_seller).returncode == 0
    assert asked(folder, "tax", "archive", rate, *of_seller).returncode == 0
    refused = asked(folder, "tax", "set", rate, *of_seller)
    assert (refused.returncode, "TAX_RATE_ARCHIVED" in refused.stderr) == (1, True)
    assert "TAX_PERCENT_MISMATCH" in asked(folder, "tax", "declare", "VAT", "20", "--category", "Z", *of_seller).stderr
    misused = asked(folder, "tax", "declare", "VAT", "20", "--category", "X", *of_seller)
    assert (misused.returncode, "must be one of" in " ".join(misused.stderr.split())) == (2, True)


def test_a_catalog_under_review(suite: Suite, folder: Path, tmp_path: Path) -> None:
    """Compared, applied, compared again and exported; a pipeline tells by the code what it found."""
    seller = json.loads(asked(folder, "call", "catalog.CreateSeller", json.dumps(SELLER)).stdout)["id"]
    file = tmp_path / "catalog.yaml"
    file.write_text(
        "meters:\n  - {code: calls, display_name: calls, aggregation: COUNT}\n"
        "products:\n  - {code: calls, display_name: Calls}\n"
    )
    found = asked(folder, "catalog", "diff", str(file), "--seller", seller)
    assert (found.returncode, found.stdout.splitlines()) == (
        1,
        ["+ meter calls", "+ product calls", "2 changes would be made"],
    )
    applied = asked(folder, "catalog", "apply", str(file), "--seller", seller)
    assert (applied.returncode, applied.stdout.splitlines()[-1]) == (0, "2 changes made")
    same = asked(folder, "catalog", "diff", str(file), "--seller", seller)
    assert (same.returncode, same.stdout) == (0, "nothing differs\n")
    assert asked(folder, "catalog", "export", "--seller", seller).stdout == file.read_text()
    file.write_text("products: [{code: calls}]\n")
    wrong = asked(folder, "catalog", "diff", str(file), "--seller", seller)
    assert wrong.returncode == 2
    assert f"{file}:1:12: display_name is missing" in wrong.stderr


def test_without_its_supervisor_nothing_lingers_and_up_repairs_it(suite: Suite, folder: Path) -> None:
    """Nobody would bring such services back; and their ports must be free for those that come after them."""
    roster = suite.roster
    assert roster.supervisor is not None
    orphans = roster.processes()
    os.kill(roster.supervisor.pid, signal.SIGKILL)
    assert in_time(lambda: not any(process.runs() for process in orphans))
    assert saldo(folder, "status").returncode == 1
    addresses = suite.addresses()
    assert saldo(folder, "up").returncode == 0
    assert suite.addresses() == addresses


def test_a_service_that_cannot_live_is_given_up_and_named(suite: Suite, folder: Path) -> None:
    """Restarting for ever what cannot start hides the reason; `saldo up` tries again and says it."""
    key = folder / "keys" / "dunning.pem"
    kept = key.read_text()
    key.write_text("no key")
    suite.kill("dunning")
    assert in_time(lambda: suite.roster.services["dunning"].gave_up)
    assert "gave up" in saldo(folder, "status").stdout
    told = saldo(folder, "up")
    assert told.returncode == 1
    assert "dunning does not stay up" in told.stderr
    key.write_text(kept)
    assert saldo(folder, "up").returncode == 0


def test_down_leaves_nothing_and_up_finds_the_data(suite: Suite, folder: Path) -> None:
    """A working day's end and the next one's beginning."""
    called = saldo(folder, "call", "catalog.CreateSeller", json.dumps(SELLER))
    seller = json.loads(called.stdout)["id"]
    assert saldo(folder, "down").returncode == 0
    assert processes_of(folder) == []
    assert saldo(folder, "down").returncode == 0
    refused = saldo(folder, "call", "catalog.GetSeller", "--seller", seller)
    assert (refused.returncode, "do not answer" in " ".join(refused.stderr.split())) == (1, True)
    assert saldo(folder, "up").returncode == 0
    assert seller in saldo(folder, "call", "catalog.GetSeller", "--seller", seller).stdout


@pytest.mark.parametrize(
    ("number", "others"),
    [
        pytest.param(signal.SIGINT, 1, id="SIGINT-initdb"),
        pytest.param(signal.SIGTERM, 1, id="SIGTERM-initdb", marks=pytest.mark.thorough),
        pytest.param(signal.SIGINT, 3, id="SIGINT-servers", marks=pytest.mark.thorough),
        pytest.param(signal.SIGTERM, 3, id="SIGTERM-servers"),
    ],
)
def test_up_that_is_interrupted_leaves_nothing(number: signal.Signals, others: int) -> None:
    """Whatever is under way: as soon as it has started so many processes, it is told to stop."""
    folder = temporary_folder()
    try:
        process = subprocess.Popen(
            command(folder, "up"),
            cwd=CHECKOUT,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert in_time(lambda: len(processes_of(folder)) > others)
        process.send_signal(number)
        assert process.wait(COMMAND_SECONDS) != 0
        assert in_time(lambda: processes_of(folder) == [])
    finally:
        Suite(folder, environment=ENVIRONMENT).down()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_held_suite_ends_with_its_holder() -> None:
    """A test run or a demo that is killed must not leave six services and two servers behind."""
    folder = temporary_folder()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import pathlib, time\n"
            "from tools.suite import running_suite\n"
            f"with running_suite(pathlib.Path({str(folder)!r})) as suite:\n"
            "    print('held', flush=True)\n"
            "    time.sleep(60)\n",
        ],
        cwd=CHECKOUT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        services = Suite(folder, environment=ENVIRONMENT).roster.processes()
        assert len(services) == len(SERVICES)
        assert all(process.runs() for process in services)
        holder.kill()
        assert in_time(lambda: processes_of(folder) == [] and not any(process.runs() for process in services))
    finally:
        holder.kill()
        holder.communicate(timeout=COMMAND_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_service_and_a_server_never_want_one_port(suite: Suite, folder: Path) -> None:
    """Both remember their ports, and the service's is looked for before the server listens: it would never come up."""
    remembered = folder / "run" / "suite.json"
    server = int(json.loads((folder / "run" / "stack.json").read_text())["ports"]["postgres"])
    suite.down()
    roster = json.loads(remembered.read_text())
    roster["services"]["subscriptions"]["port"] = server
    remembered.write_text(json.dumps(roster))
    suite.up()
    assert all(state.healthy for state in suite.states())
    assert f":{server}" not in "".join(suite.addresses().values())


def test_ports_are_apart() -> None:
    """Of servers, of services, and of those that tests start in their own process."""
    ranges = (servers.PORTS, servers.SERVICE_PORTS, ports.PORTS)
    assert sum(map(len, ranges)) == len({port for ports in ranges for port in ports})
