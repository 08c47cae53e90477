"""How long a process takes until it serves: stage by stage, from its very beginning.

Knows: the kernel's clock of this process, names of stages. Does not know: what happens in them.
"""

from __future__ import annotations

import os
import pathlib
import time

_STARTED_FIELD = 22  # of /proc/self/stat, counted from 1, as proc_pid_stat(5) does


def process_seconds() -> float:
    """Seconds since the kernel made this process, to a hundredth: Python's own start included."""
    # The second field is the program's name in brackets, and may hold spaces.
    fields = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(fields[_STARTED_FIELD - 3]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


class Startup:
    """Stages, one after the other; the first, `import`, ends when this is made."""

    def __init__(self) -> None:
        self._seconds = {"import": process_seconds()}
        self._since = time.monotonic()

    def ended(self, stage: str) -> None:
        """All that happened since the stage before was `stage`."""
        now = time.monotonic()
        self._seconds[stage] = self._seconds.get(stage, 0.0) + now - self._since
        self._since = now

    def left_out(self) -> None:
        """What happened since the stage before counts for none."""
        self._since = time.monotonic()

    def sentence(self, first_token_seconds: float | None) -> str:
        """The same as `table` says, in a line."""
        table = self.table(first_token_seconds)
        last = list(table)[-1]
        stages = ", ".join(f"{stage} {row['seconds']:.2f}" for stage, row in table.items())
        return f"{last} {table[last]['until_seconds']:.2f} s after the start: {stages}"

    def table(self, first_token_seconds: float | None) -> dict[str, dict[str, float]]:
        """Stage -> its seconds and those until its end.

        first_token_seconds: what the first request that was served waited for, as the last stage;
        None: none was.
        """
        stages = dict(self._seconds)
        if first_token_seconds is not None:
            stages["first token"] = first_token_seconds
        until = 0.0
        table: dict[str, dict[str, float]] = {}
        for stage, seconds in stages.items():
            until += seconds
            table[stage] = {"seconds": seconds, "until_seconds": until}
        return table
