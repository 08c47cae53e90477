"""What the config of a simulated experiment says: frozen values, checked when they are made.

Knows: names, units, ranges. Does not know: flags, what devices and models there
are (`simulation/`), files. A config file returns
`overrides.simulated_config_dict(SimulatedExperiment(...))`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from aqua_jax.control import errors, types
from aqua_jax.control.policies import base
from aqua_jax.experiments import checks, cluster_settings, settings

_OWN_TIMES = "0"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSettings:
    """Devices and model, by their names in `simulation/*.json` (or a file of hardware).

    shards: devices over which the model is tensor parallel. lender: hardware of the neighbours
    that lend the tiers of kind peer; "": the same.
    """

    hardware: str = "H100"
    model: str = "CodeLlama-34B"
    shards: int = 1
    lender: str = ""

    def __post_init__(self) -> None:
        checks.at_least("device", self, 1, "shards")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedEngineSettings:
    """Slices. Lengths in tokens; units_max: prompt and output of one session.

    Names as in real runs (`settings.EngineSettings`). fuses: one program carries prefill rows
    and a step of every lane. overlap: copies run beside slices; False: one device does either,
    one at a time in the order in which the engine asked, so each copy holds the slices behind
    it. away_hides: reads of pages that are attended away run beside the rest of a slice and the
    longer of both counts; False: they are added.
    """

    lanes: int = 128
    chunk_tokens: int = 512
    chunks_max: int = 2
    page_tokens: int = 16
    units_max: int = 16_384
    steps_max: int = 16
    steps_contended: int = 4
    ahead_seconds: float = 0.004
    early_pages: int = 32
    prefix_reuse: bool = False
    fuses: bool = True
    overlap: bool = True
    away_hides: bool = True

    def __post_init__(self) -> None:
        names = [f.name for f in dataclasses.fields(self) if f.type == "int"]
        checks.at_least("engine", self, 1, *(name for name in names if name != "early_pages"))
        checks.at_least("engine", self, 0, "early_pages", "ahead_seconds")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedTier:
    """Memory off the devices. kind: peer (lent by neighbours) or host (pinned).

    bytes: capacity over all shards.
    """

    kind: str
    bytes: int

    def __post_init__(self) -> None:
        checks.one_of("memory.tiers.*.kind", self.kind, settings.TIER_KINDS)
        checks.at_least("memory.tiers.*", self, 1, "bytes")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedMemory:
    """fraction: of the devices' memory for weights and KV. tiers: name -> tier, peers first.

    attend_away: as in `settings.MemorySettings`.
    """

    fraction: float = 0.9
    tiers: Mapping[str, SimulatedTier] = dataclasses.field(default_factory=dict)
    attend_away: str = types.AttendAway.OFF.value

    def __post_init__(self) -> None:
        checks.above("memory", self, "fraction")
        checks.one_of("memory.attend_away", self.attend_away, settings.ATTENDS)

    @property
    def attends(self) -> types.AttendAway:
        """`attend_away` as the control plane takes it."""
        return types.AttendAway(self.attend_away)

    @property
    def nearest_first(self) -> list[tuple[str, SimulatedTier]]:
        """The tiers, peers before hosts, by name among themselves."""
        kinds = settings.TIER_KINDS
        return sorted(self.tiers.items(), key=lambda item: (kinds.index(item[1].kind), item[0]))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedReport:
    """What the report says.

    baselines: arms that the others are compared with, comma-separated. note: a remark.
    shown_rate: the rate whose first window is shown arm by arm and over time; 0: the middle one
    of the rates. sample_seconds: from one of its samples to the next. measured: arm -> a VTC file
    with the latencies of a real system under that policy, for the same requests.
    """

    baselines: str = "fcfs"
    note: str = ""
    shown_rate: float = 0.0
    sample_seconds: float = 0.05
    measured: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.at_least("report", self, 0, "shown_rate")
        checks.above("report", self, "sample_seconds")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedExperiment:
    """A whole config. arm_settings: arm -> nested settings laid over the rest.

    arms: names to run, comma-separated, in this order. rates: requests a second, likewise, to
    which the windows' gaps are scaled; 0 or "": the trace's own times. repeats: windows of the
    trace, drawn by workload.seed, workload.seed + 1, ... workers: processes; 0: one a core.
    cluster: where it has servers, their members take the place of device.model and memory.tiers.
    """

    arm_settings: Mapping[str, Mapping[str, Any]]
    arms: str = ""
    rates: str = ""
    repeats: int = 1
    workers: int = 0
    workload: settings.WorkloadSettings = dataclasses.field(
        default_factory=settings.WorkloadSettings
    )
    device: DeviceSettings = dataclasses.field(default_factory=DeviceSettings)
    engine: SimulatedEngineSettings = dataclasses.field(default_factory=SimulatedEngineSettings)
    memory: SimulatedMemory = dataclasses.field(default_factory=SimulatedMemory)
    cluster: cluster_settings.ClusterSettings = dataclasses.field(
        default_factory=cluster_settings.ClusterSettings
    )
    policy: base.PolicySettings = dataclasses.field(default_factory=base.PolicySettings)
    report: SimulatedReport = dataclasses.field(default_factory=SimulatedReport)

    def __post_init__(self) -> None:
        checks.at_least("config", self, 1, "repeats")
        checks.at_least("config", self, 0, "workers")
        checks.policy(self.policy.name)
        checks.sharing(prefix_reuse=self.engine.prefix_reuse, attends=self.memory.attends)
        checks.arms(self.arms, self.arm_names, self.arm_settings)
        if self.workload.rate:
            raise errors.ConfigError(
                f"workload.rate is {self.workload.rate:g}, but a simulated experiment runs at each"
                f" of its rates: give --config.rates={self.workload.rate:g}"
            )
        rates = self.rate_values
        if len(set(rates)) < len(rates):
            raise errors.ConfigError(f"a rate is named twice in rates={self.rates}")
        if self.report.shown_rate and self.report.shown_rate not in rates:
            raise errors.ConfigError(
                f"report.shown_rate is {self.report.shown_rate:g}; give one of rates={self.rates}"
            )

    @property
    def arm_names(self) -> list[str]:
        """The arms to run, in order; all when none is selected."""
        return checks.names(self.arms) or list(self.arm_settings)

    @property
    def rate_values(self) -> list[float]:
        """The rates in order; 0: the trace's own times. Raises ConfigError for what is none."""
        values: list[float] = []
        for text in checks.names(self.rates) or [_OWN_TIMES]:
            try:
                value = float(text)
            except ValueError:
                value = -1.0
            if not 0 <= value < float("inf"):
                raise errors.ConfigError(
                    f"rates={self.rates}: {text!r} is no rate; give requests a second,"
                    " comma-separated, 0 for the trace's own times"
                )
            values.append(value)
        return values

    @property
    def shown_rate(self) -> float:
        """The rate that the report shows arm by arm."""
        rates = self.rate_values
        return self.report.shown_rate or rates[len(rates) // 2]
