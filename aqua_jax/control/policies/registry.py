"""Policies by name."""

from __future__ import annotations

from collections.abc import Callable

from aqua_jax.control import errors
from aqua_jax.control.policies import base, buffered, cfs, eevdf, fcfs, mlfq, srpt, vtc

POLICIES: dict[str, Callable[[base.PolicySettings], base.Policy]] = {
    "fcfs": fcfs.Fcfs,
    "fcfs_reserve": lambda settings: fcfs.Fcfs(settings, reserves_output=True),
    "cfs": cfs.Cfs,
    "cfs_recompute": lambda settings: cfs.Cfs(settings, pages_out=False),
    "vtc": vtc.Vtc,
    "eevdf": eevdf.Eevdf,
    "mlfq": mlfq.Mlfq,
    "srpt": srpt.Srpt,
    "buffered": buffered.Buffered,
}


def make(settings: base.PolicySettings) -> base.Policy:
    """The policy named in the settings. Raises ConfigError for an unknown name."""
    maker = POLICIES.get(settings.name)
    if maker is None:
        raise errors.ConfigError(
            f"unknown policy {settings.name!r}{errors.close_match(settings.name, POLICIES)}"
        )
    return maker(settings)
