"""The machine and the versions that a report names.

Knows: the operating system and installed distributions. Does not know: jax;
its devices are named by the caller.
"""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Sequence
from typing import Any

_DISTRIBUTIONS = ("aqua_jax", "jax", "jaxlib", "flax", "numpy")


def hardware(devices: Sequence[str]) -> dict[str, Any]:
    """The processor, the cores this process may use, memory, and the devices as given."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "devices": list(devices),
    }


def versions() -> dict[str, str]:
    """Python's version and those of the distributions that are installed."""
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a checkout that was not installed has no version of its own
    return found


def _cpu_model() -> str:
    """The processor's name as the kernel has it, else its architecture."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine()
