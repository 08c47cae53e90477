"""Stop strings over text that comes in pieces: nothing of one is let out.

Knows: texts. Does not know: tokens, who ends what.

Text that could be the beginning of a stop string is held back until it is one or cannot be. The
match that begins first wins, of those that begin together the one that is whole first. So the
text let out is that before the earliest occurrence of any stop string in the whole text, however
it was cut.
"""

from __future__ import annotations

from collections.abc import Sequence

from aqua_jax.control import errors

STOPS_MAX = 64
STOP_CHARACTERS_MAX = 1024


class StopStrings:
    """The filter of one text. include: what matched is let out as well.

    matched: the stop string that ended the text, "" while none has.
    Raises RequestError for an empty stop string, or too many or too long ones.
    """

    def __init__(self, stops: Sequence[str], *, include: bool = False) -> None:
        check(stops)
        self._stops = tuple(dict.fromkeys(stops))
        self._include = include
        self._held = ""
        self.matched = ""

    def push(self, text: str) -> str:
        """What of the text so far can be let out now; nothing after a match."""
        if self.matched:
            return ""
        self._held += text
        # A match that is not whole yet may begin before one that is.
        hold = self._hold_from()
        found = self._find()
        if found is not None and found[0] <= hold:
            begin, self.matched = found
            end = begin + len(self.matched) if self._include else begin
            out, self._held = self._held[:end], ""
            return out
        out, self._held = self._held[:hold], self._held[hold:]
        return out

    def flush(self) -> str:
        """The end of the text: what was held back, unless it holds a match."""
        if self.matched:
            return ""
        found = self._find()
        if found is None:
            out, self._held = self._held, ""
            return out
        begin, self.matched = found
        out = self._held[: begin + len(self.matched) * self._include]
        self._held = ""
        return out

    def _find(self) -> tuple[int, str] | None:
        """The earliest whole match: where it begins and which; the shortest of several there."""
        found = [(self._held.find(stop), len(stop), stop) for stop in self._stops]
        matches = [match for match in found if match[0] >= 0]
        if not matches:
            return None
        begin, _, stop = min(matches)
        return begin, stop

    def _hold_from(self) -> int:
        """Where the earliest beginning of a stop string that is not whole yet begins."""
        held = self._held
        starts = [len(held)]
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(held)), 0, -1):
                if held.endswith(stop[:length]):
                    starts.append(len(held) - length)
                    break
        return min(starts)


def check(stops: Sequence[str]) -> None:
    """Raises RequestError when these cannot be the stop strings of a request."""
    if isinstance(stops, str) or not all(isinstance(stop, str) for stop in stops):
        raise errors.RequestError(f"stop is {stops!r}: expected a list of strings")
    if len(stops) > STOPS_MAX:
        raise errors.RequestError(f"stop has {len(stops)} strings: expected at most {STOPS_MAX}")
    for stop in stops:
        if not 0 < len(stop) <= STOP_CHARACTERS_MAX:
            raise errors.RequestError(
                f"stop has a string of {len(stop)} characters: expected 1 to {STOP_CHARACTERS_MAX}"
            )
