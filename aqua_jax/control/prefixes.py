"""The prefix index: by content address, where a full page's content lies.

Knows: keys, which are ints that a runner computes; pages of the pool and slots
of tiers. Does not know: sessions, tokens, who shares with whom (`sharing.py`).

Invariant 10. A page that the index names is full and never changes; its key is a
hash of all that its content depends on. So whoever has that key may read it.

    ABSENT --add--> ON_DEVICE --note_away--> BOTH --page evicted--> AWAY
                        ^                     |  |                   |
                        |<---- slot evicted --+  +<---- add, fill ---+
                        +-- evicted, forget --> ABSENT <-- evicted --+

An entry owns nothing: the pools keep what it names for as long as nobody wants
the memory (`pages.py`) and tell it when that ends.

A page is named from the moment when the slice that fills it was decided: slices
run in order, so those decided later find it written. One that a copy fills is
`arriving` until that has completed, and a copy out is `in_flight`.
"""

from __future__ import annotations

import dataclasses
import functools

from aqua_jax.control import errors, pages, spare, types


@dataclasses.dataclass(slots=True, eq=False)
class Entry:
    """One full page's content. page: in the device's pool, -1: not there; away: in a slot."""

    key: int
    page: int = -1
    arriving: bool = False
    away: spare.Away | None = None

    @property
    def is_copied(self) -> bool:
        """True when there is a copy in a slot, or one under way, that others may count on."""
        return self.away is not None and not self.away.is_called

    @property
    def can_come_back(self) -> bool:
        """True when it can be copied from a slot now."""
        return self.away is not None and not (self.away.is_called or self.away.in_flight)


class Index:
    """Entries by key, and by the places that they name. Not thread-safe."""

    def __init__(self, device: pages.PagePool) -> None:
        self._device = device
        self._entries: dict[int, Entry] = {}
        self._at: dict[types.Place, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: int) -> Entry | None:
        """The entry of a key, if its content is anywhere."""
        return self._entries.get(key)

    def add(self, key: int, page: int, *, arriving: bool = False) -> None:
        """`page`, which is owned, has the content, or will have it once its copy has completed.

        Where another page has it already, that one stays the index's.
        """
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry(key)
        if entry.page >= 0:
            return
        entry.page, entry.arriving = page, arriving
        self._device.keep(page, functools.partial(self._lose_page, entry))
        self._at[self._device.place(page)] = entry

    def note_away(self, key: int, away: spare.Away) -> None:
        """`away`, which is owned, has the content, or will have it.

        One in a slot that is called back is replaced; else the first stays the index's.
        """
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry(key)
        if entry.away is not None:
            if entry.is_copied:
                return
            self._forget_away(entry, entry.away)
        entry.away = away
        away.tier.slots.keep(away.slot, functools.partial(self._lose_away, entry))
        self._at[away.place] = entry

    def arrived(self, place: types.Place, *, ok: bool) -> None:
        """The copy into `place` completed; where it failed nothing is there."""
        entry = self._at.get(place)
        if entry is None:
            return
        if entry.away is not None and entry.away.place == place:
            entry.away.in_flight = False
            if not ok:
                self._forget_away(entry, entry.away)
        else:
            entry.arriving = False
            if not ok:
                self._device.forget(entry.page)
                self._lose_page(entry)
        self._drop_if_gone(entry)

    def moved(self, former: spare.Away, home: spare.Away) -> None:
        """What was in one slot is in another too; the former is about to be given up."""
        entry = self._at.get(former.place)
        if entry is not None:
            self._forget_away(entry, former)
            self.note_away(entry.key, home)

    def has(self, away: spare.Away) -> bool:
        """True while this copy is one that others may count on."""
        entry = self._at.get(away.place)
        return entry is not None and entry.away is away and entry.can_come_back

    def void_space(self, tier: spare.Tier) -> None:
        """What was in the tier is lost."""
        for entry in [e for e in self._entries.values() if e.away and e.away.tier is tier]:
            assert entry.away is not None
            self._forget_away(entry, entry.away)
            self._drop_if_gone(entry)

    def void(self) -> None:
        """Pool and tiers are lost."""
        for entry in list(self._entries.values()):
            if entry.page >= 0:
                self._device.forget(entry.page)
                self._lose_page(entry)
            if entry.away is not None:
                self._forget_away(entry, entry.away)
                self._drop_if_gone(entry)

    def check_integrity(self) -> None:
        """Every place is named once and kept by its pool. Raises InternalError."""
        named = 0
        for key, entry in self._entries.items():
            places: list[tuple[pages.PagePool, int]] = []
            if entry.page >= 0:
                places.append((self._device, entry.page))
            if entry.away is not None:
                places.append((entry.away.tier.slots, entry.away.slot))
            named += len(places)
            for pool, index in places:
                if not pool.is_kept(index) or self._at.get(pool.place(index)) is not entry:
                    raise errors.InternalError(f"{entry} is not kept by space {pool.space}")
            if not places or entry.key != key or (entry.arriving and entry.page < 0):
                raise errors.InternalError(f"{entry}, under key {key}, is nowhere")
        if named != len(self._at):
            raise errors.InternalError(f"{len(self._at)} places are named by {named} entries")

    def _lose_page(self, entry: Entry) -> None:
        """Its device page is given to others, or void."""
        del self._at[self._device.place(entry.page)]
        entry.page, entry.arriving = -1, False
        self._drop_if_gone(entry)

    def _lose_away(self, entry: Entry) -> None:
        """Its slot is given to others, or void."""
        assert entry.away is not None
        del self._at[entry.away.place]
        entry.away = None
        self._drop_if_gone(entry)

    def _forget_away(self, entry: Entry, away: spare.Away) -> None:
        away.tier.slots.forget(away.slot)
        del self._at[away.place]
        entry.away = None

    def _drop_if_gone(self, entry: Entry) -> None:
        if entry.page < 0 and entry.away is None and self._entries.get(entry.key) is entry:
            del self._entries[entry.key]
