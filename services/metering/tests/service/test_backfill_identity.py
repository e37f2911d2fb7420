"""Every usage event is stored once, in a backfill or outside, and what is reverted gives its ids back."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final

import grpc
import pytest

from common.testing import refused
from metering.log import Log, leaves, memory
from saldo.metering.v1 import corrections_service_pb2 as corrections
from saldo.metering.v1 import metering_service_pb2 as metering_pb
from saldo.metering.v1.usage_event_pb2 import EventColumns, EventResult, FlatEvent
from services.metering.tests.service import test_backfills
from services.metering.tests.service.test_backfills import (
    ACCEPTED,
    ANNA,
    DUPLICATE,
    HOUR,
    NOON,
    REJECTED,
    Room,
    event,
    many,
)

pytestmark = pytest.mark.own_services

room = test_backfills.room

SEED: Final = 20_260_105


async def test_three_forms_mean_the_same(room: Room) -> None:
    """And each says of a repeat that it is one."""
    backfill_id = await room.open()
    micros = int(NOON.timestamp()) * 1_000_000
    flat = [
        FlatEvent(id=name, source="s", customer=ANNA, meter="kwh", time_micros=micros, units=4) for name in ("b", "a")
    ]
    columns = EventColumns(
        ids=b"cab",
        id_lengths=[1],
        strings=["s", ANNA, "kwh"],
        sources=[0],
        customers=[1],
        meters=[2],
        times_micros=[micros],
        units=[2],
    )
    found = [
        await room.metering.IngestEvents(metering_pb.IngestEventsRequest(backfill_id=backfill_id, **form))
        for form in ({"events": [event("a", "1")]}, {"flat_events": flat}, {"columns": columns})
    ]
    outcomes = [[each.outcome for each in answer.results] for answer in found]
    assert outcomes == [[ACCEPTED], [ACCEPTED, DUPLICATE], [ACCEPTED, DUPLICATE, DUPLICATE]]
    assert (await room.close(backfill_id)).event_count == 3
    assert await room.figures() == ("7", 3, 3)


async def test_a_repeat_is_one_on_whatever_side(room: Room) -> None:
    """In the backfill, in another one, and outside; before it is closed, after that, and after a restart."""
    await room.send(event("outside", "1"))
    one, other = await room.open(), await room.open()
    assert await room.send(event("a", "1"), event("a", "2"), event("outside", "3"), into=one) == [
        ACCEPTED,
        DUPLICATE,
        DUPLICATE,
    ]
    both = [event("a", "9"), event("bad", "NaN")]
    assert await room.send(*both, into=one) == [DUPLICATE, REJECTED]
    assert await room.send(*both, into=other) == [DUPLICATE, REJECTED]
    assert await room.send(*both) == [DUPLICATE, REJECTED]
    await room.restart(crashing=True)
    assert await room.send(event("a", "9")) == [DUPLICATE]
    assert await room.send(event("a", "9"), event("b", "4"), into=one) == [DUPLICATE, ACCEPTED]
    await room.close(one)
    assert await room.send(event("a", "9"), event("b", "9"), into=other) == [DUPLICATE, DUPLICATE]
    await room.restart()
    assert await room.send(event("a", "9"), event("b", "9")) == [DUPLICATE, DUPLICATE]
    assert (await room.get(other)).event_count == 0
    assert await room.figures() == ("6", 3, 3)


async def test_the_same_ids_at_once_are_stored_once(room: Room) -> None:
    """Ordinary usage and two backfills want them: whoever is first has each, and nobody else."""
    one, other = await room.open(), await room.open()
    batches = [many("x", 40)[n : n + 20] for n in (0, 5, 10, 15, 20)]
    sent = [room.send(*batch, into=into) for batch in batches for into in ("", one, other)]
    outcomes = [outcome for answer in await asyncio.gather(*sent) for outcome in answer]
    assert outcomes.count(ACCEPTED) == 40
    await room.close(one)
    await room.close(other)
    assert await room.figures() == ("820", 40, 40)


@pytest.mark.parametrize("many_keys", [1, leaves.MANY_KEYS])
async def test_reverted_ids_are_given_back(room: Room, monkeypatch: pytest.MonkeyPatch, many_keys: int) -> None:
    """To the same file, repaired; also after a restart, when they are known from filters and indexes only. What was
    corrected keeps its own for ever, whether its leaf is looked into as a whole or not."""
    monkeypatch.setattr(leaves, "MANY_KEYS", many_keys)
    wrong = await room.backfilled(*many("a", 50), event("voided", "3"))
    await room.void("voided")
    await room.revert(wrong.id)
    with refused("USAGE_EVENT_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await room.void("a3")
    await room.restart(crashing=True)
    repaired = await room.open()
    assert await room.send(*many("a", 50), event("voided", "3"), into=repaired) == [*[ACCEPTED] * 50, DUPLICATE]
    assert await room.send(*many("a", 2), event("voided", "3")) == [DUPLICATE, DUPLICATE, DUPLICATE]
    await room.close(repaired)
    assert (await room.figures())[:2] == ("1275", 50)
    asked = corrections.GetEventRequest(source="s", id="a3")
    history = await room.corrections.GetEvent(asked)
    assert [each.position for each in history.versions] == [(await room.get(repaired)).first_position + 3]
    await room.void("a3")
    assert (await room.figures())[:2] == ("1271", 49)
    assert (await room.usage(through_position=wrong.last_position)).event_count == 51


async def test_a_leaf_that_has_given_back_all_is_not_looked_into(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a million that is loaded again would be looked for there. What shares a leaf keeps its own."""
    monkeypatch.setattr(leaves, "MANY_KEYS", 1)
    kept, wrong = await room.backfilled(*many("a", 5)), await room.backfilled(*many("b", 5))
    await room.revert(wrong.id)
    again = await room.open()
    assert await room.send(*many("a", 5), *many("b", 5), into=again) == [DUPLICATE] * 5 + [ACCEPTED] * 5
    await room.revert(again)
    await room.revert(kept.id)
    await room.restart(crashing=True)
    monkeypatch.setattr(leaves, "_KNOWN", "SELECT key FROM usage_log WHERE leaf = ANY ($1) AND key = ANY ($2)")
    assert await room.send(*many("a", 5), *many("b", 5)) == [ACCEPTED] * 10


async def test_filters_of_backfills_are_kept(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full ones stand for their keys then, also after a crash; what is reverted is still given back, exactly."""
    monkeypatch.setattr(memory, "BACKFILLED_KEYS", 30)
    monkeypatch.setattr(leaves, "BACKFILLED_KEYS", 30)
    closed = [await room.backfilled(*many(name, 14)) for name in "abcde"]
    for _ in range(500):
        if await room.sql("SELECT generation FROM usage_filters ORDER BY generation") == [(-2,), (-1,)]:
            break
        await asyncio.sleep(0.02)
    else:
        raise AssertionError("no filter is kept")
    kept = await room.sql("SELECT generation, count(*) FROM usage_leaves WHERE generation < 0 GROUP BY 1 ORDER BY 1")
    assert kept == [(-3, 1), (-2, 1), (-1, 1)]
    await room.restart(crashing=True)
    everything = [each for name in "abcde" for each in many(name, 14)]
    assert await room.send(*everything) == [DUPLICATE] * 70
    await room.revert(closed[1].id)
    assert (await room.send(*everything)).count(ACCEPTED) == 14
    assert (await room.figures())[:2] == ("525", 70)


async def test_a_correction_that_a_revert_beats_finds_nothing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the event of a reverted backfill would be voided, and its id taken from what is sent instead."""
    closed = await room.backfilled(event("a", "1"))
    has_looked, may_write = asyncio.Event(), asyncio.Event()
    append = Log.append

    async def late(*args: Any, **named: Any) -> Any:  # Any: whatever it is called with
        has_looked.set()
        await may_write.wait()
        return await append(*args, **named)

    monkeypatch.setattr(Log, "append", late)
    voiding = asyncio.create_task(room.void("a"))
    await has_looked.wait()
    monkeypatch.undo()
    await room.revert(closed.id)
    may_write.set()
    with refused("USAGE_EVENT_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await voiding
    assert await room.send(event("a", "5")) == [ACCEPTED]
    await room.void("a")
    assert (await room.figures())[:2] == ("0", 0)


class _Model:
    """What should count, kept by hand: at which position each usage event began to, and where it ended."""

    def __init__(self) -> None:
        self.last = 0
        self.taken: dict[str, str] = {}
        """Ids, each with what it was loaded into."""
        self.values: dict[str, dict[str, int]] = {}
        """Of backfills that are open."""
        self.rows: list[list[Any]] = []  # Any: value, start, end, id, what it came with

    def send(self, event_id: str, value: int, into: str) -> EventResult.Outcome.ValueType:
        if event_id in self.taken:
            return DUPLICATE
        self.taken[event_id] = into
        if into:
            self.values.setdefault(into, {})[event_id] = value
        else:
            self._count(event_id, value, "")
        return ACCEPTED

    def close(self, backfill_id: str) -> None:
        for event_id, value in self.values.pop(backfill_id, {}).items():
            self._count(event_id, value, backfill_id)

    def revert(self, backfill_id: str) -> None:
        self.values.pop(backfill_id, None)
        came_with = [row for row in self.rows if row[4] == backfill_id]
        voided = {row[3] for row in came_with if row[2] is not None}
        self.taken = {name: into for name, into in self.taken.items() if into != backfill_id or name in voided}
        if came_with:
            self.last += 1
            for row in came_with:
                row[2] = row[2] or self.last

    def void(self, event_id: str) -> None:
        self.last += 1
        [row] = [row for row in self.rows if row[3] == event_id and row[2] is None]
        row[2] = self.last

    def counted(self, through: int) -> tuple[int, int]:
        found = [value for value, start, end, *_ in self.rows if start <= through and (end is None or end > through)]
        return sum(found), len(found)

    def _count(self, event_id: str, value: int, into: str) -> None:
        self.last += 1
        self.rows.append([value, self.last, None, event_id, into])


async def test_whatever_happens_it_is_as_counted_by_hand(room: Room) -> None:
    """Usage, backfills, voids and crashes in any order: every answer of now, and of every position before."""
    chance, model = random.Random(SEED), _Model()
    opened: list[str] = []
    closed: list[str] = []
    for turn in range(60):
        match chance.choice(("send", "send", "load", "load", "load", "open", "close", "revert", "void", "crash")):
            case "open" if len(opened) < 3:
                opened.append(await room.open())
            case "close" if opened:
                backfill_id = opened.pop(chance.randrange(len(opened)))
                await room.close(backfill_id)
                model.close(backfill_id)
                closed.append(backfill_id)
            case "revert" if opened or closed:
                some = chance.choice([each for each in (opened, closed) if each])
                backfill_id = some.pop(chance.randrange(len(some)))
                await room.revert(backfill_id)
                model.revert(backfill_id)
            case "void" if standing := [row[3] for row in model.rows if row[2] is None]:
                name = chance.choice(standing)
                await room.void(name)
                model.void(name)
            case "crash" if turn % 3 == 0:
                await room.restart(crashing=True)
            case _:
                into = chance.choice(["", *opened])
                events = [
                    event(f"{chance.randrange(80)}", f"{chance.randrange(1, 9)}", at=NOON + n * HOUR)
                    for n in range(chance.randrange(1, 25))
                ]
                due = [model.send(each.id, int(each.value.value), into) for each in events]
                assert await room.send(*events, into=into) == due
    for through in (model.last, *(chance.randrange(model.last + 1) for _ in range(8))):
        quantity, count, _ = await room.figures(through_position=through)
        assert (int(quantity), count) == model.counted(through)
    quantity, count, last = await room.figures()
    assert ((int(quantity), count), last) == (model.counted(model.last), model.last)
