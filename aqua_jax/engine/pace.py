"""How long a slice takes, learnt from the slices that ran.

Knows: seconds a prefill program and a step cost. Does not know: jax, policy.
The engine dispatches the next slice just before the running one ends: late
enough to know of arrivals, early enough that the device never waits.
"""

from __future__ import annotations

_FADE = 0.2  # weight of the newest slice in the running mean


class Pace:
    """Running means of the seconds of one prefill program, of one step, and of the host.

    host_seconds: from the beginning of a decision until its slice is dispatched.
    """

    def __init__(self) -> None:
        self.host_seconds = 0.0
        self.chunk_seconds = 0.0
        self.step_seconds = 0.0

    def seconds(self, chunks: int, steps: int) -> float:
        """The expected seconds of a slice; what has not run yet counts as nothing."""
        return chunks * self.chunk_seconds + steps * self.step_seconds

    def learn(self, chunks: int, steps: int, seconds: float) -> None:
        """Takes in a slice of `chunks` prefill programs and `steps` steps that took `seconds`."""
        if not chunks and steps:
            self.step_seconds = _mix(self.step_seconds, seconds / steps)
        elif chunks:
            rest = max(0.0, seconds - steps * self.step_seconds)
            self.chunk_seconds = _mix(self.chunk_seconds, rest / chunks)

    def learn_host(self, seconds: float) -> None:
        """Takes in what deciding, submitting copies and dispatching took the host."""
        self.host_seconds = _mix(self.host_seconds, seconds)


def _mix(mean: float, value: float) -> float:
    return value if not mean else mean + _FADE * (value - mean)
