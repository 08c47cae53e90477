"""The queue: the policy's order, groups merged as they stand when it is read."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator

from aqua_jax.control import queue, types
from aqua_jax.control.policies import base, fcfs


class Even:
    """Groups by tenant: each session of a tenant stands `step` behind the one before it."""

    def __init__(self, step: float) -> None:
        self.step = step
        self.starts: dict[base.Group, float] = {}
        self.read = 0

    def of(self, session: types.Session) -> base.Group:
        return session.request.tenant

    def key(self, session: types.Session) -> base.Key:
        return (session.id,)

    def keys(self, group: base.Group, sessions: Iterable[types.Session]) -> Iterator[base.Key]:
        for place, session in enumerate(sessions):
            self.read += 1
            yield (self.starts[group] + place * self.step, session.id)


def session(id: int, tenant: str = "") -> types.Session:
    return types.Session(id, types.Request(prompt_units=1, steps_max=1, tenant=tenant), 0.0)


def make(groups: base.Groups | None = None) -> queue.Queue:
    return queue.Queue(fcfs.Fcfs(base.PolicySettings(name="fcfs"), groups=groups))


def ids(waiting: Iterable[types.Session]) -> list[int]:
    return [one.id for one in waiting]


def test_without_groups_the_order_is_that_of_the_key_alone() -> None:
    waiting = make()
    sessions = [session(id, tenant="ab"[id % 2]) for id in (3, 1, 4, 2)]
    assert not waiting
    for one in sessions:
        waiting.add(one)
    assert (ids(waiting), len(waiting), waiting.first().id) == ([1, 2, 3, 4], 4, 1)
    waiting.discard(sessions[1])
    waiting.discard(sessions[1])
    assert sessions[1] not in waiting
    assert sessions[0] in waiting
    assert ids(waiting) == [2, 3, 4]


def test_groups_are_ordered_as_they_stand_when_read() -> None:
    even = Even(step=10.0)
    even.starts = {"a": 0.0, "b": 15.0}
    waiting = make(even)
    for id in range(1, 5):
        waiting.add(session(id, "a"))
    for id in range(5, 8):
        waiting.add(session(id, "b"))
    assert ids(waiting) == [1, 2, 5, 3, 6, 4, 7]
    even.starts["a"] = 100.0
    assert ids(waiting) == [5, 6, 7, 1, 2, 3, 4]
    even.starts["b"] = 100.0  # at equal places the earlier arrival
    assert ids(waiting) == [1, 5, 2, 6, 3, 7, 4]


def test_the_first_few_are_read_without_the_rest() -> None:
    even = Even(step=1.0)
    waiting = make(even)
    for tenant in range(5):
        even.starts[str(tenant)] = 0.0
        for place in range(100):
            waiting.add(session(1000 * tenant + place, str(tenant)))
    even.read = 0
    assert len(list(itertools.islice(waiting, 8))) == 8
    assert even.read <= 5 + 8


def test_a_group_that_is_empty_costs_nothing() -> None:
    even = Even(step=1.0)
    even.starts = {"a": 0.0, "b": 0.0}
    waiting = make(even)
    first, second = session(1, "a"), session(2, "b")
    waiting.add(first)
    waiting.add(second)
    waiting.discard(first)
    waiting.discard(session(3, "c"))  # of a group that never was
    even.read = 0
    assert ids(waiting) == [2]
    assert even.read == 1
    waiting.discard(second)
    assert not waiting
    assert len(waiting) == 0


def test_it_agrees_with_a_plain_sort_under_random_changes() -> None:
    rng = random.Random(7)
    even = Even(step=2.0)
    even.starts = dict.fromkeys("abcd", 0.0)
    waiting, there = make(even), dict[int, types.Session]()
    for id in range(600):
        one = session(id, "abcd"[rng.randrange(4)])
        waiting.add(one)
        there[id] = one
        if rng.random() < 0.6:
            gone = there.pop(list(there)[rng.randrange(len(there))])
            assert gone in waiting
            waiting.discard(gone)
            assert gone not in waiting
        even.starts["abcd"[rng.randrange(4)]] += rng.random() * 5
        places = dict.fromkeys("abcd", 0)
        keys = []
        for other in there.values():  # by arrival
            tenant = other.request.tenant
            keys.append((even.starts[tenant] + 2.0 * places[tenant], other.id))
            places[tenant] += 1
        assert ids(waiting) == [id for _, id in sorted(keys)]
        assert len(waiting) == len(there)
        assert bool(waiting) == bool(there)


def test_prompts_and_those_with_state_are_one_order_and_can_be_read_apart() -> None:
    waiting = make()
    for id in range(1, 7):
        one = session(id)
        one.state = types.State.WAITING if id % 3 else types.State.AWAY
        waiting.add(one)
    assert ids(waiting) == [1, 2, 3, 4, 5, 6]
    assert (ids(waiting.prompts), ids(waiting.states)) == ([1, 2, 4, 5], [3, 6])
    assert ids(waiting.heads(session(9))) == [1, 3]


def test_the_heads_are_those_of_the_group() -> None:
    even = Even(step=1.0)
    even.starts = {"a": 0.0, "b": 0.0}
    waiting = make(even)
    for id, tenant in ((1, "a"), (2, "b"), (3, "b")):
        waiting.add(session(id, tenant))
    assert ids(waiting.heads(session(9, "b"))) == [2]
    assert waiting.heads(session(9, "c")) == []
