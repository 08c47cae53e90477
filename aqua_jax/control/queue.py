"""The queue of waiting sessions: groups, and within a group an order that waiting does not change.

Knows: the policy's keys and groups. Does not know: why a session waits, pages,
lanes.

A session's key is fixed while it waits, so a group is a sorted list. What
moves while it waits, as the service of its tenant does, is the place of its
whole group: groups are merged anew at each reading. With G groups, the first
n of the queue cost O(G + n log G); adding and removing cost the same as
without groups. A policy that has no groups has one, and pays for none.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from typing import cast

from sortedcontainers import SortedKeyList

from aqua_jax.control import types
from aqua_jax.control.policies import base

Ranked = tuple[base.Key, types.Session]


class Queue:
    """Waiting sessions in the policy's order. Not to be changed while it is read.

    prompts: those that are WAITING, which take prefill rows to get on. states: the others,
    whose state is in pages.
    """

    def __init__(self, policy: base.Policy) -> None:
        self.prompts = Part(policy)
        self.states = Part(policy)

    def add(self, session: types.Session) -> None:
        """Puts a session in; it must not be there."""
        self._part_of(session).add(session)

    def discard(self, session: types.Session) -> None:
        """Takes a session out, if it is there; state and key must be those with which it came."""
        self._part_of(session).discard(session)

    def first(self) -> types.Session:
        """The next to run. The queue must not be empty."""
        return next(iter(self))

    def heads(self, session: types.Session) -> list[types.Session]:
        """The first of its group, of those with a prompt to prefill and of the others."""
        return [head for part in (self.prompts, self.states) for head in part.head(session)]

    def __contains__(self, session: types.Session) -> bool:
        return session in self._part_of(session)

    def __len__(self) -> int:
        return len(self.prompts) + len(self.states)

    def __bool__(self) -> bool:
        return bool(self.prompts) or bool(self.states)

    def __iter__(self) -> Iterator[types.Session]:
        """In order, as the groups stand now; lazy."""
        for _, session in heapq.merge(self.prompts.ranked(), self.states.ranked()):
            yield session

    def _part_of(self, session: types.Session) -> Part:
        return self.prompts if session.state is types.State.WAITING else self.states


class Part:
    """Some of the waiting sessions, in the policy's order."""

    def __init__(self, policy: base.Policy) -> None:
        self._grouping = policy.groups
        self._key = policy.key if self._grouping is None else self._grouping.key
        self._groups: dict[base.Group, SortedKeyList] = {}
        if self._grouping is None:
            self._groups[None] = SortedKeyList(key=self._key)

    def add(self, session: types.Session) -> None:
        group = self._group_of(session)
        waiting = self._groups.get(group)
        if waiting is None:
            waiting = self._groups[group] = SortedKeyList(key=self._key)
        waiting.add(session)

    def discard(self, session: types.Session) -> None:
        group = self._group_of(session)
        waiting = self._groups.get(group)
        if waiting is not None:
            waiting.discard(session)
            if not waiting and self._grouping is not None:
                del self._groups[group]

    def __contains__(self, session: types.Session) -> bool:
        waiting = self._groups.get(self._group_of(session))
        return waiting is not None and session in waiting

    def __len__(self) -> int:
        if self._grouping is None:
            return len(self._groups[None])
        return sum(map(len, self._groups.values()))

    def __bool__(self) -> bool:
        return bool(self._groups if self._grouping is not None else self._groups[None])

    def __iter__(self) -> Iterator[types.Session]:
        if self._grouping is None:
            return cast(Iterator[types.Session], iter(self._groups[None]))
        return (session for _, session in self.ranked())

    def head(self, session: types.Session) -> list[types.Session]:
        """The first of its group, if there is one."""
        return list(itertools.islice(self._groups.get(self._group_of(session), ()), 1))

    def ranked(self) -> Iterator[Ranked]:
        """Each with the key that says where in the whole queue it stands; lazy.

        Keys end in a session's id, so sessions themselves are never compared.
        """
        if self._grouping is None:
            return zip(map(self._key, self._groups[None]), self._groups[None], strict=True)
        return heapq.merge(
            *(
                zip(self._grouping.keys(group, waiting), waiting, strict=True)
                for group, waiting in self._groups.items()
            )
        )

    def _group_of(self, session: types.Session) -> base.Group:
        return None if self._grouping is None else self._grouping.of(session)
