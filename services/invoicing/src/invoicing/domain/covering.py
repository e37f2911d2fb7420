"""Knows how several amounts, each open to some things only, together cover as much of these as they can."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence

_Givers = tuple[int, ...]


def assigned(amounts: Sequence[int], rooms: Mapping[_Givers, int]) -> list[int]:
    """How much of each amount is used. `rooms` is what there is to cover, by the places of the amounts that may.

    Each in turn is used as far as it can be without using less of those before it, which together is the most there is:
    what an earlier one covers it gives up to a later one where it can cover something else instead. It is a flow along
    shortest ways, found in at most (amounts + rooms) x (pairs of both) steps.
    """
    left = dict(rooms)
    open_to = [[room for room in rooms if giver in room] for giver in range(len(amounts))]
    given: list[dict[_Givers, int]] = [defaultdict(int) for _ in amounts]
    for giver, amount in enumerate(amounts):
        rest = amount
        while rest:
            way = _way(giver, open_to, left, given)
            if not way:
                break
            # Whoever stands in the way moves on to the next room of it.
            moves = list(zip(way[1:], way, strict=False))
            step = min(rest, left[way[-1][1]], *(given[mover][out] for (mover, _), (_, out) in moves))
            for (mover, into), (_, out) in moves:
                given[mover][out] -= step
                given[mover][into] += step
            given[giver][way[0][1]] += step
            left[way[-1][1]] -= step
            rest -= step
    return [sum(parts.values()) for parts in given]


def _way(
    giver: int,
    open_to: Sequence[Sequence[_Givers]],
    left: Mapping[_Givers, int],
    given: Sequence[Mapping[_Givers, int]],
) -> list[tuple[int, _Givers]]:
    """Who goes into which room, so that in the end there is one with space; empty if there is no way."""
    came: dict[_Givers, tuple[int, _Givers | None]] = {}
    movers: set[int] = {giver}
    waiting: deque[tuple[int, _Givers | None]] = deque([(giver, None)])
    while waiting:
        mover, out = waiting.popleft()
        for room in open_to[mover]:
            if room in came:
                continue
            came[room] = (mover, out)
            if left[room]:
                return _back(room, came)
            for other in room:
                if other not in movers and given[other].get(room):
                    movers.add(other)
                    waiting.append((other, room))
    return []


def _back(room: _Givers, came: Mapping[_Givers, tuple[int, _Givers | None]]) -> list[tuple[int, _Givers]]:
    way: list[tuple[int, _Givers]] = []
    at: _Givers | None = room
    while at is not None:
        mover, before = came[at]
        way.append((mover, at))
        at = before
    return way[::-1]
