"""Who gets slots: those that are free, then those of clean copies that others keep.

Knows: which copies lie in slots, which of them are on the device too. Does not
know: page tables' use, when a copy runs. Nobody gives up a slot that a planned
copy uses, nor one that slices attend: what is there is nowhere else. A slot
that its lender has called back counts for nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aqua_jax.control import holdings, spare


class Claims:
    """The slots of all tiers and their claimants. `wasted`: copies given up unused."""

    def __init__(self, slots: spare.Slots) -> None:
        self.slots = slots
        self.wasted = 0
        # Sessions on the device with copies of their pages in slots, oldest first.
        self._offers: dict[int, holdings.Holding] = {}

    def offer(self, session: int, holding: holdings.Holding) -> None:
        """It is on the device and has copies: they may be given up for others."""
        self._offers[session] = holding

    def withdraw(self, session: int) -> None:
        """Its copies are in use: they stay."""
        self._offers.pop(session, None)

    def obtainable(self, session: int) -> int:
        """Slots that it could get now."""
        clean = (self._clean(other) for id, other in self._offers.items() if id != session)
        return self.slots.free_count + sum(_staying(filter(_is_alone, aways)) for aways in clean)

    def kept(self, session: int, holding: holdings.Holding) -> int:
        """Its slots that others cannot get."""
        count = _staying(away for away in holding.away if away is not None)
        count += _staying(holding.moves.values())
        return count - _staying(self._clean(holding)) if session in self._offers else count

    def take(self, session: int, holding: holdings.Holding, indices: Sequence[int]) -> bool:
        """Gives each page that has none a slot, nearest tier first; all or nothing."""
        new = [i for i in indices if holding.away[i] is None]
        short = len(new) - self.slots.free_count
        if short > 0:
            self._give_up_clean_copies(session, short)
        if len(new) > self.slots.free_count:
            return False
        before = holding.away[new[0] - 1] if new and new[0] else None
        taken = self.slots.take(session, len(new), after=before)
        for index, away in zip(new, taken, strict=True):
            holding.away[index] = away
        return True

    def take_home(
        self, session: int, *, after: spare.Away | None, avoid: Sequence[spare.Tier]
    ) -> spare.Away | None:
        """A slot for a page that must leave the one it has, in a tier of `avoid` if in no other."""
        if not self.slots.free_count:
            self._give_up_clean_copies(session, 1)
        if not self.slots.free_count:
            return None
        (home,) = self.slots.take(session, 1, after=after, avoid=avoid)
        return home

    def give_up(
        self, session: int, aways: Iterable[spare.Away | None], last_dispatch: int = 0
    ) -> None:
        """Releases slots; dispatches up to `last_dispatch` may read them where they are."""
        given_up = [away for away in aways if away is not None]
        self.wasted += sum(not away.used for away in given_up)
        self.slots.give_up(session, given_up, last_dispatch)

    def _give_up_clean_copies(self, keep: int, count: int) -> None:
        """Frees slots of copies whose pages are on the device too, oldest sessions first."""
        for session, holding in list(self._offers.items()):
            if session == keep or holding.is_copying:
                continue
            clean, first = self._clean(holding), len(holding.attended)
            staying = _staying(filter(_is_alone, clean))
            self.give_up(session, clean)
            holding.away[first:] = [None] * (len(holding.away) - first)
            del self._offers[session]
            count -= staying
            if count <= 0:
                return

    def _clean(self, holding: holdings.Holding) -> list[spare.Away]:
        """Its copies that could be given up."""
        if holding.is_copying:
            return []
        return [away for away in holding.away[len(holding.attended) :] if away is not None]


def _is_alone(away: spare.Away) -> bool:
    """True when nobody shares it: its slot is free once it is given up."""
    return away.tier.slots.owner_count(away.slot) == 1


def _staying(aways: Iterable[spare.Away]) -> int:
    """How many of their slots are somebody's again when they are given up."""
    return sum(not away.is_called for away in aways)
