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
from collections.abc import Iterator
from typing import cast

from sortedcontainers import SortedKeyList

from aqua_jax.control import types
from aqua_jax.control.policies import base


class Queue:
    """Waiting sessions in the policy's order. Not to be changed while it is read."""

    def __init__(self, policy: base.Policy) -> None:
        self._key = policy.key
        self._grouping = policy.groups
        self._groups: dict[base.Group, SortedKeyList] = {}
        if self._grouping is None:
            self._groups[None] = SortedKeyList(key=self._key)

    def add(self, session: types.Session) -> None:
        """Puts a session in; it must not be there."""
        group = self._group_of(session)
        waiting = self._groups.get(group)
        if waiting is None:
            waiting = self._groups[group] = SortedKeyList(key=self._key)
        waiting.add(session)

    def discard(self, session: types.Session) -> None:
        """Takes a session out, if it is there; its key must be that with which it came."""
        group = self._group_of(session)
        waiting = self._groups.get(group)
        if waiting is not None:
            waiting.discard(session)
            if not waiting and self._grouping is not None:
                del self._groups[group]

    def first(self) -> types.Session:
        """The next to run. The queue must not be empty."""
        return next(iter(self))

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
        """In order, as the groups stand now; lazy."""
        if self._grouping is None:
            return cast(Iterator[types.Session], iter(self._groups[None]))
        return self._merged(self._grouping)

    def _group_of(self, session: types.Session) -> base.Group:
        return None if self._grouping is None else self._grouping.of(session)

    def _merged(self, grouping: base.Groups) -> Iterator[types.Session]:
        # Keys end in a session's id, so sessions themselves are never compared.
        each = (
            zip(grouping.keys(group, waiting), waiting, strict=True)
            for group, waiting in self._groups.items()
        )
        for _, session in heapq.merge(*each):
            yield session
