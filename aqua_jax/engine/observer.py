"""What the engine tells whoever measures it. The base class does nothing.

Called on the engine's thread; an observer must be quick and must not raise.
"""

from __future__ import annotations

from aqua_jax.control import copying, types


class Observer:
    """Receives slices, copies and decisions as they complete; seconds are clock seconds."""

    def slice_done(
        self, batch: types.Batch, chunks: int, started_at: float, finished_at: float
    ) -> None:
        """A slice ran on the device from `started_at` to `finished_at`."""

    def copy_done(
        self, copy: copying.Copy, completion: types.Completion, started_at: float, at: float
    ) -> None:
        """A copy was submitted at `started_at` and completed by `at`."""

    def decided(self, host_seconds: float) -> None:
        """For one dispatch the controller took so long in all.

        Outcomes and copies taken in since the last dispatch, slice and copies planned.
        """
