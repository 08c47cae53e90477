"""How fast the simulator is: host seconds for an event, early and late, with few servers or many.

Knows: a simulated cluster, records of its requests, the host's timer. Does not
know: reports.

The load never lets up and never grows: a request that ends is followed by
another. So an event costs the same all along, unless something remembers what
has ended or looks at all that there is.
"""

from __future__ import annotations

import dataclasses
import gc
import random
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aqua_jax.control import errors, slices, types
from aqua_jax.control.policies import base, registry
from aqua_jax.experiments import away_reads, recorder
from aqua_jax.simulation import cluster, engines, hardware, items, shapes
from aqua_jax.simulation import runner as runners
from aqua_jax.workloads import records

_PROMPT_UNITS, _STEPS = (128, 2_048), (32, 384)  # of a request, drawn evenly
_PHASES = (items.Phase(1e9, 0.2),)
_PARTS = 5  # of a run: the second is early, the last is late


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorBenchmark:
    """The settings.

    policy: of the text engines. servers: how many, comma-separated, one row each; of each a
    CodeLlama-34B and an SDXL that lends. living: requests that each text engine has at a time.
    requests: that end on each text engine in all.
    """

    policy: str = "cfs"
    servers: str = "1,16"
    living: int = 40
    requests: int = 1_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.policy not in registry.POLICIES:
            hint = errors.close_match(self.policy, registry.POLICIES)
            raise errors.ConfigError(f"unknown policy {self.policy!r}{hint}")
        if self.living < 1 or self.requests < _PARTS:
            raise errors.ConfigError(
                f"living {self.living}, requests {self.requests}: give at least 1 and {_PARTS}"
            )
        if not all(text.isdigit() and int(text) for text in self.servers.split(",")):
            raise errors.ConfigError(f"servers={self.servers}: give counts, comma-separated")

    @property
    def title(self) -> str:
        """What the rows are."""
        return f"Simulator, {self.living} requests at a time on each text engine, {self.policy}"

    @property
    def devices(self) -> list[str]:
        """None: the devices are simulated."""
        return []

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """(servers, figures as `metrics.BENCHMARK` names them), each as it is measured."""
        for count in self.servers.split(","):
            yield f"{count} servers", _Load(self, int(count)).measure()


class _Load:
    """Requests that keep every engine of a cluster busy."""

    def __init__(self, settings: SimulatorBenchmark, servers: int) -> None:
        self._settings = settings
        self._random = random.Random(f"{settings.seed}/simulator")
        self._keepers: dict[cluster.Text, recorder.Recorder] = {}
        self._submitted = 0
        self._ended = 0
        self._cluster = cluster.Cluster(
            cluster.ClusterSpec(servers=[_members(settings.policy)] * servers, devices=2),
            observe=self._observe,
        )
        self._all = settings.requests * servers

    def measure(self) -> dict[str, Any]:
        """The figures of the whole run."""
        world, texts = self._cluster.world, self._cluster.texts
        for text in texts:
            for _ in range(self._settings.living):
                self._submit(text)
        marks = [(0, 0.0)]  # (events, host seconds) after each part
        gc.collect()
        gc.freeze()
        begin = time.process_time()
        try:
            for part in range(1, _PARTS + 1):
                before = world.events
                while self._ended * _PARTS < part * self._all or world.events == before:
                    world.run(world.clock.now() + 0.1)
                    world.clock.wait([], world.clock.now() + 0.1)
                marks.append((world.events, time.process_time() - begin))
        finally:
            gc.unfreeze()
        self._cluster.check_integrity()
        early, late = (_event_seconds(marks, part) for part in (1, _PARTS - 1))
        events, seconds = marks[-1]
        return {
            "ended_count": self._ended,
            "events": events,
            "events_per_second": events / seconds,
            "early_event_seconds": early,
            "late_event_seconds": late,
            "late_ratio": late / early,
            "memory_bytes_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }

    def _observe(self, name: str, text: cluster.Text) -> recorder.Recorder:
        keeper = recorder.Recorder(
            records.RunRecord(arm=name, evidence="simulated"),
            text.member.spec.page_bytes,
            away_reads.AwayReads(),
            keeps_timeline=False,
        )
        keeper.begin(text.engine)
        self._keepers[text] = keeper
        return keeper

    def _submit(self, text: cluster.Text) -> None:
        """One more request for that engine."""
        number, self._submitted = self._submitted, self._submitted + 1
        keeper, draw = self._keepers[text], self._random.randrange
        prompt, steps = draw(*_PROMPT_UNITS), draw(*_STEPS)
        record = records.RequestRecord(
            id=number, tenant="", prompt_tokens=prompt, scheduled_at=text.engine.clock.now()
        )
        note = keeper.sink(record)

        def follow(tokens: Sequence[Any], reason: str, at: float) -> None:
            note(tokens, reason, at)
            if reason:
                self._ended += 1
                self._submit(text)

        stream = self._cluster.submit(text, runners.request(prompt, steps, seed=number), follow)
        keeper.admitted(record, stream.id)


def _event_seconds(marks: Sequence[tuple[int, float]], part: int) -> float:
    """Host seconds for an event, in that part of the run."""
    (events, seconds), (events_then, seconds_then) = marks[part], marks[part + 1]
    return (seconds_then - seconds) / (events_then - events)


def _members(policy: str) -> cluster.Members:
    device = hardware.load("H100")
    spec = engines.TextEngine(
        hardware=device,
        shape=shapes.text("CodeLlama-34B"),
        limits=slices.ControllerSettings(lanes=128, chunk_units=512, steps_max=16, early_pages=32),
        policy=base.PolicySettings(name=policy),
        memory_fraction=0.86,
    )
    text = cluster.TextMember(
        spec=spec,
        route="text",
        host_bytes=100 * 10**9,
        borrow_bytes=32 * types.GIB,
        pair="images",
    )
    images = items.ItemEngine(device=device, shape=shapes.items("SDXL"), batch_max=11, batch_calm=2)
    return {"text": text, "images": cluster.ItemMember(spec=images, phases=_PHASES)}
