"""The words the two planes share: places, moves, requests, sessions, batches, outcomes.

Knows: ints, ids, counts. Does not know: jax, tokens' meaning, who decides.

Units are the positions of a session's paged state. Text: one unit is the KV of
one token; an image: a fixed number of units, its latents. A session has
`known` units (prompt and emitted) and `cached` ones (state in pages). Work is
always the same: bring `cached` up to `known`.

    known - cached == 1   ready to step: the last known unit is the next input
    known - cached  > 1   to prefill: rows [cached, known); the last row emits one

So a fresh prompt, and a session whose pages were lost and which recomputes,
are the same case. What is in flight counts in `planned_*`.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import Any, NamedTuple

from aqua_jax.control import errors

GIB = 1 << 30
MIB = 1 << 20

# What an entry below 0 of a page table can name, so that it fits into 32 bits: spaces and slots.
ENTRY_SPACES = 128
ENTRY_SLOTS = 1 << 24


class Place(NamedTuple):
    """Where a page is: `space` is a pool id, arena handle or grant; `index` a page or slot."""

    space: int
    # A place is never searched, so it may have a field where a tuple has a method.
    index: int  # pyright: ignore[reportIncompatibleMethodOverride]
    generation: int = 0


def away_entry(place: Place) -> int:
    """The page-table entry, below 0, of a page that is attended in place in an arena's slot.

    >>> away_entry(Place(2, 5)), entry_place(away_entry(Place(2, 5)))
    (-33554438, Place(space=2, index=5, generation=0))
    """
    if not (0 <= place.space < ENTRY_SPACES and 0 <= place.index < ENTRY_SLOTS):
        raise errors.InternalError(
            f"{place} cannot be in a page table: expected a space below {ENTRY_SPACES} and an index"
            f" below {ENTRY_SLOTS}, as runners check when they are told of an arena"
        )
    return ~(place.space * ENTRY_SLOTS + place.index)


def entry_place(entry: int) -> Place:
    """The arena's space and the slot that an entry below 0 names."""
    return Place(*divmod(~entry, ENTRY_SLOTS))


class Move(NamedTuple):
    """One page to copy. `units` of it are final once the dispatch it follows has completed."""

    source: Place
    target: Place
    units: int


class Completion(NamedTuple):
    """What became of a submitted batch of moves. `error` is None when every byte arrived."""

    ticket: int
    bytes: int
    seconds: float
    error: BaseException | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for. The engine reads the numbers, the runner the payload.

    prompt_units: units known at the start (prompt tokens), at least 1.
    steps_max: units to emit at most, at least 1.
    deadline_seconds: give up this long after submission; None: never.
    cache_salt: state is reused only among requests of one salt, so that nobody learns from the
      time of an answer what others have asked; None: the tenant's name.
    payload: the runner's own part (token ids, sampling); opaque to the engine.
    """

    prompt_units: int
    steps_max: int
    kind: str = "text"
    tenant: str = ""
    cache_salt: str | None = None
    weight: float = 1.0
    deadline_seconds: float | None = None
    payload: Any = None


class AttendAway(enum.StrEnum):
    """Whose pages slices may read where they are, in slots of a tier."""

    OFF = "off"
    LONG = "long"  # of sessions whose whole state is more than the pool holds
    ALL = "all"  # of any, where memory is short

    @property
    def is_on(self) -> bool:
        """True when there are any."""
        return self is not AttendAway.OFF


class State(enum.Enum):
    """Where a session stands; transitions are drawn in `controller.py`."""

    WAITING = "waiting"  # no state anywhere: never ran, or to be recomputed
    RUNNING = "running"  # holds a lane and device pages
    PAUSED = "paused"  # holds device pages, no lane
    LEAVING = "leaving"  # its pages are being copied out
    AWAY = "away"  # every page has a home off the device
    ARRIVING = "arriving"  # its pages are being copied in
    ENDED = "ended"  # finished, aborted or refused; see `reason`


@dataclasses.dataclass(slots=True, eq=False)
class Session:
    """One request's inference state as the host sees it. Mutated by controller and engine only."""

    id: int
    request: Request
    arrived_at: float
    state: State = State.WAITING
    cached: int = 0  # units whose state is in pages, as of the outcomes read
    planned_cached: int = 0  # the same once every dispatch in flight has completed
    planned_known: int = 0
    emitted: list[Any] = dataclasses.field(default_factory=list)  # tokens or events
    lane: int = -1  # -1: none
    joins: bool = False  # the device's lane does not have its state yet
    room: int = 0  # units that its page table holds, of those that it may ever have
    sheds: bool = False  # its oldest pages may be attended away while it runs
    flights: int = 0  # dispatches in flight that carry it
    last_dispatch: int = 0  # the latest dispatch that carried it
    epoch: int = 0  # grows when its pages are given up: older outcomes are dropped
    void_until: int = 0  # outcomes of dispatches up to this one are void: they read lost memory
    first_emitted_at: float | None = None  # clock second at which its first token came
    vtime: float = 0.0  # virtual time: weighted service over weight, or the policy's other measure
    served: float = 0.0  # weighted service since it got its lane, or since its prefill ended
    vtime_at_join: float = 0.0  # its vtime when it last got its lane
    vtime_at_start: float = 0.0  # its vtime when it came
    fresh: bool = True  # a newcomer: no slice was planned yet that gives its first token
    outs_failed: int = 0  # copies of its pages off the device that failed, in a row
    fragile: bool = False  # lost its state and has emitted nothing since
    known_at_join: int = 0  # its planned_known then
    service: float = 0.0  # weighted service in all
    passed_over: int = 0  # times a later one was admitted first while this did not fit
    preemptions: int = 0
    parked: bool = False  # its client does not read: not to be scheduled
    reason: str = ""  # why it ended: stop, length, abort, deadline, refused, error
    error: BaseException | None = None
    page_keys: list[int] = dataclasses.field(default_factory=list)  # of its first full pages
    waits: int = 0  # decisions that it waited for pages that others compute or shed
    units_end: int = dataclasses.field(init=False)  # units known once it has emitted all it may

    def __post_init__(self) -> None:
        self.units_end = self.request.prompt_units + self.request.steps_max

    @property
    def salt(self) -> str:
        """With whom it shares state."""
        salt = self.request.cache_salt
        return self.request.tenant if salt is None else salt

    @property
    def known(self) -> int:
        """Units known to the host: the prompt and what was emitted."""
        return self.request.prompt_units + len(self.emitted)

    @property
    def prefill_left(self) -> int:
        """Units to prefill beyond what is in flight; 0 when ready to step."""
        gap = self.planned_known - self.planned_cached
        return gap if gap > 1 else 0

    @property
    def steps_left(self) -> int:
        """Units it may still emit beyond what is in flight."""
        return self.units_end - self.planned_known


class LanePlan(NamedTuple):
    """One lane's share of a slice: prefill rows [first, first + prefill), then up to `steps` steps.

    pages: the session's page table; final, covers every unit the slice may touch. An entry
      of at least 0 is a page of the runner's pool; one below 0, which the slice only
      reads, is a slot of an arena (`entry_place`), where the page is attended in place.
      Those of arenas come first. A table with such entries is an `array.array("i")`: it may
      have thousands, and an array of int32 is had of it without a copy.
    joins: the lane did not run this session in the previous slice, so the
      device's lane state is set from the host (last known unit, position).
    """

    lane: int
    session: Session
    pages: Sequence[int]
    first: int
    prefill: int
    steps: int
    joins: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """What one dispatch runs. `steps` is the largest of the lanes'."""

    lanes: tuple[LanePlan, ...]
    steps: int

    @property
    def prefill_units(self) -> int:
        """Prefill rows over all lanes."""
        return sum(plan.prefill for plan in self.lanes)


class Outcome(NamedTuple):
    """What a dispatch did for one session.

    tokens: what it emitted, in order. finished: "" or why ("stop", "length").
    prefill_units, step_units: units computed. overrun: units computed past its end.
    """

    session: int
    tokens: Sequence[Any]
    finished: str
    prefill_units: int
    step_units: int
    overrun: int = 0
