"""The pages of one session: on the device, in a slot of a tier, or in both.

Knows: the order of pages, which of them are where. Does not know: other
sessions, what is free, who decides.

One page of one session:

    ON_DEVICE --copy out--> BOTH (clean) --append--> BOTH (dirty)
        ^                    |  |  ^                     |
        |                    |  |  +------ copy out -----+
        +--- slot given up --+  +--leave--> AWAY --arrive--> BOTH (clean)
                             |
                             +--shed, a full page--> ATTENDED

An ATTENDED page has no device page any more: slices read it where its copy is,
so its slot is nobody's to give up. The oldest pages go first, and they stay
until the session ends or loses its state. Leaving and arriving are of the
others.

A page that is AWAY or ATTENDED may have to leave its slot (`relocation.py`). It
keeps it, and is read there, until its copy in another has been made:

    home A --move planned--> home A, under way to B --copy complete--> home B
       ^                        |
       +-- failed, cancelled ---+
"""

from __future__ import annotations

import array
import dataclasses
from collections.abc import Iterator, Sequence

from aqua_jax.control import errors, pages, spare, types


@dataclasses.dataclass(slots=True)
class Holding:
    """One session's pages.

    device: the device pages, in order; none while it is away. attended: page-table entries
    of the pages before them, which are ATTENDED. away: of every page its copy off the device,
    if it has one. shed_to: pages before this one are to be shed once their copies are made.
    outs, ins: tickets of copies in flight. moves: of a page under way to another slot, by its
    number, the copy there. left: slots that attended pages have left and slices may still read.
    waits: targets of others' copies in flight that it shares. indexed: its first pages that
    the prefix index was told of. full: its first pages that were found full.
    """

    device: list[int] = dataclasses.field(default_factory=list)
    attended: array.array[int] = dataclasses.field(default_factory=lambda: array.array("i"))
    away: list[spare.Away | None] = dataclasses.field(default_factory=list)
    shed_to: int = 0
    outs: set[int] = dataclasses.field(default_factory=set)
    ins: set[int] = dataclasses.field(default_factory=set)
    moves: dict[int, spare.Away] = dataclasses.field(default_factory=dict)
    left: list[spare.Away] = dataclasses.field(default_factory=list)
    waits: set[types.Place] = dataclasses.field(default_factory=set)
    indexed: int = 0
    full: int = 0

    @property
    def is_copying(self) -> bool:
        """True while copies of its pages are in flight, its own or shared ones."""
        return bool(self.outs or self.ins or self.waits)

    @property
    def leaving(self) -> int:
        """Device pages that it gives up once copies in flight have completed."""
        return max(0, self.shed_to - len(self.attended)) if self.device else 0

    def table(self) -> Sequence[int]:
        """Its page table. Without attended pages the live list."""
        if not self.attended:
            return self.device
        table = self.attended[:]
        table.extend(self.device)
        return table

    def copy_of(self, index: int) -> spare.Away:
        """The copy of page `index`, which must have one."""
        away = self.away[index]
        assert away is not None, "a page without an away copy"
        return away

    def is_on_device(self, index: int) -> bool:
        """True when page `index` has a device page, which a copy may be about to fill."""
        return bool(self.device) and index >= len(self.attended)

    def aways(self) -> Iterator[spare.Away]:
        """Every copy of its pages in a slot that it owns, those to come among them."""
        yield from (away for away in self.away if away is not None)
        yield from self.moves.values()
        yield from self.left

    def move(self, index: int) -> spare.Away:
        """Page `index` has come to its new home; returns the old one, to be given up."""
        home, former = self.moves.pop(index), self.copy_of(index)
        home.used, home.in_flight = former.used, False
        self.away[index] = home
        if index < len(self.attended):
            self.attended[index] = types.away_entry(home.place)
        return former

    def shed(self) -> list[int]:
        """BOTH -> ATTENDED for pages before `shed_to`, as far as their copies are made.

        Returns the device pages given up. Where a copy has failed, the pages from there on
        are no longer to be shed.
        """
        first = len(self.attended)
        until = min(self.shed_to, first + len(self.device))
        while len(self.attended) < until:
            away = self.away[len(self.attended)]
            if away is None:
                self.shed_to = len(self.attended)
                break
            if away.in_flight:
                break
            away.used = True
            self.attended.append(types.away_entry(away.place))
        count = len(self.attended) - first
        given_up = self.device[:count]
        del self.device[:count]
        return given_up

    def check_owned(self, session: int, pools: Sequence[pages.PagePool]) -> None:
        """It owns what it has, once; `pools`: the device's, then those of tiers.

        Raises InternalError with the first violation.
        """
        by_space = {pool.space: pool for pool in pools}
        places = [pools[0].place(page) for page in self.device]
        places += [away.place for away in self.aways()]
        for place in places:
            if session not in by_space[place.space].owners(place.index):
                raise errors.InternalError(f"session {session} holds {place}, which is not its own")
        if len(set(places)) < len(places):
            raise errors.InternalError(f"session {session} holds a place twice: {places}")

    def check(self, session: int) -> None:
        """Its lists agree. Raises InternalError with the first violation."""
        if len(self.device) not in (0, len(self.away) - len(self.attended)):
            raise errors.InternalError(
                f"session {session} has {len(self.device)} device pages,"
                f" {len(self.attended)} attended away and {len(self.away)} in all"
            )
        for index, entry in enumerate(self.attended):
            away = self.away[index]
            if away is None or away.in_flight or entry != types.away_entry(away.place):
                raise errors.InternalError(
                    f"session {session} attends page {index} where it has no copy"
                )
        for index in self.moves:
            on_device = self.is_on_device(index) and not (self.ins or self.waits)
            if self.away[index] is None or on_device:
                raise errors.InternalError(
                    f"session {session} moves page {index} to another slot, though it is on the"
                    " device or has none"
                )
        if self.left:
            raise errors.InternalError(f"session {session} keeps slots that its pages have left")
        if self.shed_to > len(self.attended) and not self.outs and self.device:
            raise errors.InternalError(
                f"session {session} is to shed pages before {self.shed_to} and no copy is in flight"
            )
