"""What the engine asks of a runner and of a mover. No policy, no jax.

Any object with these methods will do: the engine checks no base class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from aqua_jax.control import tickets, types


class Mover(Protocol):
    """Copies pages between places, asynchronously.

    A submitted batch cannot be aborted: exactly one `Completion` per ticket
    always comes out of `poll`. A copy runs after every dispatch dispatched
    before it and after every copy submitted before it that touches the same
    pages. It may run beside dispatches dispatched after it. So while a copy is
    in flight no dispatch may write a page that it touches or read one that it
    writes, and the engine dispatches none that does:

    - pages that leave are out of every page table once their copy is planned,
      and not FREE before it has completed (`Residency.leave`, `begin`,
      `finish`);
    - pages that arrive belong to a session that is ARRIVING, and in no batch,
      until its copies have completed (`Residency.is_arriving`, `Stage`);
    - pages copied early from a session that goes on are full: dispatches read
      them, as the copy does (`Residency.copy_early`).
    """

    def submit(
        self, moves: Sequence[types.Move], after: tickets.Ticket | None = None
    ) -> tickets.Ticket:
        """Starts a batch; returns at once. All moves share one source and one target space.

        `after`: the last dispatch that may write the source pages; the copy
        reads them when it has completed. Raises on a plan that the host can
        see is wrong (unknown space, index out of range, a target twice);
        then nothing was started.
        """
        ...

    def poll(self) -> list[types.Completion]:
        """Completions since the last call, in order of completion. Never blocks."""
        ...

    def rebuild(self) -> None:
        """Fresh arenas after a slice failed, which may have voided what was copied after it.

        Nothing is in flight; whatever the arenas held is lost.
        """
        ...

    def close(self) -> None:
        """Waits for copies in flight (bounded) and releases threads."""
        ...


class Party(Protocol):
    """A side of leases: a borrower of memory for this engine's pages, or a lender of its pool's.

    It changes the controller's tiers and pools, on the engine's thread, between slices.
    """

    def turn(self, now: float) -> bool:
        """Takes in what it was told and asks for what it wants. Never waits.

        True when memory has come, was called back or is gone, so that it is worth deciding again.
        """
        ...

    def wakes_at(self) -> float:
        """The clock second at which a turn is due though nothing happens."""
        ...


class Runner(Protocol):
    """Runs one kind of session on one device group."""

    @property
    def kind(self) -> str:
        """The kind of request it takes: "text", "image" or another."""
        ...

    @property
    def space(self) -> int:
        """The space id of its pool."""
        ...

    @property
    def pages(self) -> int:
        """Pages of its pool, scratch page 0 included."""
        ...

    @property
    def page_bytes(self) -> int:
        """Bytes of one page over all shards."""
        ...

    @property
    def lanes(self) -> int:
        """Sessions that one slice can carry."""
        ...

    @property
    def chunk_units(self) -> int:
        """Rows of one prefill program; a slice's prefill is rounded up to a multiple."""
        ...

    @property
    def steps_max(self) -> int:
        """Steps that one slice can run."""
        ...

    @property
    def units_max(self) -> int:
        """Units that one session can hold: its page table's length times the page's units."""
        ...

    def check(self, request: types.Request) -> None:
        """Raises RequestError when the payload is malformed (ids out of range, NaN temperature)."""
        ...

    def pages_needed(self, request: types.Request, units: int) -> int:
        """Pages that hold the first `units` units of such a session. Never shrinks with units."""
        ...

    def units_in_page(self, request: types.Request, index: int, units: int) -> int:
        """How much of page `index` of the table is final when `units` units are cached.

        A page copied at this figure is clean for as long as the figure stays.
        0: the page holds nothing yet. Text: the tokens in it, at most page_tokens.
        """
        ...

    def page_keys(self, session: types.Session, first: int, end: int) -> Sequence[int]:
        """Content addresses of pages [first, end), which the session's known units fill.

        One is a hash of all that the page's content depends on: the session's salt and every
        unit up to the page's end. `session.page_keys` has those before `first`, so that each is
        computed once. Fewer than asked for, or none: the others' content has no address.
        """
        ...

    def dispatch(self, batch: types.Batch) -> tickets.Ticket:
        """Starts a slice; returns at once. Slices run in dispatch order.

        A lane keeps its device state from slice to slice until a plan with
        `joins` sets it anew, so a slice may be dispatched before the
        outcomes of the one before it were read.
        """
        ...

    def collect(self, ticket: tickets.Ticket) -> list[types.Outcome]:
        """The outcomes of a slice whose ticket is done, one per lane of its batch. Once.

        Raises what the dispatch raised; then the pool's contents are void.
        """
        ...

    def rebuild(self) -> None:
        """A fresh pool after a failure; every session's state is lost."""
        ...

    def close(self) -> None:
        """Waits for slices in flight (bounded) and releases threads."""
        ...
