"""How far memory rises in a process that loads a model, arrays included: `FOLDER DEVICES`.

Resident memory as the kernel counts it, mapped files included, above what it is after a first
loading, which brings in all code.
"""

from __future__ import annotations

import gc
import pathlib
import re
import sys

import jax
import numpy as np

from models import checkpoint, decoder

_STATUS = pathlib.Path("/proc/self/status")


def main(folder: str, devices: str) -> int:
    """Bytes."""
    jax.config.update("jax_num_cpu_devices", int(devices))
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("tensor",))

    def load() -> decoder.CausalDecoder:
        return checkpoint.load(folder, dtype=np.float32, mesh=mesh)

    load()
    gc.collect()
    before = _resident("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the highest, VmHWM, begins anew
    kept = load()
    del kept
    return _resident("VmHWM") - before


def _resident(which: str) -> int:
    found = re.search(rf"{which}:\s+(\d+) kB", _STATUS.read_text())
    assert found is not None
    return 1024 * int(found[1])


if __name__ == "__main__":
    sys.stdout.write(str(main(*sys.argv[1:])))
