"""The page pool: who holds a page, and when it may be used again.

Knows: page numbers, owners, tickets, dispatch numbers. Does not know: what a
page holds, where sessions stand, tiers. The same class keeps the pages of a
device pool and the slots of an arena.

Invariant 1. A page carries
    owners      sessions, counted;
    readers     tickets of copies out of it;
    writer      the ticket of the one copy into it, if any;
    dispatches  in flight that may read or write it.
It is FREE when all four are empty, and only FREE pages are acquired.

    FREE --acquire--> OWNED --release--> PENDING --last ticket, last dispatch--> FREE
      |                 ^                |  |
      |                 +----- share ----+  | the same, of a page called back
      |<------ restore -- RETIRED <---------+
      +-- retire, call_back --^

The prefix index may name an owned page (`keep`). Such a page can be owned again
though nobody owns it, until it is wanted for something else:

    PENDING --last ticket, last dispatch, of a page that is kept--> CACHED --share--> OWNED
    CACHED --acquire, retire, call_back, the least recently used first; forget--> FREE

So CACHED pages are as good as FREE for whoever counts, and are counted as such.

A RETIRED page is gone from the pool until it is restored: lent to somebody, or
given back to whom it belongs. One that is called back while it is in use goes
on as it is, for nobody may lose it under his hands, and retires where it would
have turned FREE.

Dispatches of one runner complete in order, so a page need not list them: it
remembers the latest that may touch it, given when its owner lets go. While it
is owned the owner's own dispatches protect it. That keeps a dispatch over
thousands of pages free of any work a page.

Example: a session in dispatch 7 is aborted while copy 3 still reads page 5.
`release([5], owner, 7)` leaves 5 PENDING; `end_copy(3)` leaves it PENDING;
`complete_dispatch(7)` makes it FREE.

Pages are handed out in runs of neighbours (`runs.py`), a session's new ones
behind those it has, so that what moves together lies together.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

from aqua_jax.control import errors, runs, types


class PagePool:
    """Pages `reserved` .. `pages - 1` of one space; the first `reserved` are never handed out.

    generation: of the grant that the space is, where it is one; 0: memory that nobody calls back.
    Not thread-safe: the engine's thread owns it.
    """

    def __init__(self, space: int, pages: int, *, reserved: int = 0, generation: int = 0) -> None:
        if pages <= reserved:
            raise errors.ConfigError(
                f"a pool of {pages} pages, {reserved} of them reserved, has none to give:"
                f" ask for at least {reserved + 1}"
            )
        self.space = space
        self.generation = generation
        self.pages = pages
        self.reserved = reserved
        self.completed_dispatch = 0
        self._free = runs.FreeRuns(reserved, pages)
        self._owned_count = 0
        self._owners: list[dict[int, int]] = [{} for _ in range(pages)]
        self._readers = [0] * pages
        self._writer = [0] * pages
        self._busy_until = [0] * pages
        self._is_free = [False] * reserved + [True] * (pages - reserved)
        self._called: dict[int, None] = {}  # pages in use that retire instead of turning FREE
        self._retired: dict[int, None] = {}
        self._kept: dict[int, Callable[[], None]] = {}  # named by the index: called when evicted
        self._cached: dict[int, None] = {}  # those of them that nobody uses, least recent first
        self._reads: dict[int, tuple[int, ...]] = {}
        self._writes: dict[int, tuple[int, ...]] = {}
        self._waiting: dict[int, list[int]] = {}  # dispatch in flight -> pages without an owner

    @property
    def capacity(self) -> int:
        """Pages that can be handed out in all; those in use that are called back among them."""
        return self.pages - self.reserved - len(self._retired)

    @property
    def capacity_most(self) -> int:
        """The same once every RETIRED page is restored."""
        return self.pages - self.reserved

    @property
    def free_count(self) -> int:
        """FREE pages and CACHED ones: can be acquired now."""
        return self._free.count + len(self._cached)

    @property
    def cached_count(self) -> int:
        """CACHED pages."""
        return len(self._cached)

    @property
    def retired_count(self) -> int:
        """RETIRED pages."""
        return len(self._retired)

    @property
    def called_count(self) -> int:
        """Pages in use that retire once nothing touches them."""
        return len(self._called)

    @property
    def used_count(self) -> int:
        """Pages that are owned or PENDING."""
        return self.capacity - self.free_count

    @property
    def pending_count(self) -> int:
        """Pages without an owner that turn FREE or CACHED, or retire, once nothing touches them."""
        return self.capacity - self.free_count - self._owned_count

    def place(self, page: int) -> types.Place:
        """Where the page is, for a move."""
        return types.Place(self.space, page, self.generation)

    def acquire(self, owner: int, count: int, *, after: int = -1) -> list[int]:
        """FREE -> OWNED for `count` pages, in runs as long as there are; CACHED ones if need be.

        after: a page that they should follow; -1: none. Raises InternalError when fewer are FREE.
        """
        if count > self._free.count:
            if count > self.free_count:
                raise errors.InternalError(
                    f"acquire({count}) with {self.free_count} FREE pages in space {self.space}:"
                    " check free_count first"
                )
            self._evict(count - self._free.count)
        taken = self._free.take(count, after=after)
        is_free, owners = self._is_free, self._owners
        for page in taken:
            is_free[page] = False
            owners[page][owner] = 1
        self._owned_count += count
        return taken

    def share(self, pages: Iterable[int], owner: int) -> None:
        """Adds an owner (or one more count of it) to pages that are owned or kept."""
        for page in pages:
            if not self._owners[page]:
                if page not in self._kept:
                    raise errors.InternalError(
                        f"page {page} of space {self.space} has no owner to share with"
                    )
                self._cached.pop(page, None)
                self._owned_count += 1
            self._owners[page][owner] = self._owners[page].get(owner, 0) + 1

    def keep(self, page: int, on_evict: Callable[[], None]) -> None:
        """An owned page turns CACHED, not FREE, when nothing touches it.

        on_evict: called when its content is given up for others, and only then.
        """
        if not self._owners[page] or page in self._kept:
            raise errors.InternalError(
                f"page {page} of space {self.space} is to be kept: owners"
                f" {sorted(self._owners[page])}, kept={page in self._kept}"
            )
        self._kept[page] = on_evict

    def forget(self, page: int) -> None:
        """The page is kept no more: CACHED -> FREE, in other states nothing else changes."""
        del self._kept[page]
        if page in self._cached:
            del self._cached[page]
            self._set_free(page)

    def release(self, pages: Iterable[int], owner: int, last_dispatch: int = 0) -> None:
        """Drops one count of `owner`. OWNED -> PENDING -> FREE once nothing touches the page.

        last_dispatch: the latest dispatch of this owner that may read or write the pages.
        """
        all_owners, busy_until = self._owners, self._busy_until
        waits = last_dispatch > self.completed_dispatch
        given_up: list[int] = []
        for page in pages:
            owners = all_owners[page]
            count = owners.get(owner, 0)
            if not count:
                raise errors.InternalError(
                    f"session {owner} releases page {page} of space {self.space},"
                    f" owned by {sorted(owners)}"
                )
            if count > 1:
                owners[owner] = count - 1
            else:
                del owners[owner]
                if not owners:
                    given_up.append(page)
            if waits:
                busy_until[page] = max(busy_until[page], last_dispatch)
        self._owned_count -= len(given_up)
        if waits:
            self._waiting.setdefault(last_dispatch, []).extend(given_up)
        else:
            self._free_if_idle(given_up)

    def begin_read(self, pages: Sequence[int], ticket: int) -> None:
        """A copy out of `pages` was submitted: they stay as they are until `end_copy(ticket)`."""
        for page in pages:
            if self._is_free[page] or page in self._retired or page in self._cached:
                raise errors.InternalError(
                    f"copy {ticket} reads FREE page {page} of space {self.space}"
                    f" (retired={page in self._retired}, cached={page in self._cached})"
                )
            if self._writer[page]:
                raise errors.InternalError(
                    f"copy {ticket} reads page {page} of space {self.space},"
                    f" which copy {self._writer[page]} writes"
                )
            self._readers[page] += 1
        self._reads[ticket] = self._reads.get(ticket, ()) + tuple(pages)

    def begin_write(self, pages: Sequence[int], ticket: int) -> None:
        """A copy into `pages` was submitted: nothing else touches them until `end_copy(ticket)`."""
        for page in pages:
            free = self._is_free[page] or page in self._retired or page in self._cached
            if free or self._writer[page] or self._readers[page]:
                raise errors.InternalError(
                    f"copy {ticket} writes page {page} of space {self.space}: free={free},"
                    f" writer={self._writer[page]}, readers={self._readers[page]}"
                )
            self._writer[page] = ticket
        self._writes[ticket] = self._writes.get(ticket, ()) + tuple(pages)

    def end_copy(self, ticket: int) -> None:
        """The copy completed or failed: its pages lose this reader or writer."""
        read, written = self._reads.pop(ticket, ()), self._writes.pop(ticket, ())
        for page in read:
            self._readers[page] -= 1
        for page in written:
            self._writer[page] = 0
        self._free_if_idle(read)
        self._free_if_idle(written)

    def complete_dispatch(self, dispatch: int) -> None:
        """Dispatches complete in order: `dispatch` and all before it no longer touch any page."""
        self.completed_dispatch = max(self.completed_dispatch, dispatch)
        for number in sorted(n for n in self._waiting if n <= self.completed_dispatch):
            self._free_if_idle(self._waiting.pop(number))

    def retire(self, count: int) -> list[int]:
        """FREE -> RETIRED for the highest `count` FREE pages, or all there are; returns them.

        CACHED ones turn FREE for it where too few are.
        The highest: pages are handed out from the low end of their run, so these lie together,
        and what stays does too.
        """
        self._evict(count - self._free.count)
        chosen = self._free.highest(count)
        self.call_back(chosen)
        return chosen

    def call_back(self, pages: Iterable[int]) -> None:
        """FREE -> RETIRED; pages in use retire once nothing touches them."""
        free: list[int] = []
        for page in pages:
            if page in self._retired or page in self._called or page < self.reserved:
                raise errors.InternalError(f"page {page} of space {self.space} is not in the pool")
            if page in self._cached:
                self._evict_page(page)
            if self._is_free[page]:
                self._is_free[page] = False
                self._retired[page] = None
                free.append(page)
            else:
                self._called[page] = None
        self._free.withdraw(free)

    def restore(self, pages: Iterable[int]) -> None:
        """RETIRED -> FREE; pages called back and still in use stay in the pool."""
        for page in pages:
            if page in self._called:
                del self._called[page]
            elif page in self._retired:
                del self._retired[page]
                self._is_free[page] = True
                self._free.give(page, page)
            else:
                raise errors.InternalError(
                    f"page {page} of space {self.space} is restored, but was not called back"
                )

    def is_free(self, page: int) -> bool:
        """True when the page can be acquired."""
        return self._is_free[page] or page in self._cached

    def is_cached(self, page: int) -> bool:
        """True when nobody uses the page and the index names it."""
        return page in self._cached

    def is_kept(self, page: int) -> bool:
        """True when the index names the page."""
        return page in self._kept

    def owners(self, page: int) -> Sequence[int]:
        """The sessions that own the page."""
        return tuple(self._owners[page])

    def owner_count(self, page: int) -> int:
        """How many sessions own the page."""
        return len(self._owners[page])

    def is_called(self, page: int) -> bool:
        """True when the page is in use and retires next."""
        return page in self._called

    def is_retired(self, page: int) -> bool:
        """True when the page is gone from the pool."""
        return page in self._retired

    def is_copying(self, page: int) -> bool:
        """True while a copy reads or writes the page."""
        return bool(self._readers[page] or self._writer[page])

    def check_integrity(self) -> None:
        """Invariant 1 over every page. Raises InternalError with the first violation."""
        self._free.check_integrity()
        listed = [page for first, last in self._free.runs() for page in range(first, last + 1)]
        if listed != [p for p in range(self.pages) if self._is_free[p]]:
            raise errors.InternalError(
                f"space {self.space}: the free runs and the free flags differ"
            )
        owned = sum(1 for owners in self._owners if owners)
        if owned != self._owned_count:
            raise errors.InternalError(
                f"space {self.space}: {owned} pages owned, {self._owned_count} counted"
            )
        for page in range(self.reserved, self.pages):
            idle = self._is_idle(page)
            if page in self._called and (idle or page in self._retired):
                raise errors.InternalError(
                    f"page {page} of space {self.space} is called back, idle and not RETIRED"
                )
            cached, kept = page in self._cached, page in self._kept
            if idle != (self._is_free[page] or page in self._retired or cached):
                raise errors.InternalError(
                    f"page {page} of space {self.space}: free={self._is_free[page]},"
                    f" retired={page in self._retired}, cached={cached} but owners"
                    f" {self._owners[page]}, readers {self._readers[page]},"
                    f" writer {self._writer[page]},"
                    f" busy until {self._busy_until[page]} of {self.completed_dispatch}"
                )
            if cached != (idle and kept):
                raise errors.InternalError(
                    f"page {page} of space {self.space}: cached={cached}, kept={kept}, idle={idle}"
                )
            if self._writer[page] and self._readers[page]:
                raise errors.InternalError(
                    f"page {page} of space {self.space} is read and written at once"
                )

    def _is_idle(self, page: int) -> bool:
        return (
            not self._owners[page]
            and not self._readers[page]
            and not self._writer[page]
            and self._busy_until[page] <= self.completed_dispatch
        )

    def _free_if_idle(self, pages: Iterable[int]) -> None:
        """PENDING -> FREE, CACHED or RETIRED for those that nothing touches, run by run."""
        first, last = 0, -1
        is_free, retired, called, kept = self._is_free, self._retired, self._called, self._kept
        cached: list[int] = []
        for page in pages:
            if is_free[page] or page in retired:
                continue
            if not self._is_idle(page):
                busy_until = self._busy_until[page]
                if busy_until > self.completed_dispatch and not self._owners[page]:
                    self._waiting.setdefault(busy_until, []).append(page)
                continue  # whoever ends last looks again
            if page in called:
                del called[page]
                retired[page] = None
                if page in kept:
                    kept.pop(page)()
                continue
            if page in kept:
                cached.append(page)
                continue
            is_free[page] = True
            if page != last + 1:
                if last >= first:
                    self._free.give(first, last)
                first = page
            last = page
        if last >= first:
            self._free.give(first, last)
        for page in reversed(cached):  # of a session's pages the last go first: no gap before them
            self._cached.pop(page, None)
            self._cached[page] = None

    def _evict(self, count: int) -> None:
        """CACHED -> FREE for the `count` least recently used, or all there are."""
        for page in list(itertools.islice(self._cached, max(0, count))):
            self._evict_page(page)

    def _evict_page(self, page: int) -> None:
        """CACHED -> FREE; the index is told."""
        on_evict = self._kept.pop(page)
        del self._cached[page]
        self._set_free(page)
        on_evict()

    def _set_free(self, page: int) -> None:
        self._is_free[page] = True
        self._free.give(page, page)
