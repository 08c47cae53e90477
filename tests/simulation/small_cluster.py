"""A small cluster whose memory is lent and called back while requests come, and what came of it.

Knows: the simulator alone, so that any Python can run it: as a program it says the digest.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import sortedcontainers

from aqua_jax.control import clock as clocks
from aqua_jax.control import slices, types
from aqua_jax.control.policies import base
from aqua_jax.simulation import cluster, engines, hardware, items, shapes
from aqua_jax.simulation import runner as runners
from tests import processes

REQUESTS = 40
H100 = hardware.load("H100")
MODEL = shapes.text("CodeLlama-34B")
# Weights of 63 GiB and 39 pages of 16 tokens: sessions crowd each other out at once.
ENGINE = engines.TextEngine(
    hardware=H100,
    shape=MODEL,
    limits=slices.ControllerSettings(lanes=8, chunk_units=64, steps_max=4, steps_contended=2),
    policy=base.PolicySettings(quantum_tokens=4, prefill_quantum_tokens=16),
    memory_fraction=(MODEL.weight_bytes + 40 * MODEL.page_bytes(16)) / H100.memory_bytes,
    units_max=512,
)
SDXL = items.ItemEngine(
    device=H100, shape=shapes.items("SDXL"), batch_max=11, batch_calm=1, calm_seconds=0.5
)
TEXT = cluster.TextMember(
    spec=ENGINE,
    route="chat",
    host_bytes=9 * 10**9,
    borrow_bytes=2 * types.GIB,
    ahead_bytes=types.GIB // 4,
    pair="images",
)
BUSY = (items.Phase(1.0, 0.5), items.Phase(3.0, 8.0))  # a burst of images after a second
MEMBERS = {"text": TEXT, "images": cluster.ItemMember(spec=SDXL, phases=BUSY)}
SPEC = cluster.ClusterSpec(servers=[MEMBERS, MEMBERS], devices=2)


class Run:
    """A cluster that has served what arrived."""

    def __init__(self, spec: cluster.ClusterSpec, *, until: float = 30.0) -> None:
        self.cluster = cluster.Cluster(spec)
        self.tokens: dict[int, list[int]] = {}
        self.told: list[tuple[int, int, str, int, str]] = []
        routes = list(self.cluster.routes)
        for number in range(REQUESTS):
            route = routes[number % len(routes)]
            at = self.cluster.world.clock
            at.at_ns(number * 71_234_567, lambda n=number, r=route: self._submit(n, r))
        second = 0.0
        while second < until:
            second += 0.25
            self.cluster.world.run(second)
            self.cluster.check_integrity()

    def _submit(self, number: int, route: str) -> None:
        to = self.cluster.choose(route)
        where = f"{to.server}/{to.name}"
        tokens = self.tokens.setdefault(number, [])

        def note(given: Sequence[Any], reason: str, at: float) -> None:
            tokens.extend(given)
            self.told.append((number, clocks.nanoseconds(at), where, len(given), reason))

        self.cluster.submit(to, runners.request(90 + number, 60, seed=number), note)

    @property
    def digest(self) -> str:
        """Of all that happened."""
        lent = [
            (text.borrower.counters.units_granted, text.borrower.counters.units_released)
            for text in self.cluster.texts
            if text.borrower is not None
        ]
        made = [list(m.done_ns) for server in self.cluster.servers for m in server.items.values()]
        return hashlib.sha256(repr((self.told, lent, made)).encode()).hexdigest()


def digest_of(python: str) -> str:
    """What that Python says, which hashes strings in another order and has sortedcontainers alone.

    That is pure Python, so the one at hand serves it.
    """
    (package,) = sortedcontainers.__path__
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "sortedcontainers").symlink_to(package)
        paths = os.pathsep.join([str(processes.ROOT), folder])
        ran = subprocess.run(
            [python, "-m", __name__],
            env={"PYTHONPATH": paths, "PYTHONHASHSEED": "7"},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


if __name__ == "__main__":
    sys.stdout.write(Run(SPEC).digest)
